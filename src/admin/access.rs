//! Who may do what: by where a request comes from and the token that it carries (RFC 6750). Every listener has one door, and
//! every request but those about health is let in by it.

use std::fs::{self, Metadata};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, StatusCode};
use subtle::{Choice, ConstantTimeEq};

use super::answer::Refusal;
use super::paths::Page;
use crate::config::tokens;

/// What somebody may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Look.
    Read,
    /// Change admin states and weights, fail over, reload and confirm the file on disk.
    Operate,
    /// Everything: bring a configuration along, which can name programs to run.
    Full,
}

impl Access {
    /// What a request for `page` needs at least; nothing for what anybody may ask. A change that brings more with it than
    /// its path says asks for more with [`allow`].
    fn needed(page: &Page, method: &Method) -> Option<Self> {
        match *method {
            _ if page.is_health() => None,
            Method::GET | Method::HEAD => Some(Self::Read),
            _ => Some(Self::Operate),
        }
    }
}

/// Holds what somebody may do against what a request needs.
///
/// # Errors
/// 401 where a token could help that is not there, 403 where the one that is there does not.
pub(super) fn allow(access: Option<Access>, needed: Access) -> Result<(), Refusal> {
    match access {
        Some(access) if access >= needed => Ok(()),
        Some(_) => {
            let detail = "this needs the token of admin.token_file, or the unix socket";
            Err(Refusal::unauthorized(StatusCode::FORBIDDEN, detail, INSUFFICIENT))
        }
        None => {
            let detail = "this needs a token: Authorization: Bearer, with one of admin.token_file";
            Err(Refusal::unauthorized(StatusCode::UNAUTHORIZED, detail, CHALLENGE))
        }
    }
}

// RFC 6750 section 3.
const CHALLENGE: &str = "Bearer realm=\"plimsoll\"";
const INVALID: &str = "Bearer realm=\"plimsoll\", error=\"invalid_token\"";
const INSUFFICIENT: &str = "Bearer realm=\"plimsoll\", error=\"insufficient_scope\"";

/// The tokens of an admin API, from their files.
#[derive(Debug, Default)]
pub struct Tokens {
    full: Option<TokenFile>,
    read: Option<TokenFile>,
}

impl Tokens {
    /// Reads the file whose tokens allow everything, and the one whose tokens allow to look.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn read(full: Option<&Path>, read: Option<&Path>) -> Result<Self, String> {
        let open = |path: Option<&Path>| path.map(TokenFile::open).transpose();
        Ok(Self { full: open(full)?, read: open(read)? })
    }

    fn is_empty(&self) -> bool {
        self.full.is_none() && self.read.is_none()
    }

    /// What this token is for.
    fn access(&self, token: &[u8]) -> Option<Access> {
        let has = |file: &Option<TokenFile>| file.as_ref().is_some_and(|file| file.has(token));
        // Both are looked at, so that the time tells nothing.
        match (has(&self.full), has(&self.read)) {
            (true, _) => Some(Access::Full),
            (false, true) => Some(Access::Read),
            (false, false) => None,
        }
    }
}

/// A file of tokens, read again whenever it has changed.
#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    tokens: Vec<String>,
    version: Version,
}

/// By what a change of a file shows; another file in its place has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Version {
    fn of(file: &Metadata) -> Self {
        let modified = (file.mtime(), file.mtime_nsec());
        Self { device: file.dev(), inode: file.ino(), size: file.size(), modified }
    }
}

impl TokenFile {
    fn open(path: &Path) -> Result<Self, String> {
        let held = Held::read(path).map_err(|what| format!("the tokens of {}: {what}", path.display()))?;
        Ok(Self { path: path.to_owned(), held: Mutex::new(held) })
    }

