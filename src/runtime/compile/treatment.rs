//! What routes do with requests before these go on: files of users are read here, on the control side.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{CompileError, Machine};
use crate::config::{self, Config};
use crate::model::name::{PoolName, RouteName};
use crate::model::units::ByteSize;
use crate::policy::admission::class::Class;
use crate::policy::password::Users;
use crate::route::edits::Edits;
use crate::runtime::credentials::{BasicAuth, CheckRules, Checker, Known};
use crate::runtime::snapshot::{Action, Overrides, Route, Snapshot};
use crate::runtime::treatment::{ForwardAuth, Mirror, Told, Treatment, TreatmentLive};

/// The route of requests of our own beside those of this one.
fn aside(name: &RouteName, pool: usize, response_header: Duration) -> Route {
    Route {
        name: name.clone(),
        action: Action::Pool(pool),
        request_edits: Edits::default(),
        response_edits: Edits::default(),
        rewrite: None,
        timeouts: Overrides { response_header: Some(response_header), ..Overrides::default() },
        class: Class::default(),
        retry: None,
        treatment: None,
        gate: None,
        limits: None,
    }
}

/// Compiles the treatments of one configuration.
pub(super) struct Treatments<'a> {
    previous: Option<&'a Snapshot>,
    machine: &'a Machine,
    /// Pools by their names.
    pools: &'a HashMap<&'a PoolName, usize>,
    /// Whether the previous snapshot was made when these same files were read.
    is_same_load: bool,
    /// Files that have been read.
    read: HashMap<PathBuf, Arc<Known>>,
}

impl<'a> Treatments<'a> {
    pub(super) fn new(
        config: &Config,
        previous: Option<&'a Snapshot>,
        machine: &'a Machine,
        pools: &'a HashMap<&'a PoolName, usize>,
    ) -> Self {
        let is_same_load = previous.is_some_and(|p| Arc::ptr_eq(&p.origin, &config.origin));
        Self { previous, machine, pools, is_same_load, read: HashMap::new() }
    }

    /// That of a route; nothing where it has none.
    ///
    /// # Errors
    /// [`CompileError::Users`].
    pub(super) fn compile(
        &mut self,
        route: &config::route::Route,
    ) -> Result<Option<Box<Treatment>>, CompileError> {
        let written = &route.treatment;
        if written.is_none() {
            return Ok(None);
        }
        let name = &route.rule.name;
        let basic_auth = written.basic_auth.as_ref().map(|auth| self.basic_auth(name, auth)).transpose()?;
        let forward_auth = written.forward_auth.as_ref().map(|auth| self.forward_auth(name, auth));
        let before = self.before(name).map(|before| Arc::clone(&before.live));
        let live = before.unwrap_or_else(|| Arc::new(TreatmentLive::new(self.machine.workers)));
        Ok(Some(Box::new(Treatment {
            basic_auth,
            forward_auth,
            mirror: written.mirror.as_ref().map(|mirror| Arc::new(self.mirror(name, mirror))),
            buffer_request: written.buffer_request.map(ByteSize::as_usize),
            buffer_response: written.buffer_response.map(ByteSize::as_usize),
            compress: written.compress.clone().map(Arc::new),
            live,
        })))
    }

    fn forward_auth(&self, name: &RouteName, written: &config::treatment::ForwardAuth) -> ForwardAuth {
        // Validation has made sure that the pool exists.
        let pool = self.pools.get(&written.pool).copied().unwrap_or_default();
        ForwardAuth {
            pool,
            route: aside(name, pool, written.timeout),
            target: written.path.as_str().into(),
            request_headers: written.request_headers.clone(),
            response_headers: written.response_headers.iter().map(Told::new).collect(),
            timeout: written.timeout,
            max_answer: written.max_answer.as_usize(),
            allow_on_error: written.allow_on_error,
        }
    }

    fn mirror(&self, name: &RouteName, written: &config::treatment::Mirror) -> Mirror {
        let pool = self.pools.get(&written.pool).copied().unwrap_or_default();
        Mirror {
            pool,
            route: aside(name, pool, written.timeout),
            share: written.share,
            max_body: written.max_body.as_usize(),
            timeout: written.timeout,
            max_in_flight: u64::from(written.max_in_flight),
        }
    }

    fn before(&self, name: &RouteName) -> Option<&'a Treatment> {
        let known = self.previous?.routes.iter().find(|known| known.name == *name)?;
        known.treatment.as_deref()
    }

    fn basic_auth(
        &mut self,
        name: &RouteName,
        written: &config::treatment::BasicAuth,
    ) -> Result<BasicAuth, CompileError> {
        let failed =
            |why: String| CompileError::Users { name: name.clone(), file: written.users_file.clone(), why };
        let users = self.users(&written.users_file).map_err(failed)?;
        let rules = CheckRules {
            remember: written.remember,
            max_remembered: written.max_remembered,
            max_checks: written.max_checks,
        };
        let before = self.before(name).and_then(|before| before.basic_auth.as_ref());
        let checker = match before.filter(|before| before.checker.rules() == rules) {
            Some(before) => Arc::clone(&before.checker),
            None => {
                let checker = Checker::new(rules);
                Arc::new(checker.ok_or_else(|| failed("the system has no random numbers".to_owned()))?)
            }
        };
        Ok(BasicAuth {
            challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", written.realm.as_str()).into(),
            file: written.users_file.clone(),
            users,
            user_header: written.user_header.as_ref().map(Told::new),
            keep_authorization: written.keep_authorization,
            checker,
        })
    }

    /// The users of a file, which is read once for each load; as long as it says the same they stay the same.
    fn users(&mut self, path: &PathBuf) -> Result<Arc<Known>, String> {
        if let Some(known) = self.read.get(path) {
            return Ok(Arc::clone(known));
        }
        let routes = self.previous.iter().flat_map(|previous| &previous.routes);
        let mut before = routes.filter_map(|route| route.treatment.as_ref()?.basic_auth.as_ref());
        let before = before.find(|auth| auth.file == *path).map(|auth| &auth.users);
        let known = match before.filter(|_| self.is_same_load) {
            Some(known) => Arc::clone(known),
            None => {
                let text = config::treatment::read_text(path)?;
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                let digest = hasher.finish();
                match before.filter(|known| known.digest == digest) {
                    Some(known) => Arc::clone(known),
                    None => {
                        let users = Users::parse(&text).map_err(|fault| fault.to_string())?;
                        Arc::new(Known { digest, users })
                    }
                }
            }
        };
        self.read.insert(path.clone(), Arc::clone(&known));
        Ok(known)
    }
}
