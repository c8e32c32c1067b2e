//! Who may come in by name and password (RFC 7617): users with hashed passwords, as `htpasswd` writes them, and whether one
//! fits. A check is meant to cost much: whoever asks does so where nobody waits, and [`verified`] remembers the answer.

mod apr1;
pub mod verified;

use std::collections::HashMap;
use std::fmt;

use base64ct::{Base64, Encoding as _};
use sha_crypt::{PasswordHashRef, PasswordVerifier as _, ShaCrypt};

use self::apr1::Apr1;

/// Bytes of a password. No setting: the hashes of longer ones take as much longer, and nobody has one.
pub const PASSWORD_MAX: usize = 1024;

/// The largest cost of a bcrypt hash, which takes some seconds.
const COST_MAX: u32 = 16;

/// The most rounds of a SHA-crypt hash, which take about as long.
const ROUNDS_MAX: u32 = 5_000_000;

/// Users and what their passwords are held against.
pub struct Users {
    by_name: HashMap<Box<str>, Stored>,
    /// What the passwords of unknown users are held against, so that those take as long.
    decoy: Stored,
}

/// A hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Bcrypt,
    Sha,
    Apr1(Apr1),
}

/// Why a text is no file of users. What stands in it is not told: it may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line of it.
    #[error("line {line} {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It has no line.
    #[error("it has no user")]
    Empty,
}

impl fmt::Debug for Users {
    // Hashes stay out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Users").field("users", &self.by_name.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Stored").finish_non_exhaustive()
    }
}

impl Users {
    /// Reads lines of `NAME:HASH`; empty ones and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`Fault`] for the first line that is none: hashes are those of bcrypt (`$2y$`), SHA-crypt (`$5$`, `$6$`) and MD5 as
    /// Apache has it (`$apr1$`). Passwords in the clear, and hashes without salt, are refused.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut by_name = HashMap::new();
        let mut decoy: Option<Stored> = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = |what| Fault::Line { line: index + 1, what };
            let (name, hash) =
                line.split_once(':').ok_or_else(|| fault("has no colon between name and hash"))?;
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(fault("has no valid name before its colon"));
            }
            // Some programs write more behind it.
            let hash = hash.split(':').next().unwrap_or_default();
            let stored = Stored::parse(hash).map_err(fault)?;
            decoy.get_or_insert_with(|| stored.clone());
            if by_name.insert(Box::from(name), stored).is_some() {
                return Err(fault("has a name that an earlier one has"));
            }
        }
        let decoy = decoy.ok_or(Fault::Empty)?;
        Ok(Self { by_name, decoy })
    }

    /// What the password of `name` is held against, and whether there is such a user at all: where there is none, the
    /// check is made all the same and its result is no.
    #[must_use]
    pub fn find(&self, name: &str) -> (&Stored, bool) {
        self.by_name.get(name).map_or((&self.decoy, false), |stored| (stored, true))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none, which [`Users::parse`] does not let be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl Stored {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const MALFORMED: &str = "has a malformed hash";
        let kind = match text.split('$').nth(1).filter(|_| text.starts_with('$')) {
            Some("2a" | "2b" | "2x" | "2y") => {
                let parts: bcrypt::HashParts = text.parse().map_err(|_| MALFORMED)?;
                if parts.get_cost() > COST_MAX {
                    return Err("has a bcrypt hash of a cost above 16: each request would take seconds");
                }
                Kind::Bcrypt
            }
            Some("5" | "6") => {
                check_sha(text)?;
                Kind::Sha
            }
            Some("apr1") => Kind::Apr1(Apr1::parse(text).ok_or(MALFORMED)?),
            Some(_) => return Err("has a hash of a kind that is not known: use bcrypt (htpasswd -B)"),
            None => return Err("has no salted hash but a plain or weak one: use bcrypt (htpasswd -B)"),
        };
        Ok(Self { text: text.into(), kind })
    }

    /// Whether this is the hash of `password`. Takes as long as the hash was made for, up to seconds.
    #[must_use]
    pub fn fits(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_MAX {
            return false;
        }
        match &self.kind {
            Kind::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Kind::Sha => PasswordHashRef::new(&self.text)
                .is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok()),
            Kind::Apr1(hash) => hash.fits(password),
        }
    }

    /// The hash as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A hash of SHA-crypt as its crate reads it, of so many rounds at most.
fn check_sha(text: &str) -> Result<(), &'static str> {
    const MALFORMED: &str = "has a malformed hash";
    let mut parts = text.split('$').skip(2);
    let mut salt = parts.next().ok_or(MALFORMED)?;
    if let Some(rounds) = salt.strip_prefix("rounds=") {
        let rounds: u32 = rounds.parse().map_err(|_| MALFORMED)?;
        if !(1000..=ROUNDS_MAX).contains(&rounds) {
            return Err("has a SHA-crypt hash of less than 1,000 or more than 5,000,000 rounds");
        }
        salt = parts.next().ok_or(MALFORMED)?;
    }
    let hash = parts.next().ok_or(MALFORMED)?;
    let length = if text.starts_with("$5$") { 43 } else { 86 };
    let is_whole = salt.len() <= 16 && hash.len() == length && parts.next().is_none();
    if is_whole && PasswordHashRef::new(text).is_ok() { Ok(()) } else { Err(MALFORMED) }
}

