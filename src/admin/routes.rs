//! From a request to its answer: whether it may ask this here, and who knows. Reads are answered at once from what control
//! knows; only a change waits, for control.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::{Body, Bytes};
use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::{Method, Request, StatusCode, Uri};
use tokio::sync::{Semaphore, watch};

use super::access::{Access, Door, allow};
use super::answer::{self, Answer, Refusal};
use super::health::{Cache, State};
use super::limits::Hits;
use super::paths::{Page, decode, flag, parameter};
use super::route_limits::LimitsView;
use super::views::{EndedView, LiveView, PoolView, ProblemView, ReadyView, SessionsView, StatusView};
use super::{changes, configuration, events, explain, reloads};
use crate::config::process::ApiLimits;
use crate::control::Handle;
use crate::control::change::{Addition, ChangeError, EndpointChange, FailoverTarget, Removal};
use crate::control::explain::{Ask, Explanation};
use crate::control::journal::Journal;
use crate::control::reload::{ReloadError, ReloadOptions, Reloaded, Source};
use crate::control::running::{Plan, Running};
use crate::control::sessions::Sessions;
use crate::control::status::{PoolStatus, Readiness, Status};
use crate::model::host::split_authority;
use crate::model::name::{EndpointName, PoolName};
use crate::telemetry::metrics::Sink;
use crate::telemetry::prometheus;

/// What comes of asking control for a change.
pub(super) type Changing = Pin<Box<dyn Future<Output = Result<(), ChangeError>> + Send>>;

/// What comes of asking control about configurations.
pub(super) type Asking<T> = Pin<Box<dyn Future<Output = Result<T, ReloadError>> + Send>>;

/// What comes of asking control for a reload.
pub(super) type Reloading = Asking<Reloaded>;

/// What comes of asking about a request.
pub(super) type Explaining = Pin<Box<dyn Future<Output = Result<Explanation, String>> + Send>>;

/// What comes of asking for a list of sessions.
pub(super) type Listing = Pin<Box<dyn Future<Output = Sessions> + Send>>;

/// What comes of ending a session.
pub(super) type Ending = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What is asked of control: its handle, or a test's own.
pub(super) trait Control: Send + Sync + 'static {
    fn status(&self) -> Status;
    fn readiness(&self, local_only: bool) -> Readiness;
    fn is_live(&self) -> bool;
    fn collect(&self, sink: &mut dyn Sink);
    fn journal(&self) -> &Arc<Journal>;
    fn change_endpoint(&self, change: EndpointChange) -> Changing;
    fn add_endpoint(&self, addition: Addition) -> Changing;
    fn remove_endpoint(&self, removal: Removal) -> Changing;
    fn failover(&self, pool: PoolName, to: FailoverTarget) -> Changing;
    fn reload(&self, source: Source, options: ReloadOptions) -> Reloading;
    fn running(&self) -> Running;
    fn plan(&self, source: Source) -> Asking<Plan>;
    fn confirm(&self) -> Asking<u64>;
    fn explain(&self, ask: Ask) -> Explaining;
    fn sessions(&self, endpoint: Option<String>) -> Listing;
    fn end_session(&self, id: String) -> Ending;
}

impl Control for Handle {
    fn status(&self) -> Status {
        self.status()
    }
    fn readiness(&self, local_only: bool) -> Readiness {
        self.readiness(local_only)
    }
    fn is_live(&self) -> bool {
        self.is_live()
    }
    fn collect(&self, sink: &mut dyn Sink) {
        self.collect(sink);
    }
    fn journal(&self) -> &Arc<Journal> {
        self.journal()
    }
    fn change_endpoint(&self, change: EndpointChange) -> Changing {
        let handle = self.clone();
        Box::pin(async move { handle.change_endpoint(change).await })
    }
    fn add_endpoint(&self, addition: Addition) -> Changing {
        let handle = self.clone();
        Box::pin(async move { handle.add_endpoint(addition).await })
    }
    fn remove_endpoint(&self, removal: Removal) -> Changing {
        let handle = self.clone();
        Box::pin(async move { handle.remove_endpoint(removal).await })
    }
    fn failover(&self, pool: PoolName, to: FailoverTarget) -> Changing {
        let handle = self.clone();
        Box::pin(async move { handle.failover(pool, to).await })
    }
    fn reload(&self, source: Source, options: ReloadOptions) -> Reloading {
        let handle = self.clone();
        Box::pin(async move { handle.reload_from(source, options).await })
    }
    fn running(&self) -> Running {
        self.running()
    }
    fn plan(&self, source: Source) -> Asking<Plan> {
        let handle = self.clone();
        // It reads files and compiles: other requests go on meanwhile.
        let planning = tokio::task::spawn_blocking(move || handle.plan(source));
        Box::pin(
            async move { planning.await.unwrap_or_else(|error| Err(ReloadError::Broken(error.to_string()))) },
        )
    }
    fn confirm(&self) -> Asking<u64> {
        let handle = self.clone();
        Box::pin(async move { handle.confirm().await })
    }
    fn explain(&self, ask: Ask) -> Explaining {
        let handle = self.clone();
        Box::pin(async move { handle.explain(ask).await.map_err(|wrong| wrong.to_string()) })
    }
    fn sessions(&self, endpoint: Option<String>) -> Listing {
        let handle = self.clone();
        Box::pin(async move { handle.sessions(endpoint.as_deref()).await })
    }
    fn end_session(&self, id: String) -> Ending {
        let handle = self.clone();
        Box::pin(async move { handle.end_session(&id).await })
    }
}

