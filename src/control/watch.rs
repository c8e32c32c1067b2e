//! Notices that files have changed: of the configuration, with certificates and keys, and of endpoints. Says so once it is
//! quiet again, and only where a file says something else than before; reading them is for others.
//!
//! The folders are watched, not the files: a rename over a file, and the swap of the link `..data` by which Kubernetes
//! changes a mounted volume, are seen in the folder alone. Where the system cannot watch, the files are looked at from time
//! to time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::config::{self, Config};
use crate::runtime::clock::Clock;

/// Files are looked at once nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(200);

/// Or after so long, however much happens.
const NOISY: Duration = Duration::from_secs(2);

/// How often files are looked at where the system does not tell of changes.
const POLL: Duration = Duration::from_secs(3);

/// Bytes of a file that are looked at; more is no file of ours.
const FILE_MAX: u64 = 16 << 20;

/// Orders and events that may wait. One event is as good as many.
const BACKLOG: usize = 64;

/// Which files matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// Whose change is a reload, with what stood in them when they were read, where that is known.
    pub(super) config: Hashes,
    /// Patterns of included files: one more that matches is a change, too.
    pub(super) patterns: Vec<PathBuf>,
    /// Whose change brings other endpoints.
    pub(super) endpoints: BTreeSet<PathBuf>,
}

/// What has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Something of the configuration.
    pub(super) config: bool,
    /// A file of endpoints.
    pub(super) endpoints: bool,
}

impl Files {
    /// The files of a configuration; those of itself only where it asks for that. `main` is its file, whatever it was made
    /// from.
    pub(super) fn of(config: &Config, main: Option<&Path>) -> Self {
        let endpoints = config.pools.iter().filter_map(|pool| pool.endpoints_file.clone()).collect();
        let (mut files, mut patterns) = (Hashes::new(), Vec::new());
        if let (true, Some(main)) = (config.process.watch, main) {
            files.insert(main.to_owned(), None);
            files.extend(config.origin.named.iter().map(|path| (path.clone(), None)));
            let pages = config.pages().map(|page| (page.path.clone(), Some(hash_of(&page.bytes))));
            files.extend(pages);
            patterns.clone_from(&config.origin.patterns);
            for (path, text) in config.origin.texts.iter().filter(|(path, _)| path.exists()) {
                files.insert(path.clone(), Some(hash_of(text.as_bytes())));
            }
        }
        Self { config: files, patterns, endpoints }
    }

    /// The folders in whose listings a change of any of them shows.
    fn watched(&self) -> BTreeSet<PathBuf> {
        // A folder of a pattern that is not there yet shows in the folder above it.
        let of_patterns = self.patterns.iter().flat_map(|pattern| pattern.ancestors().skip(1).take(2));
        let mut watched: BTreeSet<PathBuf> = of_patterns.map(here).filter(|folder| folder.is_dir()).collect();
        for file in self.config.keys().chain(&self.endpoints) {
            watched.extend(file.parent().map(here));
            // Where a link leads elsewhere, what is there may change as well.
            if let Ok(real) = file.canonicalize() {
                watched.extend(real.parent().map(PathBuf::from));
            }
        }
        watched
    }

    fn look(&self) -> Seen {
        let mut config: Hashes = self.config.keys().map(|path| (path.clone(), hash(path))).collect();
        for pattern in &self.patterns {
            let found = config::files_of(pattern).unwrap_or_default();
            config.extend(found.into_iter().map(|path| (path.clone(), hash(&path))));
        }
        Seen { config, endpoints: self.endpoints.iter().map(|path| (path.clone(), hash(path))).collect() }
    }
}

/// A path that can be listed.
fn here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

/// What stands in files; nothing where one cannot be read.
type Hashes = BTreeMap<PathBuf, Option<u64>>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    config: Hashes,
    endpoints: Hashes,
}

fn hash(path: &Path) -> Option<u64> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    Some(hash_of(&bytes))
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

enum Order {
    Follow(Files),
    /// Something has happened in a folder.
    Stirred,
    /// The system has lost events, or cannot tell of more.
    Broken(String),
}

/// The thread that watches, which is started when there is a first file.
#[derive(Default)]
pub(super) struct Follower {
    orders: Option<SyncSender<Order>>,
    followed: Files,
}