    /// Whether one of its tokens is this one; the time that it takes tells nothing of which, or how much of it.
    fn has(&self, token: &[u8]) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = held.refresh(&self.path) {
            let path = self.path.display();
            tracing::error!(%path, %error, "a file of tokens cannot be read again: the last tokens stay in force");
        }
        let any = |found: Choice, own: &String| found | own.as_bytes().ct_eq(token);
        held.tokens.iter().fold(Choice::from(0), any).into()
    }
}

impl Held {
    fn read(path: &Path) -> Result<Self, String> {
        let say = |error: io::Error| error.to_string();
        // Its version first: what changes in between is read once more.
        let version = Version::of(&fs::metadata(path).map_err(say)?);
        Ok(Self { tokens: tokens::read(path)?, version })
    }

    fn refresh(&mut self, path: &Path) -> Result<(), String> {
        let version = Version::of(&fs::metadata(path).map_err(|error| error.to_string())?);
        if version != self.version {
            // Noted first, so that what is wrong with it is said once.
            self.version = version;
            *self = Self::read(path)?;
        }
        Ok(())
    }
}

/// The door of one listener.
#[derive(Debug)]
pub(super) struct Door {
    /// What is allowed without a token.
    base: Option<Access>,
    tokens: Tokens,
}

impl Door {
    /// The door of a listener at this TCP address, or of a unix socket, which only its owner can reach.
    pub(super) fn new(address: Option<SocketAddr>, tokens: Tokens) -> Self {
        let base = match address {
            None => Some(Access::Full),
            Some(address) => address.ip().to_canonical().is_loopback().then_some(Access::Operate),
        };
        Self { base, tokens }
    }

    /// What a request may do, if that is enough for what it asks; nothing for what needs no leave.
    pub(super) fn admit(
        &self,
        page: &Page,
        method: &Method,
        fields: &HeaderMap,
    ) -> Result<Option<Access>, Refusal> {
        let Some(needed) = Access::needed(page, method) else { return Ok(None) };
        let access = self.access(fields)?;
        allow(access, needed)?;
        Ok(access)
    }

    fn access(&self, fields: &HeaderMap) -> Result<Option<Access>, Refusal> {
        let mut given = fields.get_all(AUTHORIZATION).iter();
        let Some(first) = given.next() else { return Ok(self.base) };
        if self.base == Some(Access::Full) || self.tokens.is_empty() {
            return Ok(self.base);
        }
        let token = bearer(first.as_bytes()).filter(|_| given.next().is_none());
        match token.and_then(|token| self.tokens.access(token)) {
            // A token never takes away what is allowed without one.
            Some(access) => Ok(self.base.max(Some(access))),
            None => {
                let detail = "this token is none of ours";
                Err(Refusal::unauthorized(StatusCode::UNAUTHORIZED, detail, INVALID))
            }
        }
    }
}