/// What a listener lets be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything; these Host values pass beside the loopback names.
    Admin { allowed_hosts: Vec<String> },
    /// How well this node is, by anybody.
    Health,
}

/// What every connection of a listener answers from.
pub(super) struct Site {
    control: Arc<dyn Control>,
    scope: Scope,
    door: Door,
    /// What a connection may take.
    pub(super) limits: ApiLimits,
    hits: Arc<Hits>,
    health: Cache,
    streams: Arc<Semaphore>,
    stopped: watch::Receiver<()>,
}

impl Site {
    /// A site that is already stopped: see [`Site::stopping`].
    pub(super) fn new(
        control: Arc<dyn Control>,
        scope: Scope,
        door: Door,
        limits: ApiLimits,
        hits: Arc<Hits>,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(limits.streams));
        let (_, stopped) = watch::channel(());
        Self { control, scope, door, limits, hits, health: Cache::default(), streams, stopped }
    }

    /// The same; `stopped` closes when the listener stops.
    pub(super) fn stopping(self, stopped: watch::Receiver<()>) -> Self {
        Self { stopped, ..self }
    }

    /// Counts that all connections are taken.
    pub(super) fn count_full(&self) {
        let hits = &self.hits;
        if self.is_open() { &hits.health_connections } else { &hits.admin_connections }.one();
    }

    pub(super) fn is_open(&self) -> bool {
        self.scope == Scope::Health
    }

    /// Answers one request.
    pub(super) async fn answer<B>(&self, mut request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let admitted = self.page(&request).and_then(|page| {
            let access = self.door.admit(&page, request.method(), request.headers())?;
            // Whoever needs more than the path says asks for it: see `access::allow`.
            request.extensions_mut().insert(access);
            Ok(page)
        });
        match admitted {
            Ok(page) => self.answer_page(page, request).await.unwrap_or_else(Answer::from),
            Err(refusal) => refusal.into(),
        }
    }

    /// What a request asks for, if it may.
    fn page<B>(&self, request: &Request<B>) -> Result<Page, Refusal> {
        let path = request.uri().path();
        if let Scope::Admin { allowed_hosts } = &self.scope
            && is_guarded(path)
        {
            check_host(allowed_hosts, request)?;
        }
        let page = Page::find(path).filter(|page| !self.is_open() || page.is_health());
        let page =
            page.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path"))?;
        if !page.takes(request.method()) {
            return Err(Refusal::method(page.methods()));
        }
        Ok(page)
    }

    async fn answer_page<B>(&self, page: Page, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let (query, fields) = (parts.uri.query(), &parts.headers);
        let access = parts.extensions.get::<Option<Access>>().copied().flatten();
        match page {
            Page::Live => self.live(),
            Page::Ready => Ok(self.ready(flag(query, "local"))),
            Page::Health => Ok(self.overall_health()),
            Page::PoolHealth(pool) => self.pool_health(&pool),
            Page::Metrics => Ok(self.metrics()),
            Page::Status => Ok(answer::json(StatusCode::OK, &StatusView::from(&self.control.status()))),
            Page::Limits => {
                Ok(answer::json(StatusCode::OK, &LimitsView::from(&self.control.status().limits)))
            }
            Page::Explain => self.explain(query, fields).await,
            Page::Events => self.events(query, fields),
            Page::Config => Ok(configuration::running(self.control.running())),
            Page::Plan => {
                check_origin(fields)?;
                let source = reloads::source(body, access).await?;
                Ok(configuration::plan(self.control.plan(source).await?))
            }
            Page::Confirm => {
                check_origin(fields)?;
                Ok(configuration::confirmed(self.control.confirm().await?))
            }
            Page::Sessions => self.sessions(query).await,
            Page::Session(id) => {
                check_origin(fields)?;
                self.end_session(id).await
            }
            Page::Reload => {
                check_origin(fields)?;
                let source = reloads::source(body, access).await?;
                reloads::reload(&*self.control, source, query).await
            }
            Page::Pools => {
                let status = self.control.status();
                let pools: Vec<_> = status.pools.iter().map(PoolView::from).collect();
                Ok(answer::json(StatusCode::OK, &pools))
            }
            Page::Pool(pool) => self.pool(&pool),
            // Who is in a pool decides where requests go, with all that is in them.
            Page::Endpoints(pool) => {
                check_origin(fields)?;
                allow(access, Access::Full)?;
                self.add_endpoint(pool, &changes::read(body).await?).await
            }
            Page::Endpoint(pool, endpoint) if parts.method == Method::DELETE => {
                check_origin(fields)?;
                allow(access, Access::Full)?;
                self.remove_endpoint(Removal { pool, endpoint, force: flag(query, "force") }).await
            }
            Page::Endpoint(pool, endpoint) => {
                check_origin(fields)?;
                let body = changes::read(body).await?;
                self.change_endpoint(pool, endpoint, flag(query, "force"), &body).await
            }
            Page::Failover(pool) => {
                check_origin(fields)?;
                let to = changes::failover(&changes::read(body).await?)?;
                self.control.failover(pool.clone(), to).await?;
                self.pool(&pool)
            }
        }
    }

    fn live(&self) -> Result<Answer, Refusal> {
        if self.control.is_live() {
            return Ok(answer::json(StatusCode::OK, &LiveView { live: true }));
        }
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "a worker does not turn"))
    }

    /// `local` leaves out what depends on other machines, for a supervisor that would otherwise restart us for their faults.
    fn ready(&self, local: bool) -> Answer {
        let Readiness { ready, reasons } = self.control.readiness(local);
        if ready {
            return answer::json(StatusCode::OK, &ReadyView { ready });
        }
        let problem = ProblemView::new(StatusCode::SERVICE_UNAVAILABLE, reasons.join("; "));
        answer::problem(&problem.with_reasons(reasons))
    }

    fn overall_health(&self) -> Answer {
        let health = self.health.look(&*self.control);
        answer::json(status_of(health.status), &*health)
    }

    fn pool_health(&self, pool: &PoolName) -> Result<Answer, Refusal> {
        let health = self.health.look(&*self.control);
        let component = health.component(pool.as_str()).ok_or_else(|| no_pool(pool))?;
        Ok(answer::json(status_of(component.status), component))
    }

    fn metrics(&self) -> Answer {
        let mut page = prometheus::Page::default();
        self.control.collect(&mut page);
        self.hits.collect(&mut page);
        answer::whole(StatusCode::OK, prometheus::CONTENT_TYPE, page.finish().into())
    }

    fn events(&self, query: Option<&str>, fields: &HeaderMap) -> Result<Answer, Refusal> {
        let seen = events::seen(fields, parameter(query, "after"))?;
        let journal = self.control.journal();
        if events::wants_stream(fields) {
            let stream = events::stream(journal, seen, &self.streams, self.stopped.clone());
            return stream.inspect_err(|_| self.hits.admin_streams.one());
        }
        Ok(events::list(journal, seen))
    }

    async fn explain(&self, query: Option<&str>, fields: &HeaderMap) -> Result<Answer, Refusal> {
        let explained = self.control.explain(explain::ask(query)?).await;
        let explained = explained.map_err(|wrong| Refusal::new(StatusCode::BAD_REQUEST, wrong))?;
        Ok(explain::told(&explained, fields))
    }

    async fn sessions(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let endpoint = parameter(query, "endpoint").map(|written| {
            let broken = || Refusal::new(StatusCode::BAD_REQUEST, "endpoint is not percent-encoded UTF-8");
            decode(written).ok_or_else(broken)
        });
        let sessions = self.control.sessions(endpoint.transpose()?).await;
        Ok(answer::json(StatusCode::OK, &SessionsView::from(&sessions)))
    }

    async fn end_session(&self, id: String) -> Result<Answer, Refusal> {
        if self.control.end_session(id).await {
            return Ok(answer::json(StatusCode::OK, &EndedView { ended: true }));
        }
        Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such session"))
    }

    fn pool(&self, name: &PoolName) -> Result<Answer, Refusal> {
        let status = self.control.status();
        let pool = find_pool(&status, name)?;
        Ok(answer::json(StatusCode::OK, &PoolView::from(pool)))
    }

    async fn change_endpoint(
        &self,
        pool: PoolName,
        endpoint: EndpointName,
        force: bool,
        body: &[u8],
    ) -> Result<Answer, Refusal> {
        let change = changes::endpoint(pool.clone(), endpoint.clone(), force, body)?;
        self.control.change_endpoint(change).await?;
        self.endpoint(StatusCode::OK, &pool, &endpoint)
    }

    async fn add_endpoint(&self, pool: PoolName, body: &[u8]) -> Result<Answer, Refusal> {
        let addition = changes::addition(pool, body)?;
        let (pool, name) = (addition.pool.clone(), addition.name.clone());
        self.control.add_endpoint(addition).await?;
        self.endpoint(StatusCode::CREATED, &pool, &name)
    }

    async fn remove_endpoint(&self, removal: Removal) -> Result<Answer, Refusal> {
        let pool = removal.pool.clone();
        self.control.remove_endpoint(removal).await?;
        self.pool(&pool)
    }

    /// One endpoint; of a name that was added and stands for none yet, its pool.
    fn endpoint(&self, code: StatusCode, pool: &PoolName, name: &EndpointName) -> Result<Answer, Refusal> {
        let status = self.control.status();
        let pool = PoolView::from(find_pool(&status, pool)?);
        match pool.endpoints.iter().find(|shown| shown.name == name.as_str()) {
            Some(endpoint) => Ok(answer::json(code, endpoint)),
            None if code == StatusCode::CREATED => Ok(answer::json(code, &pool)),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "the endpoint has just gone")),
        }
    }
}

