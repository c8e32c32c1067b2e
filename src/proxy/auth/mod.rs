//! Whether a request is let in: by a name and a password, and by what another service says of it.

mod basic;
mod forward;

use super::error::Error;
use super::phases::Altered;
use super::request::{Context, Downstream};
use super::respond::Own;
use crate::runtime::treatment::{Told, Treatment};

/// The answer to a request that is not let in; nothing for one that is.
///
/// # Errors
/// [`Error::ClientGone`] when the client leaves meanwhile.
pub async fn admit<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    treatment: &'a Treatment,
    altered: &mut Altered<'a>,
) -> Result<Option<Own>, Error> {
    let counters = treatment.live.counters.of(context.worker.id);
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
