//! The words of a line as HAProxy reads them (configuration manual, sections 2.2 and 2.3): quotes, escapes, comments,
//! and the environment in double quotes.

/// What a line could not be read for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    /// A quote that is opened and never closed.
    #[error("the quote {0} is not closed in this line")]
    Quote(char),
    /// `${NAME` without its brace.
    #[error("the brace of ${{{0} is not closed")]
    Brace(String),
    /// More words than any line needs.
    #[error("the line has more than {WORDS_MAX} words")]
    Long,
}

/// A line, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Its words; none in an empty line.
    pub(super) words: Vec<String>,
    /// Variables that it names, that have no value here and no default there.
    pub(super) unset: Vec<String>,
}

/// HAProxy's own limit is 64; lists of certificates and networks of later versions go beyond.
const WORDS_MAX: usize = 4096;

/// Reads a line; `environment` gives the values of variables.
///
/// # Errors
/// [`LineError`] for what HAProxy would not read either.
pub(super) fn read_line(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Line, LineError> {
    let mut reader = Reader { rest: text, line: Line::default(), word: None, environment };
    reader.read()?;
    Ok(reader.line)
}

/// Puts the environment into a text without quotes, as HAProxy does in addresses.
///
/// # Errors
/// [`LineError::Brace`].
pub(super) fn expand(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, LineError> {
    let mut reader = Reader { rest: text, line: Line::default(), word: Some(String::new()), environment };
    while let Some(c) = reader.next() {
        if c == '$' { reader.variable()? } else { reader.push(c) }
    }
    unset.append(&mut reader.line.unset);
    Ok(reader.word.unwrap_or_default())
}

struct Reader<'a> {
    rest: &'a str,
    line: Line,
    /// The word that is being read; nothing between words.
    word: Option<String>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) -> Result<(), LineError> {
        if let Some(word) = self.word.take() {
            if self.line.words.len() >= WORDS_MAX {
                return Err(LineError::Long);
            }
            self.line.words.push(word);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), LineError> {
        while let Some(c) = self.next() {
            match c {
                '#' => break,
                '\'' => self.strong()?,
                '"' => self.weak()?,
                '\\' => self.escape(false),
                c if c.is_ascii_whitespace() => self.end_word()?,
                c => self.push(c),
            }
        }
        self.end_word()
    }

    /// Inside single quotes nothing is special.
    fn strong(&mut self) -> Result<(), LineError> {
        let Some((inside, rest)) = self.rest.split_once('\'') else { return Err(LineError::Quote('\'')) };
        self.word.get_or_insert_default().push_str(inside);
        self.rest = rest;
        Ok(())
    }

    fn weak(&mut self) -> Result<(), LineError> {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                None => return Err(LineError::Quote('"')),
                Some('"') => return Ok(()),
                Some('\\') => self.escape(true),
                Some('$') => self.variable()?,
                Some(c) => self.push(c),
            }
        }
    }

    /// What HAProxy does not know as an escape keeps its backslash, so that regular expressions can be written.
    fn escape(&mut self, quoted: bool) {
        let special = match self.rest.chars().next() {
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some(c @ (' ' | '\\' | '#' | '"')) => Some(c),
            Some('\'') if !quoted => Some('\''),
            Some('$') if quoted => Some('$'),
            Some('x') => self.hexadecimal(),
            _ => None,
        };
        match special {
            Some(c) => {
                self.next();
                self.push(c);
            }
            None => self.push('\\'),
        }
    }

    /// `\x41`, of which all but the `x` is taken here; bytes above ASCII are kept as the escape that they are.
    fn hexadecimal(&mut self) -> Option<char> {
        let digits = self.rest.get(1..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?;
        self.rest = self.rest.get(2..).unwrap_or_default();
        Some(char::from(byte))
    }

    /// `$NAME`, `${NAME}` or `${NAME-default}`; `${NAME[*]}` makes words of a value.
    fn variable(&mut self) -> Result<(), LineError> {
        let braced = self.rest.strip_prefix('{');
        let text = braced.unwrap_or(self.rest);
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, mut behind) = text.split_at(end);
        let (mut default, mut words) = (None, false);
        if braced.is_some() {
            if let Some(rest) = behind.strip_prefix("[*]") {
                (behind, words) = (rest, true);
            }
            let Some((inside, rest)) = behind.split_once('}') else {
                return Err(LineError::Brace(name.to_owned()));
            };
            default = inside.strip_prefix('-').map(str::to_owned);
            behind = rest;
        } else if name.is_empty() {
            self.push('$');
            return Ok(());
        }
        let value = (self.environment)(name).or(default);
        if value.is_none() {
            self.line.unset.push(name.to_owned());
        }
        self.rest = behind;
        let value = value.unwrap_or_default();
        if !words {
            self.word.get_or_insert_default().push_str(&value);
            return Ok(());
        }
        for (index, word) in value.split_ascii_whitespace().enumerate() {
            if index > 0 {
                self.end_word()?;
            }
            self.word.get_or_insert_default().push_str(word);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.1".to_owned()),
            "LIST" => Some("a b".to_owned()),
            _ => None,
        }
    }

    fn check(line: &str, want: &[&str]) {
        let read = read_line(line, &environment).expect("it can be read");
        assert_eq!(read.words, want, "{line}");
    }

    #[test]
    fn words_are_read_as_haproxy_reads_them() {
        check("  server a 10.0.0.1:80\tcheck # all of it", &["server", "a", "10.0.0.1:80", "check"]);
        check(r"a\ b c\#d e\\f", &["a b", "c#d", r"e\f"]);
        check(r"acl x path_reg ^/a\.(b|c)$", &["acl", "x", "path_reg", r"^/a\.(b|c)$"]);
        check(r#"send "PING\r\n" '$HOST \r' """#, &["send", "PING\r\n", r"$HOST \r", ""]);
        check(r#"a"b c"'d e'f"#, &["ab cd ef"]);
        check(r"\x41\x4a\xzz\xc3", &[r"AJ\xzz\xc3"]);
        check("", &[]);
        check("#only", &[]);
    }

    #[test]
    fn the_environment_is_put_in_between_double_quotes_only() {
        check(r#""$HOST:80" "${HOST}x" $HOST '$HOST'"#, &["10.0.0.1:80", "10.0.0.1x", "$HOST", "$HOST"]);
        check(r#""${NONE-a b}" "${LIST[*]}" "a$" "\$HOST""#, &["a b", "a", "b", "a$", "$HOST"]);
        let read = read_line(r#"bind "$NONE:80""#, &environment);
        assert_eq!(
            read.map(|line| (line.words, line.unset)),
            Ok((vec!["bind".to_owned(), ":80".to_owned()], vec!["NONE".to_owned()]))
        );
        let mut unset = Vec::new();
        assert_eq!(expand("*:${PORT-80}$HOST", &environment, &mut unset).as_deref(), Ok("*:8010.0.0.1"));
        assert!(unset.is_empty());
    }

    #[test]
    fn what_is_never_closed_is_an_error() {
        assert_eq!(read_line("a 'b", &environment), Err(LineError::Quote('\'')));
        assert_eq!(read_line("a \"b\\\"", &environment), Err(LineError::Quote('"')));
        assert_eq!(read_line("\"${A", &environment), Err(LineError::Brace("A".to_owned())));
    }
}