fn find_pool<'a>(status: &'a Status, name: &PoolName) -> Result<&'a PoolStatus, Refusal> {
    status.pools.iter().find(|pool| pool.name == *name).ok_or_else(|| no_pool(name))
}

fn no_pool(name: &PoolName) -> Refusal {
    ChangeError::NoPool(name.clone()).into()
}

const fn status_of(state: State) -> StatusCode {
    match state {
        State::Healthy | State::Degraded => StatusCode::OK,
        State::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Paths that a browser could be tricked into reading through a name that resolves to us (DNS rebinding).
fn is_guarded(path: &str) -> bool {
    path == "/" || path == "/v1" || path.starts_with("/v1/")
}

/// Whether the request was meant for us by a name that is ours.
fn check_host<B>(allowed_hosts: &[String], request: &Request<B>) -> Result<(), Refusal> {
    let malformed = || Refusal::new(StatusCode::BAD_REQUEST, "the request needs exactly one valid Host");
    let mut fields = request.headers().get_all(HOST).iter();
    // The target's authority replaces Host (RFC 9112 section 3.2.2), which has to be there all the same.
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(malformed()) };
    let authority =
        request.uri().authority().map_or(field.as_bytes(), |authority| authority.as_str().as_bytes());
    let (host, _port) = split_authority(authority).ok_or_else(malformed)?;
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    if is_loopback(host) || allowed_hosts.iter().any(|allowed| allowed == host) {
        return Ok(());
    }
    let detail = "this Host is not ours; admin.allowed_hosts lists others than loopback names";
    Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, detail))
}

/// Whether a change comes from no page at all, or from one of ours: a browser sends a foreign page's POST to loopback with
/// a Host that is fine, and says in Origin whose it is (Fetch standard, section 3.2).
fn check_origin(fields: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = fields.get(ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let authority = authority.as_ref().and_then(Uri::authority).map(|authority| authority.as_str());
    let host = fields.get(HOST).and_then(|host| host.to_str().ok());
    if authority.is_some() && authority == host {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::FORBIDDEN, "a page of another origin may not change anything here"))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    // `.localhost` never leaves the machine (RFC 6761 section 6.3).
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
