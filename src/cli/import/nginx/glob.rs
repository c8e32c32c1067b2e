//! Files that a source includes: by name, or by a pattern as glob(3) reads it.

use std::path::{Path, PathBuf};

use super::super::surroundings::Surroundings;

/// Folders that nginx has its configuration in; a source that was copied from one has the same files beside it.
const HOMES: [&str; 4] =
    ["/etc/nginx/", "/usr/local/etc/nginx/", "/usr/local/nginx/conf/", "/opt/nginx/conf/"];
/// One pattern includes no more files than this.
const FILES_MAX: usize = 2_000;

/// The same name beside the source, then the name as it is.
fn candidates(name: &str) -> impl Iterator<Item = PathBuf> {
    let beside = HOMES.iter().find_map(|home| name.strip_prefix(home)).map(PathBuf::from);
    beside.into_iter().chain([PathBuf::from(name)])
}

/// The files that a pattern means; of a plain name that one.
pub(super) fn files(pattern: &str, around: Surroundings<'_>) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?', '[']) {
        return vec![PathBuf::from(pattern)];
    }
    for path in candidates(pattern) {
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(all) = (around.list)(folder) else { continue };
        let fits = |file: &PathBuf| {
            let own = file.file_name().and_then(|own| own.to_str()).unwrap_or("");
            (!own.starts_with('.') || name.starts_with('.')) && matches(name, own)
        };
        return all.into_iter().filter(fits).take(FILES_MAX).collect();
    }
    Vec::new()
}

/// The text of a file.
pub(super) fn read(name: &Path, around: Surroundings<'_>) -> Option<String> {
    candidates(name.to_str()?).find_map(|path| (around.read)(&path))
}

/// Whether a name fits a pattern of `*`, `?` and `[...]`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last star stands, and how much of the name it has eaten so far.
    let (mut p, mut n, mut star): (usize, usize, Option<(usize, usize)>) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(_) if one(&pattern, p, name.get(n).copied()).is_some() => {
                p = one(&pattern, p, name.get(n).copied()).unwrap_or(p + 1);
                n += 1;
            }
            _ => match star {
                Some((at, eaten)) => {
                    star = Some((at, eaten + 1));
                    (p, n) = (at + 1, eaten + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}

/// What is behind the part of a pattern at `at`, when that takes `c`.
fn one(pattern: &[char], at: usize, c: Option<char>) -> Option<usize> {
    let c = c?;
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => {
            let end = at + 2 + pattern.get(at + 2..)?.iter().position(|c| *c == ']')?;
            let mut set = pattern.get(at + 1..end)?;
            let negated = matches!(set.first(), Some('!' | '^'));
            set = set.get(usize::from(negated)..)?;
            let mut hit = false;
            while let [first, rest @ ..] = set {
                set = match rest {
                    ['-', last, rest @ ..] => {
                        hit |= (*first..=*last).contains(&c);
                        rest
                    }
                    rest => {
                        hit |= *first == c;
                        rest
                    }
                };
            }
            (hit != negated).then_some(end + 1)
        }
        own => (*own == c).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_has_them() {
        for (pattern, name, want) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("[0-9]*-?.conf", "10-a.conf", true),
            ("[!a]*", "abc", false),
            ("*a*b*", "xxayybzz", true),
            ("*", "", true),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