/// Name and password of an `Authorization` field with the scheme Basic (RFC 7617 section 2).
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub name: String,
    /// The password, in whatever encoding it was sent.
    pub password: Vec<u8>,
}

impl fmt::Debug for Login {
    // Passwords stay out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Login {
    /// Reads the value of a field; nothing where it is of another scheme or malformed.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (scheme, encoded) = value.split_at_checked("Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let encoded = std::str::from_utf8(encoded.trim_ascii()).ok()?;
        let mut decoded = Base64::decode_vec(encoded).ok()?;
        let colon = decoded.iter().position(|&b| b == b':')?;
        let password = decoded.split_off(colon + 1);
        decoded.pop();
        let name = String::from_utf8(decoded).ok()?;
        let is_clean = !name.chars().any(char::is_control) && !password.iter().any(u8::is_ascii_control);
        (!name.is_empty() && is_clean && password.len() <= PASSWORD_MAX).then_some(Self { name, password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `htpasswd -nbB` with a cost of 4 and `openssl passwd`.
    const FILE: &str = "# staff\n\
        blow:$2y$04$4WmJq5RjG2lnDYgH/rQFa.XMt09cxrBB.YRRTJcEtb4VfXCSwVmeO\n\n\
        sha256:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5:more\n\
        sha512:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1\n\
        apache:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\n";

    #[test]
    fn passwords_fit_the_hashes_that_other_programs_made_of_them() {
        let users = Users::parse(FILE).expect("it is valid");
        for (name, password) in [
            ("blow", "Hello world!"),
            ("sha256", "Hello world!"),
            ("sha512", "Hello world!"),
            ("apache", "myPassword"),
        ] {
            let (stored, known) = users.find(name);
            assert!(known && stored.fits(password.as_bytes()), "{name}");
            assert!(!stored.fits(b"hello world!"), "{name}");
            assert!(!stored.fits(b""), "{name}");
        }
        let (decoy, known) = users.find("nobody");
        assert!(!known && decoy.text().starts_with("$2y$"));
    }

    #[test]
    fn what_is_no_salted_hash_is_refused_without_being_told() {
        for (file, why) in [
            ("a:secret\n", "line 1 has no salted hash but a plain or weak one: use bcrypt (htpasswd -B)"),
            (
                "a:{SHA}2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
                "line 1 has no salted hash but a plain or weak one: use bcrypt (htpasswd -B)",
            ),
            ("\n\nsecret\n", "line 3 has no colon between name and hash"),
            (":$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "line 1 has no valid name before its colon"),
            ("a:$apr1$r31.....$HqJZimcKQFAMYayBlzkr", "line 1 has a malformed hash"),
            ("a:$2y$04$C9qTV", "line 1 has a malformed hash"),
            (
                "a:$2y$17$C9qTV/0XVAZBiLmP2iCTvuytAL5.CGGbmXPz4rSHgzX3BFzPO6ekO",
                "line 1 has a bcrypt hash of a cost above 16: each request would take seconds",
            ),
            (
                "a:$5$rounds=999999999$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
                "line 1 has a SHA-crypt hash of less than 1,000 or more than 5,000,000 rounds",
            ),
            ("a:$y$j9T$x$y", "line 1 has a hash of a kind that is not known: use bcrypt (htpasswd -B)"),
            ("# nobody\n", "it has no user"),
        ] {
            let fault = Users::parse(file).expect_err("it is not valid").to_string();
            assert_eq!(fault, why);
            assert!(!fault.contains("secret"));
        }
        let twice = FILE.to_owned() + "blow:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\n";
        let fault = Users::parse(&twice).expect_err("a name is there twice");
        assert_eq!(fault, Fault::Line { line: 7, what: "has a name that an earlier one has" });
    }

    #[test]
    fn a_login_is_read_as_the_rfc_has_it() {
        // The example of RFC 7617 section 2, and of section 2.1.
        let login = Login::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").expect("it is valid");
        assert_eq!((login.name.as_str(), &login.password[..]), ("Aladdin", &b"open sesame"[..]));
        let login = Login::parse(b"basic dGVzdDoxMjPCow==").expect("it is valid");
        assert_eq!((login.name.as_str(), &login.password[..]), ("test", "123\u{a3}".as_bytes()));
        assert_eq!(Login::parse(b"Basic YTpiOmM=").map(|l| l.password), Some(b"b:c".to_vec()));
        for none in [
            "",
            "Basic",
            "Basic ",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxh",
            "Basic !!",
            "Basic OnB3",
        ] {
            assert_eq!(Login::parse(none.as_bytes()), None, "{none}");
        }
    }
}
