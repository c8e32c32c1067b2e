//! What a route does with a request and its answer beside sending them on: whom it lets in, whom it shows them, what it
//! buffers and compresses.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostic::Report;
use super::route::Surroundings;
use super::tls::Files;
use super::value::Fields;
use crate::model::field::{FieldName, FieldValue};
use crate::model::name::PoolName;
use crate::model::units::{Amount, ByteSize};
use crate::policy::compression::{Coding, Effort, MediaType, Rules};
use crate::policy::password::Users;

/// Bytes of a file of users; anything larger is something else.
const FILE_MAX: u64 = 16 << 20;

/// Everything of that kind that a route asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Treatment {
    /// Names and passwords.
    pub basic_auth: Option<BasicAuth>,
    /// Who is asked about each request first.
    pub forward_auth: Option<ForwardAuth>,
    /// Who gets copies of requests.
    pub mirror: Option<Mirror>,
    /// How much of a request's body is taken in before an endpoint is picked.
    pub buffer_request: Option<ByteSize>,
    /// How far ahead of the client an answer is taken off its endpoint.
    pub buffer_response: Option<ByteSize>,
    /// Which answers are compressed.
    pub compress: Option<Rules>,
}

/// Names and passwords (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// What the client is told that the password is for.
    pub realm: FieldValue,
    /// The file with names and hashes.
    pub users_file: PathBuf,
    /// The field in which the endpoint is told the name.
    pub user_header: Option<FieldName>,
    /// Whether the endpoint gets `Authorization`.
    pub keep_authorization: bool,
    /// How long a login that was right is not checked again.
    pub remember: Duration,
    /// How many such logins are remembered.
    pub max_remembered: usize,
    /// Logins that are checked at once or wait for that.
    pub max_checks: usize,
}

/// A service that is asked about each request first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardAuth {
    /// Its pool.
    pub pool: PoolName,
    /// The path that is asked for.
    pub path: String,
    /// Fields of the request that it gets; empty is nearly all.
    pub request_headers: Vec<FieldName>,
    /// Fields of its answer that the endpoint gets.
    pub response_headers: Vec<FieldName>,
    /// To its answer.
    pub timeout: Duration,
    /// The largest body of its answers.
    pub max_answer: ByteSize,
    /// Whether a request passes when it has no answer.
    pub allow_on_error: bool,
}

/// A pool that gets copies of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The pool.
    pub pool: PoolName,
    /// Percent of requests.
    pub share: u8,
    /// The largest body that is copied.
    pub max_body: ByteSize,
    /// How long a copy and its answer may take.
    pub timeout: Duration,
    /// Copies under way at once, for each worker.
    pub max_in_flight: u32,
}

/// The text of a file of users.
///
/// # Errors
/// Why it cannot be read, in words.
pub fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("it has more than {FILE_MAX} bytes"));
    }
    Ok(text)
}

/// Whether a file is one of users; what stands in it is no part of what is wrong with it.
fn check_users(path: &Path) -> Result<(), String> {
    Users::parse(&read_text(path)?).map(drop).map_err(|fault| fault.to_string())
}

impl Treatment {
    /// Reads the keys of a route that belong to it; nothing when something of them was reported.
    pub(super) fn read(route: &Fields, around: &Surroundings<'_>, report: &mut Report) -> Option<Self> {
        // Each is read before the first that failed ends it: all errors at once.
        let basic_auth = read_some(route, "basic_auth", |auth| BasicAuth::read(auth, around.files, report));
        let forward_auth = read_some(route, "forward_auth", |auth| ForwardAuth::read(auth, around, report));
        let mirror = read_some(route, "mirror", |mirror| Mirror::read(mirror, around, report));
        let compress = read_some(route, "compress", |rules| read_rules(rules, report));
        Some(Self {
            basic_auth: basic_auth?,
            forward_auth: forward_auth?,
            mirror: mirror?,
            buffer_request: route.get("buffer_request"),
            buffer_response: route.get("buffer_response"),
            compress: compress?,
        })
    }

