//! `sticky` of a pool to what runs: keys by the files that hold them, tables by identity.

use std::sync::Arc;

use super::pool::{Pools, compile_key};
use crate::config::{self, secrets};
use crate::policy::sticky::Lifetime;
use crate::policy::sticky::cookie::Keys;
use crate::policy::sticky::table::Expiry;
use crate::runtime::pool::Pool;
use crate::runtime::sticky::{By, Jar, Sticky};

impl Pools<'_> {
    /// What a pool is sticky by. Files of keys are read when a configuration has been loaded, and not when names or operators
    /// change who is in it.
    ///
    /// # Errors
    /// What is wrong with the file of keys, in words.
    pub(super) fn sticky(
        &self,
        pool: &config::pool::Pool,
        before: Option<&Pool>,
    ) -> Result<Option<Box<Sticky>>, String> {
        let Some(written) = &pool.sticky else { return Ok(None) };
        let before = before.and_then(|before| before.sticky.as_deref());
        let (failback, max_idle, when_down) = (written.failback, written.max_idle, written.when_down);
        let (attributes, max_age, key_file) = match &written.by {
            config::sticky::By::Cookie { attributes, max_age, key_file } => (attributes, *max_age, key_file),
            config::sticky::By::Table { key, size, expire, learn } => {
                let expiry = Expiry { expire: *expire, away: max_idle, failback };
                let (key, from) = (compile_key(key), (before, self.secret));
                return Ok(Some(Box::new(Sticky::by_table((key, *learn), (*size, expiry), when_down, from))));
            }
        };
        let is_same_load = self.previous.is_some_and(|p| Arc::ptr_eq(&p.origin, &self.config.origin));
        let known = before.and_then(Sticky::jar).filter(|_| is_same_load).map(Jar::keys);
        let keys = match (known, key_file) {
            (Some(keys), _) => Arc::clone(keys),
            (None, Some(path)) => {
                let secrets =
                    secrets::read(path).map_err(|why| format!("{} cannot be used: {why}", path.display()))?;
                let secrets = secrets.iter().map(Vec::as_slice);
                Arc::new(Keys::derive(secrets, &attributes.name, pool.name.as_str()))
            }
            (None, None) => {
                let secret = [self.secret.bytes().as_slice()];
                Arc::new(Keys::derive(secret, &attributes.name, pool.name.as_str()))
            }
        };
        let lifetime = Lifetime { max_age, max_idle, failback };
        let by = By::Cookie(Box::new(Jar::new(attributes.clone(), lifetime, keys)));
        Ok(Some(Box::new(Sticky { by, when_down })))
    }
}
