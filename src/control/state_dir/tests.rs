//! The state directory against disks and files as they are: broken, unwritable, of another version.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config;
use crate::config::pool::Endpoint;
use crate::control::change::AdminState;
use crate::control::overrides::EndpointOverride;
use crate::model::address::EndpointAddress;
use crate::model::name::{EndpointName, PoolName};
use crate::model::units::Weight;

const AT: SystemTime = SystemTime::UNIX_EPOCH;

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    fn state(&self) -> StateDir {
        StateDir::at(&self.path("state"))
    }

    /// A configuration of several files, with a certificate, its key and an authority.
    fn configuration(&self) -> PathBuf {
        let own = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        self.write("own.crt", &own.cert.pem());
        self.write("ca.crt", &own.cert.pem());
        self.write("own.key", &own.signing_key.serialize_pem());
        self.write("conf.d/b.toml", "[pool.b]\nendpoints = [\"10.0.0.2:80\"]\n");
        self.write("conf.d/a.toml", "[pool.a]\nendpoints = [\"10.0.0.3:80\"]\n");
        self.write(
            "main.toml",
            "include = [\"conf.d/*.toml\", \"./conf.d/a.toml\"]\n[listener.web]\nbind = [\"127.0.0.1:8080\"]\n\
             [[route]]\npool = \"main\"\n[pool.main]\nendpoints = [\"10.0.0.1:80\"]\n[pool.main.health]\n\
             tls = { server_name = \"a.test\", ca = \"ca.crt\", cert = \"own.crt\", key = \"own.key\" }\n",
        )
    }

    /// Keeps the configuration and gives what it means.
    fn keep(&self) -> (PathBuf, String) {
        let main = self.configuration();
        let config = config::load(&main).expect("a valid configuration");
        self.state().keep(&config.origin, config.hash, AT).expect("it is kept");
        (main, config::show(&config))
    }

    fn shown(&self, main: &Path) -> String {
        let last = self.state().last_good(main).expect("it can be used").expect("it is there");
        config::show(&last.config)
    }
}

#[test]
fn what_was_good_is_good_again_when_all_its_files_are_gone() {
    let site = Site::new();
    let (main, meant) = site.keep();
    assert_eq!(site.shown(&main), meant);
    for name in ["main.toml", "conf.d", "own.crt", "own.key", "ca.crt"] {
        let path = site.path(name);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it is removed");
    }
    let copied = site.shown(&main);
    let copies = site.path("state").join(COPIES);
    assert_ne!(copied, meant);
    assert!(copied.contains(&format!("ca = \"{}/", copies.display())), "{copied}");
    assert!(copied.contains("10.0.0.2:80") && copied.contains("10.0.0.3:80"), "{copied}");
}

#[test]
fn a_key_of_another_certificate_gives_way_to_the_pair_that_was_good() {
    let site = Site::new();
    let (main, _) = site.keep();
    let other = rcgen::generate_simple_self_signed(["b.test".to_owned()]).expect("a certificate");
    site.write("own.key", &other.signing_key.serialize_pem());
    let refused = config::load(&main).expect_err("the key is another one's").to_string();
    assert!(refused.contains("is not the key of"), "{refused}");
    let shown = site.shown(&main);
    assert!(!shown.contains(&site.path("own.key").display().to_string()), "{shown}");
}

#[test]
fn another_file_has_another_last_good_configuration() {
    let site = Site::new();
    site.keep();
    assert!(site.state().last_good(&site.path("other.toml")).is_ok_and(|kept| kept.is_none()));
    assert!(
        StateDir::at(&site.path("none")).last_good(&site.path("main.toml")).is_ok_and(|kept| kept.is_none())
    );
}

#[test]
fn nobody_else_may_read_it_and_nothing_unfinished_or_unused_is_left() {
    let site = Site::new();
    site.keep();
    site.keep();
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let state = site.path("state");
    assert_eq!((mode(&state), mode(&state.join(KEYS)), mode(&state.join(COPIES))), (0o700, 0o700, 0o700));
    let files = |folder: &Path| -> Vec<PathBuf> {
        let all = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        all.filter(|path| path.is_file()).collect()
    };
    let (top, copies) = (files(&state), files(&state.join(COPIES)));
    assert_eq!((top.len(), copies.len()), (1, 2), "{top:?} {copies:?}");
    assert!(top.iter().chain(&copies).all(|path| mode(path) == 0o600));
}