    /// The pools that it names.
    pub fn pools(&self) -> impl Iterator<Item = &PoolName> {
        let auth = self.forward_auth.iter().map(|auth| &auth.pool);
        auth.chain(self.mirror.iter().map(|mirror| &mirror.pool))
    }

    /// Whether a route asks for nothing of it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What a table says, where there is one; nothing where it is wrong.
fn read_some<T>(route: &Fields, key: &str, read: impl FnOnce(&Fields) -> Option<T>) -> Option<Option<T>> {
    match (route.table(key), route.has(key)) {
        (Some(fields), _) => read(&fields).map(Some),
        (None, written) => (!written).then_some(None),
    }
}

/// The pool that a table names.
fn read_pool(fields: &Fields, around: &Surroundings<'_>, report: &mut Report) -> Option<PoolName> {
    let name: String = fields.get("pool")?;
    around.pools.check(&name, fields.span_of("pool"), report);
    PoolName::new(&name).ok()
}

fn read_rules(fields: &Fields, report: &mut Report) -> Option<Rules> {
    let mut types = Vec::new();
    for (text, span) in fields.list::<String>("types") {
        match MediaType::new(&text) {
            Some(media) => types.push(media),
            None => report.error(
                span,
                format!("`types` cannot have {text:?}: it is no media type with at most one star"),
                "write for example \"text/*\" or \"application/json\"",
            ),
        }
    }
    let words = fields.plain_list::<&'static str>("codings");
    let coding = |word: &&str| Coding::ALL.into_iter().find(|coding| coding.word() == *word);
    let efforts = [Effort::Low, Effort::Medium, Effort::High];
    Some(Rules {
        codings: words.iter().filter_map(coding).collect(),
        types,
        min_size: fields.get::<ByteSize>("min_size")?.0,
        effort: efforts.into_iter().find(|effort| fields.is_word("effort", effort.word()))?,
    })
}

impl ForwardAuth {
    fn read(fields: &Fields, around: &Surroundings<'_>, report: &mut Report) -> Option<Self> {
        fields.require("`forward_auth`", report);
        Some(Self {
            pool: read_pool(fields, around, report)?,
            path: fields.get("path")?,
            request_headers: fields.plain_list("request_headers"),
            response_headers: fields.plain_list("response_headers"),
            timeout: fields.get("timeout")?,
            max_answer: fields.get("max_answer")?,
            allow_on_error: fields.is_word("on_error", "allow"),
        })
    }
}

impl Mirror {
    fn read(fields: &Fields, around: &Surroundings<'_>, report: &mut Report) -> Option<Self> {
        fields.require("`mirror`", report);
        let Amount::Percent(share) = fields.get("share")? else { return None };
        Some(Self {
            pool: read_pool(fields, around, report)?,
            share,
            max_body: fields.get("max_body")?,
            timeout: fields.get("timeout")?,
            max_in_flight: fields.get("max_in_flight")?,
        })
    }
}

impl BasicAuth {
    fn read(fields: &Fields, files: Files<'_>, report: &mut Report) -> Option<Self> {
        fields.require("`basic_auth`", report);
        let realm: FieldValue = fields.get("realm")?;
        if realm.as_str().contains(['"', '\\']) {
            let message = "`realm` cannot have a quote or a backslash";
            report.error(fields.span_of("realm"), message, "write a name without them");
            return None;
        }
        Some(Self {
            realm,
            users_file: files.named(fields, "users_file", "a file of users", check_users, report)?,
            user_header: fields.get("user_header"),
            keep_authorization: fields.get("keep_authorization")?,
            remember: fields.get("remember")?,
            max_remembered: fields.get("max_remembered")?,
            max_checks: fields.get("max_checks")?,
        })
    }
}
