//! Whether a request is let in: by a name and a password, and by what another service says of it.

mod basic;
mod forward;

use super::error::{Error, Refusal};
use super::phases::Altered;
use super::request::{Context, Downstream};
use super::respond::Own;
use crate::model::request::RequestView as _;
use crate::runtime::treatment::{Told, Treatment};

/// The answer to a request that is not let in; nothing for one that is.
///
/// # Errors
/// [`Error::ClientGone`] when the client leaves meanwhile, [`Error::Refused`] for one that says twice who it is.
pub async fn admit<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    treatment: &'a Treatment,
    altered: &mut Altered<'a>,
) -> Result<Option<Own>, Error> {
    let counters = treatment.live.counters.of(context.worker.id);
    let asks = treatment.basic_auth.is_some() || treatment.forward_auth.is_some();
    let logins = || down.view().fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
    if asks && logins().nth(1).is_some() {
        // Whoever reads it next may take the other one (RFC 9110 section 11.6.2 has one).
        return Err(Refusal::Malformed("it has more than one Authorization").into());
    }
    if let Some(auth) = &treatment.basic_auth
        && let Some(own) = basic::admit(context, down, auth, &counters.logins, altered).await?
    {
        return Ok(Some(own));
    }
    if let Some(auth) = &treatment.forward_auth {
        return forward::admit(context, down, auth, &counters.asked, altered).await;
    }
    Ok(None)
}

/// Takes away what the client says in a field that is not for it to say.
fn forget<'a>(told: &'a Told, altered: &mut Altered<'a>) {
    let request = &mut altered.edit().request;
    request.remove(told.name.as_str());
    told.look_alikes.iter().for_each(|name| request.remove(name));
}
