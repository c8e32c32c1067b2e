//! Names and passwords of a route as one snapshot has them, and the checks of them: beside the workers, so many at once, and
//! remembered where they were right. What is right is `policy::password`'s.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::clock::Clock;
use super::sync::{Mutex, lock};
use super::treatment::Told;
use crate::policy::password::verified::{Mark, Verified};
use crate::policy::password::{Login, Stored, Users};

/// Names and passwords of a route.
#[derive(Debug)]
pub struct BasicAuth {
    /// The value of `WWW-Authenticate` (RFC 7617 section 2).
    pub challenge: Box<str>,
    /// The file of the users.
    pub file: PathBuf,
    /// The users; the same allocation for as long as the file says the same.
    pub users: Arc<Known>,
    /// The field in which the endpoint is told the name.
    pub user_header: Option<Told>,
    /// Whether the endpoint gets `Authorization`.
    pub keep_authorization: bool,
    /// What checks them.
    pub checker: Arc<Checker>,
}

/// The users of a file.
#[derive(Debug)]
pub struct Known {
    /// A digest of its text, by which a change is noticed.
    pub digest: u64,
    /// The users.
    pub users: Users,
}

/// How many logins are checked and remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckRules {
    /// How long a login that was right is not checked again.
    pub remember: Duration,
    /// How many such logins are remembered.
    pub max_remembered: usize,
    /// Logins that are checked at once or wait for that.
    pub max_checks: usize,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The login is right.
    Right,
    /// It is not.
    Wrong,
    /// Too many are being checked already.
    Busy,
}

/// Checks logins; kept over reloads for as long as its rules are the same.
pub struct Checker {
    rules: CheckRules,
    /// Makes marks of logins. Of this process alone, and never told.
    secret: hmac::Key,
    verified: Mutex<Verified>,
    /// Checks that may run at once: each takes a core for as long as it lasts.
    cores: Arc<Semaphore>,
    here: AtomicUsize,
}

impl fmt::Debug for Checker {
    // Secrets stay out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Checker").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// One of those that are checked or wait for that.
struct Here<'a>(&'a AtomicUsize);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Checker {
    /// A checker that knows nobody yet; nothing where the system has no random numbers for its secret.
    #[must_use]
    pub fn new(rules: CheckRules) -> Option<Self> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        // Half of the cores, so that workers go on beside.
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Some(Self {
            rules,
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            verified: Mutex::new(Verified::new(rules.max_remembered, rules.remember)),
            cores: Arc::new(Semaphore::new(cores)),
            here: AtomicUsize::new(0),
        })
    }

    /// Its rules.
    #[must_use]
    pub const fn rules(&self) -> CheckRules {
        self.rules
    }

    fn mark(&self, stored: &Stored, login: &Login) -> Mark {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(stored.text().as_bytes());
        // No hash has it.
        context.update(b"\0");
        context.update(&login.password);
        let mut mark = Mark::default();
        mark.copy_from_slice(context.sign().as_ref());
        mark
    }

    /// Whether a login is right. Where it was found right a while ago that costs next to nothing; else it is worked out on
    /// another thread, and this waits. An unknown user takes as long as a wrong password.
    pub async fn check(&self, known: &Known, login: Login, clock: Clock) -> Checked {
        let (stored, exists) = known.users.find(&login.name);
        let mark = self.mark(stored, &login);
        if exists && lock(&self.verified).knows(&mark, clock.now()) {
            return Checked::Right;
        }
        if self.here.fetch_add(1, Ordering::Relaxed) >= self.rules.max_checks {
            self.here.fetch_sub(1, Ordering::Relaxed);
            return Checked::Busy;
        }
        let _here = Here(&self.here);
        let Ok(core) = Arc::clone(&self.cores).acquire_owned().await else { return Checked::Busy };
        // A browser asks for much at once, all with the same login: the first check is for all of them.
        if exists && lock(&self.verified).knows(&mark, clock.now()) {
            return Checked::Right;
        }
        let stored = stored.clone();
        let fits = spawn_blocking(move || {
            let fits = stored.fits(&login.password);
            drop(core);
            fits
        });
        // It ends without an answer only with the process.
        if !(fits.await.unwrap_or(false) && exists) {
            return Checked::Wrong;
        }
        lock(&self.verified).note(mark, clock.now());
        Checked::Right
    }

    /// Logins that are remembered now.
    #[must_use]
    pub fn remembered(&self) -> usize {
        lock(&self.verified).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CheckRules =
        CheckRules { remember: Duration::from_secs(60), max_remembered: 8, max_checks: 1 };

    fn known() -> Known {
        let users = Users::parse("blow:$2y$04$4WmJq5RjG2lnDYgH/rQFa.XMt09cxrBB.YRRTJcEtb4VfXCSwVmeO");
        Known { digest: 0, users: users.expect("it is valid") }
    }

    fn login(name: &str, password: &str) -> Login {
        Login { name: name.to_owned(), password: password.into() }
    }

    #[tokio::test]
    async fn only_a_login_that_is_right_is_remembered() {
        let (checker, known) = (Checker::new(RULES).expect("there is randomness"), known());
        let clock = Clock::start();
        assert_eq!(checker.check(&known, login("blow", "hello"), clock).await, Checked::Wrong);
        assert_eq!(checker.check(&known, login("nobody", "Hello world!"), clock).await, Checked::Wrong);
        assert_eq!(checker.remembered(), 0);
        assert_eq!(checker.check(&known, login("blow", "Hello world!"), clock).await, Checked::Right);
        assert_eq!(checker.check(&known, login("blow", "Hello world!"), clock).await, Checked::Right);
        assert_eq!(checker.check(&known, login("nobody", "Hello world!"), clock).await, Checked::Wrong);
        assert_eq!(checker.remembered(), 1);
    }

    #[tokio::test]
    async fn one_more_than_may_be_checked_is_told_so_and_a_known_one_is_not() {
        let (checker, known) = (Checker::new(RULES).expect("there is randomness"), known());
        let clock = Clock::start();
        assert_eq!(checker.check(&known, login("blow", "Hello world!"), clock).await, Checked::Right);
        // Asked in the same turn: the first has the place, unless its check ends before the second is asked at all, as it
        // can where a busy machine stops this thread between the two.
        let mut told = false;
        for _ in 0..50 {
            let wrong = checker.check(&known, login("blow", "hello"), clock);
            let second = async {
                let second = checker.check(&known, login("blow", "other"), clock).await;
                (second, checker.check(&known, login("blow", "Hello world!"), clock).await)
            };
            let (first, (second, known_one)) = tokio::join!(wrong, second);
            assert_eq!((first, known_one), (Checked::Wrong, Checked::Right));
            told |= second == Checked::Busy;
            if told {
                break;
            }
        }
        assert!(told, "the second was never told so");
        assert_eq!(
            checker.check(&known, login("blow", "hello"), clock).await,
            Checked::Wrong,
            "the place is free"
        );
    }
}
