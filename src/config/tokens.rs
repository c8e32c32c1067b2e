//! Files of bearer tokens for the admin API: one a line, all valid, so that one can take the place of another.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Bytes of a file of tokens; anything larger is something else.
const FILE_MAX: u64 = 64 * 1024;

/// The shortest token: 16 random characters are beyond guessing.
const TOKEN_MIN: usize = 16;

/// The tokens of a file, at least one.
///
/// # Errors
/// What is wrong with the file, in words; a token is never part of them.
pub fn read(path: &Path) -> Result<Vec<String>, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("it has more than {FILE_MAX} bytes"));
    }
    let mut tokens = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() {
            continue;
        }
        if line.len() < TOKEN_MIN {
            return Err(format!("the token of line {number} has less than {TOKEN_MIN} characters"));
        }
        if let Some(wrong) = line.chars().find(|&c| !is_token68(c)) {
            return Err(format!("a token has letters, digits and -._~+/=, and line {number} has {wrong:?}"));
        }
        tokens.push(line.to_owned());
    }
    if tokens.is_empty() { Err("it has no token".to_owned()) } else { Ok(tokens) }
}

/// What a bearer token is made of (`b64token` of RFC 6750 section 2.1).
fn is_token68(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/=".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_token_a_line_and_says_what_is_wrong_without_telling_it() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("tokens");
        let of = |text: &str| std::fs::write(&path, text).map(|()| read(&path));
        let (one, two) = ("0123456789abcdef", "QUJDREVGR0hJSktMTU5P==");
        assert_eq!(of(&format!("{one}\n\n {two}\r\n"))?, Ok(vec![one.to_owned(), two.to_owned()]));
        for text in ["", "\n\n", "secret", "secret secret secret", "secret-secret-s\u{e9}cret"] {
            let wrong = of(text)?;
            assert!(wrong.as_ref().is_err_and(|what| !what.contains("secret")), "{wrong:?}");
        }
        assert!(of(&"0123456789abcdef\n".repeat(5000))?.is_err());
        assert!(read(folder.path()).is_err());
        Ok(())
    }
}