impl Follower {
    /// Follows exactly these files from now on, and tells of changes by `changes`.
    pub(super) fn follow(&mut self, files: Files, changes: &mpsc::Sender<Changed>) {
        if self.followed == files {
            return;
        }
        if self.orders.is_none() {
            self.orders = start(changes.clone());
        }
        let told = self.orders.as_ref().map(|orders| orders.try_send(Order::Follow(files.clone())));
        match told {
            Some(Ok(())) => self.followed = files,
            Some(Err(_)) | None => tracing::warn!("the thread that watches files does not listen"),
        }
    }
}

fn start(changes: mpsc::Sender<Changed>) -> Option<SyncSender<Order>> {
    let (orders, received) = sync_channel(BACKLOG);
    let own = orders.clone();
    let spawned = std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        Thread { watcher: None, files: Files::default(), polls: false }.run(&own, &received, &changes)
    });
    match spawned {
        Ok(_) => Some(orders),
        Err(error) => {
            tracing::error!(%error, "the thread that watches files cannot be started");
            None
        }
    }
}

struct Thread {
    watcher: Option<RecommendedWatcher>,
    files: Files,
    /// Nothing tells of changes.
    polls: bool,
}

impl Thread {
    fn run(mut self, own: &SyncSender<Order>, orders: &Receiver<Order>, changes: &mpsc::Sender<Changed>) {
        let clock = Clock::start();
        let mut seen = Seen::default();
        loop {
            let mut same = true;
            // Also where the system tells of changes: a folder that was not there is watched once it is.
            let wait = if self.polls { POLL } else { POLL * 10 };
            match orders.recv_timeout(wait) {
                Ok(Order::Follow(files)) => {
                    self.files = files;
                    self.watch(own);
                    same = false;
                }
                Ok(Order::Broken(error)) => {
                    tracing::warn!(error, "changes of files are not told by the system: they are looked for");
                    self.polls = true;
                }
                Ok(Order::Stirred) => same = self.settle(orders, own, &clock),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let mut now = self.files.look();
            if same && now != seen {
                // Links may lead elsewhere now. What happens while folders are changed over is seen by looking again.
                self.watch(own);
                now = self.files.look();
            }
            let before = std::mem::replace(&mut seen, now);
            // What was there before anybody followed it is what the process has read.
            let read = (!same).then_some(&self.files.config);
            if !tell(changes, &before, &seen, read) {
                return;
            }
        }
    }

    /// Waits until it is quiet; whether the same files are followed then.
    fn settle(&mut self, orders: &Receiver<Order>, own: &SyncSender<Order>, clock: &Clock) -> bool {
        let mut same = true;
        let until = clock.now() + NOISY;
        while clock.now() < until {
            match orders.recv_timeout(QUIET) {
                Ok(Order::Follow(files)) => {
                    self.files = files;
                    self.watch(own);
                    same = false;
                }
                Ok(Order::Stirred) => {}
                Ok(Order::Broken(_)) => self.polls = true,
                Err(_) => break,
            }
        }
        same
    }

    /// Has the system tell of the folders of the files, and of no others.
    fn watch(&mut self, own: &SyncSender<Order>) {
        // Dropped first: the system has only so many.
        self.watcher = None;
        let folders = self.files.watched();
        if folders.is_empty() {
            return;
        }
        match watcher(&folders, own.clone()) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.polls = false;
            }
            Err(error) => {
                if !self.polls {
                    tracing::warn!(%error, "files cannot be watched: they are looked at every {POLL:?}");
                }
                self.polls = true;
            }
        }
    }
}

/// Tells what differs; whether anybody listens. Where other files are followed than before, a new one is held against what
/// was `read` of it, where that is known; new files of endpoints are read again, since that costs nothing.
fn tell(changes: &mpsc::Sender<Changed>, before: &Seen, now: &Seen, read: Option<&Hashes>) -> bool {
    let changed = match read {
        None => Changed { config: before.config != now.config, endpoints: before.endpoints != now.endpoints },
        Some(read) => {
            let known =
                |path: &PathBuf| before.config.get(path).or_else(|| read.get(path).filter(|h| h.is_some()));
            let differs = |(path, hash): (&PathBuf, &Option<u64>)| match known(path) {
                Some(known) => known != hash,
                // What matches a pattern and was not read has come since.
                None => !read.contains_key(path),
            };
            let other = |(path, hash): (&PathBuf, &Option<u64>)| before.endpoints.get(path) != Some(hash);
            Changed { config: now.config.iter().any(differs), endpoints: now.endpoints.iter().any(other) }
        }
    };
    if changed == Changed::default() { !changes.is_closed() } else { changes.blocking_send(changed).is_ok() }
}

