//! `.if` and its kin as HAProxy evaluates them (configuration manual, section 2.4): a small language over the
//! environment and over what a build of HAProxy is and can.

/// What a condition comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It holds, or not, whatever HAProxy reads it.
    Known(bool),
    /// It asks about the HAProxy that reads it: the answer is that of [`VERSION`].
    Assumed(bool),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// The version that is assumed where a source asks for one.
pub(super) const VERSION: [u32; 3] = [3, 2, 0];
/// What that build is assumed to have.
const FEATURES: [&str; 8] =
    ["OPENSSL", "LUA", "PCRE2", "PCRE2_JIT", "ZLIB", "PROMEX", "LINUX_SPLICE", "SYSTEMD"];
/// Deeper nesting of parentheses is refused.
const DEPTH_MAX: usize = 32;

/// Evaluates what stands behind `.if`, its variables already put in.
#[must_use]
pub(super) fn evaluate(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Answer {
    let mut parser = Parser { rest: text.trim(), environment, assumed: false, depth: 0 };
    match parser.alternatives() {
        Ok(_) if !parser.rest.trim().is_empty() => {
            Answer::Unreadable(format!("`{}` is left over", parser.rest.trim()))
        }
        Ok(holds) if parser.assumed => Answer::Assumed(holds),
        Ok(holds) => Answer::Known(holds),
        Err(what) => Answer::Unreadable(what),
    }
}

struct Parser<'a> {
    rest: &'a str,
    environment: &'a dyn Fn(&str) -> Option<String>,
    assumed: bool,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn alternatives(&mut self) -> Result<bool, String> {
        let mut holds = self.conjunction()?;
        while self.take("||") {
            holds |= self.conjunction()?;
        }
        Ok(holds)
    }

    fn conjunction(&mut self) -> Result<bool, String> {
        let mut holds = self.term()?;
        while self.take("&&") {
            holds &= self.term()?;
        }
        Ok(holds)
    }

    fn term(&mut self) -> Result<bool, String> {
        let mut negated = false;
        while self.take("!") {
            negated = !negated;
        }
        if self.take("(") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err("it is nested too deeply".to_owned());
            }
            let holds = self.alternatives()?;
            self.depth -= 1;
            return if self.take(")") { Ok(holds != negated) } else { Err("a `)` is missing".to_owned()) };
        }
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let holds = if self.rest.starts_with('(') {
            let inside = self.rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            let Some((arguments, rest)) = inside else { return Err("a `)` is missing".to_owned()) };
            self.rest = rest;
            let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
            self.predicate(word, &arguments)?
        } else {
            match word {
                "" => return Err("a condition is missing".to_owned()),
                "true" => true,
                "false" => false,
                // A number, as atol() reads it: anything else is 0.
                word => word.parse::<i64>().is_ok_and(|number| number != 0),
            }
        };
        Ok(holds != negated)
    }

    fn predicate(&mut self, name: &str, arguments: &[&str]) -> Result<bool, String> {
        let text = |at: usize| arguments.get(at).copied().unwrap_or("");
        Ok(match name {
            "defined" => (self.environment)(text(0)).is_some(),
            "streq" => text(0) == text(1),
            "strneq" => text(0) != text(1),
            "strstr" => text(0).contains(text(1)),
            "feature" => self.assume(FEATURES.contains(&text(0))),
            "enabled" => self.assume(true),
            "version_atleast" => self.assume(version(text(0)) <= VERSION),
            "version_before" => self.assume(version(text(0)) > VERSION),
            "openssl_version_atleast" => self.assume(true),
            "openssl_version_before" | "awslc_api_atleast" | "awslc_api_before" => self.assume(false),
            "ssllib_name_startswith" => self.assume("OpenSSL".starts_with(text(0))),
            _ => return Err(format!("there is no predicate `{name}`")),
        })
    }

    const fn assume(&mut self, holds: bool) -> bool {
        self.assumed = true;
        holds
    }
}

/// `2.6.12`, `2.8-dev3`: what is not written is 0.
fn version(text: &str) -> [u32; 3] {
    let number = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let mut parts = text.split('.').map(number);
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &Answer) {
        let environment = |name: &str| (name == "SET").then(|| "1".to_owned());
        assert_eq!(evaluate(text, &environment), *want, "{text}");
    }

    #[test]
    fn conditions_are_evaluated_as_haproxy_does() {
        for (text, holds) in [
            ("1", true),
            ("0", false),
            ("abc", false),
            ("defined(SET)", true),
            ("!defined(SET)", false),
            ("defined(UNSET) || streq(a,a)", true),
            ("streq(a,b) || strneq(a,b) && 0", false),
            ("!(0 || 0) && strstr(haproxy,prox)", true),
        ] {
            check(text, &Answer::Known(holds));
        }
        check("version_atleast(2.4-dev19)", &Answer::Assumed(true));
        check("version_before(2.4)", &Answer::Assumed(false));
        check("feature(OPENSSL) && !feature(NONE)", &Answer::Assumed(true));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for text in ["", "(1", "streq(a", "nothing(1)", "1 1", &"(".repeat(5000)] {
            assert!(matches!(evaluate(text, &|_| None), Answer::Unreadable(_)), "{text}");
        }
    }
}