/// The token of an `Authorization` field; the scheme has no case (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::model::name::PoolName;

    type Failure = Box<dyn std::error::Error>;

    const FULL: &str = "full-0123456789abcdef";
    const READ: &str = "read-0123456789abcdef";

    struct Site {
        full: PathBuf,
        read: PathBuf,
        folder: tempfile::TempDir,
    }

    impl Site {
        fn new() -> Result<Self, Failure> {
            let folder = tempfile::tempdir()?;
            let (full, read) = (folder.path().join("full"), folder.path().join("read"));
            fs::write(&full, format!("{FULL}\n"))?;
            fs::write(&read, READ)?;
            Ok(Self { full, read, folder })
        }

        fn tokens(&self) -> Result<Tokens, String> {
            Tokens::read(Some(&self.full), Some(&self.read))
        }

        fn door(&self, address: Option<[u8; 4]>) -> Result<Door, Failure> {
            let address = address.map(|ip| SocketAddr::from((ip, 9900)));
            Ok(Door::new(address, self.tokens()?))
        }
    }

    /// What a door says to a GET of the status and to a POST of a failover: what may be done, or the status.
    fn ask(
        door: &Door,
        authorization: Option<&str>,
    ) -> (Result<Option<Access>, u16>, Result<Option<Access>, u16>) {
        let mut fields = HeaderMap::new();
        for value in authorization.iter().flat_map(|text| text.split('|')) {
            fields.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
        }
        let pool = PoolName::new("api").expect("a name");
        let admit =
            |page, method| door.admit(&page, &method, &fields).map_err(|refusal| refusal.status().as_u16());
        (admit(Page::Status, Method::GET), admit(Page::Failover(pool), Method::POST))
    }

    #[test]
    fn an_address_that_others_reach_needs_the_token() -> Result<(), Failure> {
        let door = Site::new()?.door(Some([10, 0, 0, 1]))?;
        assert_eq!(ask(&door, None), (Err(401), Err(401)));
        assert_eq!(ask(&door, Some(&format!("Bearer {READ}"))), (Ok(Some(Access::Read)), Err(403)));
        let full = Ok(Some(Access::Full));
        assert_eq!(ask(&door, Some(&format!("bearer  {FULL}"))), (full, full));
        for wrong in [
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            FULL.to_owned(),
            format!("Basic {FULL}"),
            format!("Bearer {FULL}x"),
            format!("Bearer {}", &FULL[1..]),
            format!("Bearer {FULL}\t{READ}"),
            format!("Bearer {FULL}|Bearer {FULL}"),
        ] {
            assert_eq!(ask(&door, Some(&wrong)), (Err(401), Err(401)), "{wrong}");
        }
        let health = door.admit(&Page::Ready, &Method::GET, &HeaderMap::new());
        assert!(matches!(health, Ok(None)));
        Ok(())
    }

    #[test]
    fn loopback_operates_and_a_token_makes_it_more() -> Result<(), Failure> {
        let door = Site::new()?.door(Some([127, 0, 0, 1]))?;
        let operate = Ok(Some(Access::Operate));
        assert_eq!(ask(&door, None), (operate, operate));
        assert_eq!(ask(&door, Some(&format!("Bearer {READ}"))), (operate, operate));
        assert_eq!(ask(&door, Some(&format!("Bearer {FULL}"))).0, Ok(Some(Access::Full)));
        assert_eq!(ask(&door, Some("Bearer wrong")).0, Err(401));
        assert!(allow(Some(Access::Operate), Access::Full).is_err());
        Ok(())
    }

    #[test]
    fn a_unix_socket_is_all_powerful_and_without_tokens_none_is_looked_at() -> Result<(), Failure> {
        let full = Ok(Some(Access::Full));
        assert_eq!(ask(&Site::new()?.door(None)?, Some("Bearer wrong")), (full, full));
        let loopback = Door::new(Some(SocketAddr::from(([127, 0, 0, 1], 1))), Tokens::default());
        assert_eq!(ask(&loopback, Some("Bearer any")).0, Ok(Some(Access::Operate)));
        Ok(())
    }

    #[test]
    fn a_changed_file_is_in_force_at_once_and_a_broken_one_is_not() -> Result<(), Failure> {
        let site = Site::new()?;
        let door = site.door(Some([10, 0, 0, 1]))?;
        let may = |token: &str| ask(&door, Some(&format!("Bearer {token}"))).0.is_ok();
        let path = site.full.clone();
        // Two are valid while one takes the place of the other.
        fs::write(&path, format!("{FULL}\nnext-0123456789abcdef\n"))?;
        assert!(may(FULL) && may("next-0123456789abcdef"));
        let successor = site.folder.path().join("successor");
        fs::write(&successor, "next-0123456789abcdef")?;
        fs::rename(&successor, &path)?;
        assert!(!may(FULL) && may("next-0123456789abcdef"));
        fs::write(&path, "short")?;
        assert!(may("next-0123456789abcdef") && !may("short"));
        fs::remove_file(&path)?;
        assert!(may("next-0123456789abcdef"));
        assert!(site.tokens().is_err());
        Ok(())
    }
}