fn watcher(folders: &BTreeSet<PathBuf>, orders: SyncSender<Order>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let order = match event {
            // Our own reading must not wake us.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(_) => Order::Stirred,
            Err(error) => Order::Broken(error.to_string()),
        };
        match orders.try_send(order) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    })?;
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A folder as Kubernetes mounts one, and who follows two files in it.
    struct Volume {
        folder: tempfile::TempDir,
        changes: mpsc::Receiver<Changed>,
        follower: Follower,
        sender: mpsc::Sender<Changed>,
    }

    const CONFIG: Option<Changed> = Some(Changed { config: true, endpoints: false });
    const ENDPOINTS: Option<Changed> = Some(Changed { config: false, endpoints: true });

    impl Volume {
        fn new() -> io::Result<Self> {
            let folder = tempfile::tempdir()?;
            let (sender, changes) = mpsc::channel(4);
            Ok(Self { folder, changes, follower: Follower::default(), sender })
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, text: &str) -> io::Result<()> {
            std::fs::write(self.path(name), text)
        }

        fn follow(&mut self) {
            let files = Files {
                config: BTreeMap::from([(self.path("a.toml"), None)]),
                patterns: vec![self.path("conf.d/*.toml")],
                endpoints: BTreeSet::from([self.path("e")]),
            };
            self.follower.follow(files, &self.sender);
        }

        /// The next change, within the time in which polling would see it as well.
        fn next(&mut self) -> Option<Changed> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
            let wait = async { tokio::time::timeout(Duration::from_secs(60), self.changes.recv()).await };
            runtime.block_on(wait).ok().flatten()
        }
    }

    #[test]
    fn what_changed_after_it_was_read_and_before_it_was_followed_is_told() -> io::Result<()> {
        let mut volume = Volume::new()?;
        volume.write("a.toml", "new")?;
        let config = Hashes::from([(volume.path("a.toml"), Some(hash_of(b"old")))]);
        volume.follower.follow(Files { config, ..Files::default() }, &volume.sender);
        assert_eq!(volume.next(), CONFIG);
        Ok(())
    }

    #[test]
    fn a_file_that_came_before_anybody_looked_is_told_where_a_pattern_matches_it() -> io::Result<()> {
        let mut volume = Volume::new()?;
        volume.write("read.toml", "1")?;
        volume.write("not.yaml", "1")?;
        let follow = |volume: &mut Volume, pattern: &str| {
            let config = Hashes::from([(volume.path("read.toml"), Some(hash_of(b"1")))]);
            let patterns = vec![volume.path(pattern)];
            volume.follower.follow(Files { config, patterns, ..Files::default() }, &volume.sender);
        };
        follow(&mut volume, "*.toml");
        follow(&mut volume, "*.y?ml");
        assert_eq!(volume.next(), CONFIG);
        assert!(volume.changes.try_recv().is_err(), "nothing else was new");
        Ok(())
    }

    #[test]
    fn what_is_written_renamed_or_added_is_told_and_a_touch_is_not() -> io::Result<()> {
        let mut volume = Volume::new()?;
        std::fs::create_dir(volume.path("conf.d"))?;
        volume.write("a.toml", "1")?;
        volume.follow();
        assert_eq!(volume.next(), ENDPOINTS, "new files of endpoints are read again");
        volume.write("e", "10.0.0.1:80")?;
        assert_eq!(volume.next(), ENDPOINTS, "a file that was not there");
        volume.write("a.toml", "1")?;
        volume.write("unrelated", "x")?;
        volume.write("b", "2")?;
        std::fs::rename(volume.path("b"), volume.path("a.toml"))?;
        assert_eq!(volume.next(), CONFIG, "renamed over");
        volume.write("conf.d/new.toml", "")?;
        assert_eq!(volume.next(), CONFIG, "one more in the folder");
        std::fs::remove_file(volume.path("e"))?;
        assert_eq!(volume.next(), ENDPOINTS, "gone");
        assert!(volume.changes.try_recv().is_err(), "each is told once");
        Ok(())
    }
}
