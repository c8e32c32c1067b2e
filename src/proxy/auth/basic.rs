//! Names and passwords (RFC 7617): the login of a request is checked beside the worker, which goes on meanwhile.

use super::forget;
use crate::model::request::RequestView as _;
use crate::policy::password::Login;
use crate::proxy::error::Error;
use crate::proxy::phases::Altered;
use crate::proxy::request::{Context, Downstream};
use crate::proxy::respond::Own;
use crate::runtime::credentials::{BasicAuth, Checked};
use crate::runtime::treatment::Logins;

/// The answer to a request without a login that is right.
pub(super) async fn admit<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    auth: &'a BasicAuth,
    counters: &Logins,
    altered: &mut Altered<'a>,
) -> Result<Option<Own>, Error> {
    let login = down.view().field("authorization").and_then(Login::parse);
    let Some(login) = login else {
        counters.absent.one();
        return Ok(Some(Own::unauthorized(&auth.challenge)));
    };
    // It goes on only where it is right, and then nobody else's word for it does.
    let name = auth.user_header.as_ref().map(|told| (told, login.name.clone()));
    let checked = tokio::select! {
        biased;
        checked = auth.checker.check(&auth.users, login, context.snapshot.clock) => checked,
        () = down.gone() => return Err(Error::ClientGone),
    };
    match checked {
        Checked::Right => counters.right.one(),
        Checked::Wrong => {
            counters.wrong.one();
            return Ok(Some(Own::unauthorized(&auth.challenge)));
        }
        Checked::Busy => {
            counters.busy.one();
            return Ok(Some(Own::busy("too many logins are being checked")));
        }
    }
    if let Some((told, name)) = name {
        forget(told, altered);
        altered.edit().request.set(told.name.as_str(), name);
    }
    if !auth.keep_authorization {
        altered.edit().request.remove("authorization");
    }
    Ok(None)
}
