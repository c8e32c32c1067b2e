//! Files of secrets, one a line, for session tickets and sticky cookies: shared by the nodes that are to take each other's.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Bytes of a file of secrets; anything larger is something else.
const FILE_MAX: u64 = 64 * 1024;

/// The shortest secret, in bytes as it stands.
const SECRET_MIN: usize = 32;

/// Secrets of a file; each makes a ticket or cookie that is not ours a little dearer to look at.
const SECRETS_MAX: usize = 16;

/// The secrets of a file, at least one: the first makes tickets or signs cookies, all are accepted.
///
/// # Errors
/// What is wrong with the file, in words; a secret is never part of them.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("it has more than {FILE_MAX} bytes"));
    }
    let mut secrets = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() {
            continue;
        }
        if line.len() < SECRET_MIN {
            return Err(format!("the key of line {number} has less than {SECRET_MIN} bytes"));
        }
        secrets.push(line.as_bytes().to_vec());
    }
    match secrets.len() {
        0 => Err("it has no key".to_owned()),
        1..=SECRETS_MAX => Ok(secrets),
        _ => Err(format!("it has more than {SECRETS_MAX} keys")),
    }
}

/// Whether a file can be read as secrets.
///
/// # Errors
/// As [`read`].
pub fn check(path: &Path) -> Result<(), String> {
    read(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_secret_a_line_and_says_what_is_wrong_without_telling_it() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("keys");
        let of = |text: &str| std::fs::write(&path, text).map(|()| read(&path));
        let (one, two) = ("a".repeat(32), "b".repeat(64));
        assert_eq!(of(&format!("{one}\n\n {two}\r\n"))?, Ok(vec![one.clone().into(), two.into()]));
        for text in ["", "\n\n", "secret", &format!("{one}\nsecret")] {
            let wrong = of(text)?;
            assert!(wrong.as_ref().is_err_and(|what| !what.contains("secret")), "{wrong:?}");
        }
        assert!(of(&format!("{one}\n").repeat(17))?.is_err());
        Ok(())
    }
}
