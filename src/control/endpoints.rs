//! What changes who is in a pool while the process runs: names that lead elsewhere, files that list others, and endpoints
//! that the operator adds and removes.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::change::{Addition, ChangeError, Removal};
use super::health::operator::guard_removal;
use super::journal::{Change, Kind};
use super::reload::{Cause, ReloadOptions, Source};
use super::supervisor::Supervisor;
use super::watch::Changed;

impl Supervisor {
    /// Publishes who is in the pools now, as names or files have it.
    pub(super) async fn members_changed(&mut self) {
        let config = Arc::clone(&self.config);
        if let Err(error) = self.reload_now(config, Cause::Names).await {
            tracing::error!(%error, "changed endpoints cannot be published: those before stay");
        }
    }

    /// Follows what has changed on disk: files of endpoints at once, the configuration by a reload of its own.
    pub(super) async fn files_changed(&mut self, changed: Changed) {
        if changed.endpoints {
            let config = Arc::clone(&self.config);
            if self.membership.read_files(&config) {
                self.members_changed().await;
            } else {
                self.note_members();
            }
        }
        if changed.config && self.config.process.watch {
            // How it ends is told by the log and by an event.
            let (answer, _nobody) = oneshot::channel();
            self.ask(Source::File, ReloadOptions::new(Cause::Watch), answer).await;
        }
    }

    /// Carries out a POST of an endpoint.
    pub(super) async fn add_endpoint(&mut self, addition: &Addition) -> Result<(), ChangeError> {
        self.may_change()?;
        let undo = self.membership.add(addition, &self.config)?;
        let config = Arc::clone(&self.config);
        if let Err(error) = self.reload_now(config, Cause::EndpointChange).await {
            self.membership.undo(undo);
            return Err(ChangeError::Impossible(error.to_string()));
        }
        self.note_roster();
        let told = Change::new(Kind::Endpoint, "added", "the operator says so");
        self.inner.journal.append(told.endpoint(&addition.pool, &addition.name));
        Ok(())
    }

    /// Carries out a DELETE of an endpoint.
    pub(super) async fn remove_endpoint(&mut self, removal: &Removal) -> Result<(), ChangeError> {
        self.may_change()?;
        let Removal { pool, endpoint, force } = removal;
        let place = (pool.clone(), endpoint.clone());
        let snapshot = self.inner.store.load();
        let of = snapshot.pools.iter().find(|p| p.name == *pool);
        let of = of.ok_or_else(|| ChangeError::NoPool(pool.clone()))?;
        match of.endpoints.iter().find(|e| e.name == *endpoint) {
            Some(_) if *force => {}
            Some(known) => guard_removal(of, known)?,
            None if self.membership.was_added(&place) => {}
            None => return Err(ChangeError::NoEndpoint(pool.clone(), endpoint.clone())),
        }
        let undo = self.membership.remove(&place)?;
        let config = Arc::clone(&self.config);
        if let Err(error) = self.reload_now(config, Cause::EndpointChange).await {
            self.membership.undo(undo);
            return Err(ChangeError::Impossible(error.to_string()));
        }
        self.note_roster();
        let told = Change::new(Kind::Endpoint, "removed", "the operator says so");
        self.inner.journal.append(told.endpoint(pool, endpoint));
        Ok(())
    }

    /// Keeps who was added and removed among the overrides.
    pub(super) fn note_roster(&self) {
        let roster = self.membership.roster();
        self.inner.shared.change_overrides(|overrides| overrides.note_roster(roster));
    }
}
