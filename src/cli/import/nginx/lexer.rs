//! The words of a file, as nginx cuts them (`ngx_conf_read_token`): quotes, backslashes, comments, and the three signs that end
//! a directive.

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, without the quotes around it.
    Word(String),
    /// `{`.
    Open,
    /// `}`.
    Close,
    /// `;`.
    End,
}

/// What nginx would not read, and on which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) what: &'static str,
}

/// The parts of a file with the lines that they begin on.
pub(super) struct Lexer<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
    pub(super) faults: Vec<Fault>,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { rest: text.chars().peekable(), line: 1, faults: Vec::new() }
    }

    /// The line that is read.
    pub(super) const fn line(&self) -> usize {
        self.line
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    /// The next part, and its line.
    pub(super) fn next(&mut self) -> Option<(Token, usize)> {
        loop {
            match *self.rest.peek()? {
                c if c.is_ascii_whitespace() => drop(self.take()),
                '#' => while self.take().is_some_and(|c| c != '\n') {},
                _ => break,
            }
        }
        let line = self.line;
        let token = match self.take()? {
            '{' => Token::Open,
            '}' => Token::Close,
            ';' => Token::End,
            quote @ ('"' | '\'') => Token::Word(self.quoted(quote)),
            first => Token::Word(self.plain(first)),
        };
        Some((token, line))
    }

    fn quoted(&mut self, quote: char) -> String {
        let (start, mut out) = (self.line, String::new());
        loop {
            match self.take() {
                None => {
                    self.faults.push(Fault { line: start, what: "a quote is not closed" });
                    return out;
                }
                Some('\\') => self.escaped(&mut out),
                Some(c) if c == quote => break,
                Some(c) => out.push(c),
            }
        }
        let ends = |c: &char| c.is_ascii_whitespace() || matches!(c, ';' | '{' | ')');
        if self.rest.peek().is_some_and(|c| !ends(c)) {
            self.faults.push(Fault { line: self.line, what: "there has to be a space behind a quoted word" });
        } else if self.rest.peek() == Some(&')') {
            // As in `if ($a = "b")`: the word goes on behind its quotes.
            while let Some(')') = self.rest.peek() {
                self.take();
                out.push(')');
            }
        }
        out
    }

    fn plain(&mut self, first: char) -> String {
        let mut out = String::new();
        let mut variable;
        let mut next = Some(first);
        while let Some(c) = next {
            match c {
                '\\' => {
                    self.escaped(&mut out);
                    variable = false;
                }
                c => {
                    variable = c == '$';
                    out.push(c);
                }
            }
            let ends = match self.rest.peek() {
                None => true,
                Some('{') => !variable,
                Some(c) => c.is_ascii_whitespace() || *c == ';',
            };
            next = if ends { None } else { self.take() };
        }
        out
    }

    /// What stands behind a backslash.
    fn escaped(&mut self, out: &mut String) {
        match self.take() {
            None => out.push('\\'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('n') => out.push('\n'),
            Some(c @ ('"' | '\'' | '\\')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
        }
    }

    /// Leaves out what stands in braces whose first one has been read, in another language than nginx's.
    pub(super) fn skip_block(&mut self) {
        let mut depth = 1_usize;
        while let Some(c) = self.take() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
        self.faults.push(Fault { line: self.line, what: "a block is not closed" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text);
        let mut out = Vec::new();
        while let Some((token, line)) = lexer.next() {
            out.push(match token {
                Token::Word(word) => format!("{line}:{word}"),
                other => format!("{line}:{other:?}"),
            });
        }
        out
    }

    #[test]
    fn words_are_cut_as_nginx_does() {
        assert_eq!(words("a b; # c\n d{"), ["1:a", "1:b", "1:End", "2:d", "2:Open"]);
        assert_eq!(words(r#""a b" 'c"d';"#), ["1:a b", "1:c\"d", "1:End"]);
        assert_eq!(words(r"~ ^/a\.b\\c$ {}"), ["1:~", r"1:^/a\.b\c$", "1:Open", "1:Close"]);
        assert_eq!(words("${a}b a#b $x{"), ["1:${a}b", "1:a#b", "1:$x", "1:Open"]);
        assert_eq!(words("if ($a = \"b c\") {"), ["1:if", "1:($a", "1:=", "1:b c)", "1:Open"]);
        assert_eq!(words("a 'x\ny' b"), ["1:a", "1:x\ny", "2:b"]);
    }

    #[test]
    fn what_is_not_closed_is_told() {
        let mut lexer = Lexer::new("a 'b");
        while lexer.next().is_some() {}
        assert_eq!(lexer.faults.len(), 1);
    }
}
