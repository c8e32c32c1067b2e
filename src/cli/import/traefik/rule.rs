//! Rules of routers: calls of matchers with `&&`, `||`, `!` and parentheses, in the syntax of Go's expressions.

/// A rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// A matcher and what it is asked.
    Call(String, Vec<String>),
    /// All must hold.
    All(Vec<Self>),
    /// One must hold.
    Any(Vec<Self>),
    /// It must not hold.
    Not(Box<Self>),
}

/// Deeper nesting is refused.
const DEPTH_MAX: usize = 64;

/// Reads a rule.
///
/// # Errors
/// What Traefik does not understand of it.
pub(super) fn parse(text: &str) -> Result<Rule, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, depth: 0 };
    let rule = parser.any()?;
    match parser.tokens.first() {
        None => Ok(rule),
        Some(token) => Err(format!("`{}` is left over", token.show())),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(&'static str),
    /// A line break where Go ends a statement.
    Break,
}

impl Token {
    fn show(&self) -> &str {
        match self {
            Self::Word(text) | Self::Text(text) => text,
            Self::Sign(sign) => sign,
            Self::Break => "a new line",
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_end();
    while let Some(c) = rest.chars().next() {
        let behind = rest.get(c.len_utf8()..).unwrap_or("");
        let sign = ["&&", "||", "!", "(", ")", ","].into_iter().find(|sign| rest.starts_with(sign));
        if let Some(sign) = sign {
            out.push(Token::Sign(sign));
            rest = rest.get(sign.len()..).unwrap_or("");
        } else if c == '\n' {
            let ends = matches!(out.last(), Some(Token::Word(_) | Token::Text(_) | Token::Sign(")")));
            if ends {
                out.push(Token::Break);
            }
            rest = behind;
        } else if c.is_whitespace() {
            rest = behind;
        } else if c == '`' {
            let (inside, after) = behind.split_once('`').ok_or("a ` is not closed")?;
            out.push(Token::Text(inside.to_owned()));
            rest = after;
        } else if c == '"' {
            let (inside, after) = quoted(behind)?;
            out.push(Token::Text(inside));
            rest = after;
        } else if c == '\'' {
            return Err("texts stand in ` or \", not in '".to_owned());
        } else if c.is_alphanumeric() || c == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            out.push(Token::Word(word.to_owned()));
            rest = after;
        } else {
            return Err(format!("`{c}` means nothing here"));
        }
    }
    Ok(out)
}

/// A text in double quotes up to the closing one, and what is behind that.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, text.get(at + 1..).unwrap_or(""))),
            '\n' => break,
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(c @ ('\\' | '"')) => out.push(c),
                Some(c) => {
                    return Err(format!("`\\{c}` is no escape of a text in double quotes; in ` it is plain"));
                }
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a \" is not closed".to_owned())
}

struct Parser<'t> {
    tokens: &'t [Token],
    depth: usize,
}

impl Parser<'_> {
    fn sign(&mut self, sign: &str) -> bool {
        match self.tokens.split_first() {
            Some((Token::Sign(found), rest)) if *found == sign => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn any(&mut self) -> Result<Rule, String> {
        let mut parts = vec![self.all()?];
        while self.sign("||") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Rule::Any))
    }

    fn all(&mut self) -> Result<Rule, String> {
        let mut parts = vec![self.one()?];
        while self.sign("&&") {
            parts.push(self.one()?);
        }
        Ok(one_or(parts, Rule::All))
    }

    fn one(&mut self) -> Result<Rule, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("it is nested too deeply".to_owned());
        }
        let rule = self.operand();
        self.depth -= 1;
        rule
    }

    fn operand(&mut self) -> Result<Rule, String> {
        if self.sign("!") {
            return Ok(Rule::Not(Box::new(self.one()?)));
        }
        if self.sign("(") {
            let inside = self.any()?;
            return if self.sign(")") { Ok(inside) } else { Err("a `)` is missing".to_owned()) };
        }
        let Some((Token::Word(name), rest)) = self.tokens.split_first() else {
            let found = self.tokens.first().map_or("the end", Token::show);
            return Err(format!("a matcher is missing before {found}"));
        };
        self.tokens = rest;
        if !self.sign("(") {
            return Err(format!("`{name}` is no matcher with its values"));
        }
        let mut values = Vec::new();
        while !self.sign(")") {
            let Some((Token::Text(value), rest)) = self.tokens.split_first() else {
                return Err("values of a matcher are texts in `, with commas between them".to_owned());
            };
            values.push(value.clone());
            self.tokens = rest;
            if !self.sign(",") && !matches!(self.tokens.first(), Some(Token::Sign(")"))) {
                return Err("a `)` is missing".to_owned());
            }
        }
        Ok(Rule::Call(name.clone(), values))
    }
}

fn one_or(mut parts: Vec<Rule>, many: fn(Vec<Rule>) -> Rule) -> Rule {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, value: &str) -> Rule {
        Rule::Call(name.to_owned(), vec![value.to_owned()])
    }

    #[test]
    fn rules_are_read_with_their_precedence() {
        let (a, b, c) = (call("Host", "a"), call("Path", "/b"), call("Path", "/c"));
        let inner = Rule::All(vec![a.clone(), b.clone()]);
        assert_eq!(parse("Host(`a`) && Path(`/b`) || Path(\"/c\")"), Ok(Rule::Any(vec![inner, c.clone()])));
        let inner = Rule::Any(vec![b, c]);
        assert_eq!(
            parse("Host(`a`)&&!( Path(`/b`)||Path(`/c`) )"),
            Ok(Rule::All(vec![a.clone(), Rule::Not(Box::new(inner))]))
        );
        assert_eq!(parse("Host(`a`) &&\n Host(`a`)\n"), Ok(Rule::All(vec![a.clone(), a])));
    }

    #[test]
    fn what_go_does_not_read_is_wrong() {
        for text in [
            "",
            "Host",
            "Host(",
            "Host(`a`",
            "Host('a')",
            "Host(`a`) Path(`/b`)",
            "Host(a)",
            "(Host(`a`)",
            "Host(`a`) &&",
            "Host(`a`)\n&& Path(`/b`)",
            "Host(\"\\d\")",
            "Host(`a`) & Path(`/`)",
            &"!(".repeat(5000),
            &"(".repeat(100_000),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