#[test]
fn overrides_come_back_as_they_were() {
    let site = Site::new();
    let name = |pool: &str, endpoint: &str| {
        (PoolName::new(pool).expect("a name"), EndpointName::new(endpoint).expect("a name"))
    };
    let mut overrides = Overrides::default();
    let drained = EndpointOverride { state: Some(AdminState::Drain), weight: None };
    overrides.endpoints.insert(name("a", "[::1]:80"), drained);
    overrides.endpoints.insert(name("a", "b"), EndpointOverride { state: None, weight: Some(7) });
    overrides.failovers.insert(name("a", "x").0, name("dr", "x").0);
    let (pool, endpoint) = name("a", "c");
    let address = EndpointAddress::parse("srv:_http._tcp.app.internal").expect("an address");
    let added = Endpoint::plain(endpoint.clone(), address, Weight::ONE, 3, "b".to_owned());
    overrides.roster.added.insert((pool, endpoint), added);
    overrides.roster.removed.insert(name("a", "app@10.0.0.1:80"));
    assert!(site.state().overrides().is_ok_and(|none| none.is_empty()));
    site.state().keep_overrides(&overrides).expect("they are kept");
    assert_eq!(site.state().overrides().ok(), Some(overrides));
}

#[test]
fn what_is_damaged_is_told_and_never_guessed() {
    let site = Site::new();
    let (main, _) = site.keep();
    let whole = fs::read_to_string(site.path("state").join(LAST_GOOD)).expect("text");
    let half = whole.get(..whole.len() / 2).unwrap_or_default().to_owned();
    for text in ["", "{}", "null", &half, &whole.replace("\"version\": 1", "\"version\": 99"), "\0\0"] {
        site.write(&format!("state/{LAST_GOOD}"), text);
        let error = site.state().last_good(&main).expect_err("it is damaged").to_string();
        assert!(error.contains(LAST_GOOD) && error.contains("damaged or from another version"), "{error}");
    }
    site.write(
        &format!("state/{OVERRIDES}"),
        "{\"version\":1,\"endpoints\":[{\"pool\":\"a b\",\"endpoint\":\"c\"}],\"failovers\":{}}",
    );
    assert!(site.state().overrides().is_err());
    fs::remove_file(site.path("state").join(LAST_GOOD)).expect("removed");
    fs::create_dir(site.path("state").join(LAST_GOOD)).expect("a folder in its place");
    assert!(matches!(site.state().last_good(&main), Err(StateError::Read { .. })));
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_and_no_more() {
    let site = Site::new();
    let main = site.configuration();
    let config = config::load(&main).expect("a valid configuration");
    site.write("state", "a file in the place of the directory");
    assert!(site.state().keep(&config.origin, config.hash, AT).is_err());
    assert!(site.state().keep_overrides(&Overrides::default()).is_err());
}

#[test]
fn the_recorder_writes_the_newest_and_tells_when_it_cannot() {
    let site = Site::new();
    let main = site.configuration();
    let config = config::load(&main).expect("a valid configuration");
    let journal = std::sync::Arc::<crate::control::journal::Journal>::default();
    let recorder =
        recorder::Recorder::start(site.state(), std::sync::Arc::clone(&journal)).expect("a thread");
    recorder.config(&config.origin, config.hash);
    recorder.overrides(&Overrides::default());
    assert!(recorder.close(std::time::Duration::from_secs(60)), "everything is written");
    assert!(site.state().last_good(&main).is_ok_and(|kept| kept.is_some()));
    assert_eq!(journal.newest(), 0, "nothing to tell");
    let nowhere = StateDir::at(&site.write("file", "no directory").join("below"));
    let recorder = recorder::Recorder::start(nowhere, std::sync::Arc::clone(&journal)).expect("a thread");
    recorder.overrides(&Overrides::default());
    assert!(recorder.close(std::time::Duration::from_secs(60)));
    let told = journal.after(0).events;
    assert!(told.iter().any(|event| event.change.to == "state is not kept"), "{told:?}");
}

#[test]
fn a_broken_file_may_still_say_where_the_state_is() {
    let site = Site::new();
    let said = |text: &str| config::state_dir_of(&site.write("broken.toml", text));
    assert_eq!(said("[process]\nstate_dir = \"keep\"\nworkers = \n"), Some(site.path("keep")));
    assert_eq!(said("[process]\n  state_dir='/var/lib/x' # here\n[lis"), Some(PathBuf::from("/var/lib/x")));
    assert_eq!(said("[process]\n# state_dir = \"no\"\n"), None);
    assert_eq!(said("[process]\nstate_dir = \"\"\n"), None);
    assert_eq!(config::state_dir_of(&site.path("none.toml")), None);
}
