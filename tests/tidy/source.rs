//! One text file of the repository, split into code, comments and literals, so that a rule never trips over a
//! word inside a string; which rules there are is `tests/tidy.rs`'s business.

/// What a byte of a Rust file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// A file under check.
pub(crate) struct Source {
    /// Path from the root of the repository, with forward slashes.
    pub(crate) path: String,
    /// The text as it stands.
    pub(crate) text: String,
    /// The text with comments and the insides of literals blanked out; same length, same lines.
    pub(crate) code: String,
    /// The text with everything but comments blanked out; same length, same lines.
    pub(crate) comments: String,
    /// Byte offset at which the trailing `#[cfg(test)] mod` starts; the length of the text when there is none.
    tests_at: usize,
}

/// One path that a `use` declaration or an expression names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Segments such as `crate`, `policy`, `retry`.
    pub(crate) segments: Vec<String>,
    /// Byte offset in the file.
    pub(crate) at: usize,
    /// The path is offered on to others (`pub use`, in any visibility but private).
    pub(crate) reexport: bool,
    /// The path stands in a `use` declaration.
    pub(crate) imported: bool,
}

/// The lines of one function.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Line of the word `fn`, from 1.
    pub(crate) line: usize,
    /// Lines from the word `fn` to the closing brace, both included.
    pub(crate) lines: usize,
}

impl Source {
    /// Splits `text`; a file that is no Rust counts as comment and code at once.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) =
            if path.ends_with(".rs") { split(text) } else { (text.to_owned(), text.to_owned()) };
        let whole_file_is_tests =
            !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/");
        let tests_at = if whole_file_is_tests { 0 } else { start_of_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, comments, tests_at }
    }

    /// Whether the file is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Line of a byte offset, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Whether the byte offset is in test code: after the trailing test module starts, or outside `src/`.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        at >= self.tests_at
    }

    /// Lines before the tests of a file in `src/`; all lines elsewhere.
    pub(crate) fn lines_before_tests(&self) -> usize {
        let end = if self.path.starts_with("src/") { self.tests_at } else { self.text.len() };
        self.text[..end].lines().count()
    }

    /// Every path that starts at a name: the leaves of `use` trees, and paths written out in code.
    pub(crate) fn named(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut skip_to = 0;
        for (at, word) in words(&self.code) {
            if at < skip_to {
                continue;
            }
            if word == "use" && is_use_declaration(&self.code, at) {
                let end = self.code[at..].find(';').map_or(self.code.len(), |offset| at + offset);
                let reexport = is_visible(&self.code[..at]);
                expand(&self.code, (at + 3, end), &[], &mut |segments, at| {
                    found.push(Named { segments, at, reexport, imported: true });
                });
                skip_to = end;
            } else if is_start_of_path(&self.code, at) {
                let segments = path_from(&self.code[at..]);
                if segments.len() > 1 {
                    found.push(Named { segments, at, reexport: false, imported: false });
                }
            }
        }
        found
    }

    /// Every function that has a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, word) in words(&self.code) {
            let Some(name) = words(&self.code[at + word.len()..]).next() else { continue };
            // `fn(u8) -> u8` is a type: its next word does not follow directly.
            if word != "fn" || !self.code[at + 2..at + 2 + name.0].trim().is_empty() {
                continue;
            }
            if let Some((_, end)) = body(&self.code, at) {
                let line = self.line(at);
                let lines = self.line(end) - line + 1;
                found.push(Function { name: name.1.to_owned(), line, lines });
            }
        }
        found
    }
}

/// Code and comments of a Rust text, each with everything else blanked out.
fn split(text: &str) -> (String, String) {
    let kinds = kinds(text.as_bytes());
    let keep = |kind: Kind| {
        let byte = |(&byte, &its): (&u8, &Kind)| if its == kind || byte == b'\n' { byte } else { b' ' };
        let bytes: Vec<u8> = text.as_bytes().iter().zip(&kinds).map(byte).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (keep(Kind::Code), keep(Kind::Comment))
}

/// The kind of every byte; quotation marks count as code, so that a literal stays visible as `""`.
fn kinds(text: &[u8]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let (kind, from, to, next) = token(text, at);
        kinds[from.min(text.len())..to.min(text.len())].fill(kind);
        at = next.max(at + 1);
    }
    kinds
}

/// The comment or literal that starts at `at`: its kind, the bytes that have it, and where to go on.
fn token(text: &[u8], at: usize) -> (Kind, usize, usize, usize) {
    let rest = &text[at..];
    if rest.starts_with(b"//") {
        let end = at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        return (Kind::Comment, at, end, end);
    }
    if rest.starts_with(b"/*") {
        let end = at + block_comment(rest);
        return (Kind::Comment, at, end, end);
    }
    let after_name = at > 0 && is_word(text[at - 1]);
    if !after_name && let Some((open, hashes)) = raw_string(rest) {
        let mut close = vec![b'"'];
        close.resize(hashes + 1, b'#');
        let inside = rest[open..].windows(close.len()).position(|window| window == close);
        let end = at + open + inside.unwrap_or(rest.len() - open);
        return (Kind::Literal, at + open, end, end + close.len());
    }
    match rest[0] {
        b'"' => {
            let end = at + 1 + unescaped(&rest[1..], b'"');
            (Kind::Literal, at + 1, end, end + 1)
        }
        b'\'' if is_char_literal(rest) => {
            let end = at + 1 + unescaped(&rest[1..], b'\'');
            (Kind::Literal, at + 1, end, end + 1)
        }
        _ => (Kind::Code, at, at + 1, at + 1),
    }
}

/// Length of the (nested) block comment that `rest` starts with.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Offset of the first byte inside a raw string that `rest` starts with, and its number of hashes.
fn raw_string(rest: &[u8]) -> Option<(usize, usize)> {
    let prefix = [&b"r"[..], b"br", b"cr"].into_iter().find(|prefix| rest.starts_with(prefix))?.len();
    let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    (rest.get(prefix + hashes) == Some(&b'"')).then_some((prefix + hashes + 1, hashes))
}

/// Offset of the first `end` that no backslash escapes.
fn unescaped(rest: &[u8], end: u8) -> usize {
    let mut at = 0;
    while at < rest.len() && rest[at] != end {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at.min(rest.len())
}

/// A quote opens a character rather than a lifetime when it closes again after one (perhaps escaped) character.
fn is_char_literal(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(&first) => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            rest.get(1 + width) == Some(&b'\'')
        }
        None => false,
    }
}

/// Where the file's trailing test module starts, at its attribute.
fn start_of_tests(code: &str) -> usize {
    let attribute = "#[cfg(test)]";
    code.match_indices(attribute)
        .find(|(at, _)| {
            let at_margin = *at == 0 || code.as_bytes()[at - 1] == b'\n';
            let next = code[at + attribute.len()..].trim_start();
            // `mod tests;` only points to a file of its own.
            let inline = next.find('{').unwrap_or(usize::MAX) < next.find(';').unwrap_or(usize::MAX);
            at_margin && inline && next.starts_with("mod ")
        })
        .map_or(code.len(), |(at, _)| at)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Words (names, keywords, numbers) with their byte offsets.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += code.as_bytes()[at..].iter().position(|&byte| is_word(byte))?;
        let start = at;
        at += code.as_bytes()[at..].iter().position(|&byte| !is_word(byte)).unwrap_or(code.len() - at);
        Some((start, &code[start..at]))
    })
}

/// `use` is also a word of `impl Trait + use<'a>`.
fn is_use_declaration(code: &str, at: usize) -> bool {
    !code[at + 3..].trim_start().starts_with('<')
}

/// Whether the code before a `use` ends in a visibility.
fn is_visible(before: &str) -> bool {
    let before = before.trim_end();
    before.ends_with("pub")
        || (before.ends_with(')')
            && before.rfind('(').is_some_and(|open| before[..open].trim_end().ends_with("pub")))
}

/// Whether the word at `at` is the first segment of its path.
fn is_start_of_path(code: &str, at: usize) -> bool {
    let before = code[..at].trim_end();
    if let Some(outer) = before.strip_suffix("::") {
        // `::name::x` names an outside crate, `<T as Trait>::x` and `a::x` go on with a path.
        return !outer.ends_with(|last: char| last.is_alphanumeric() || "_>".contains(last));
    }
    !before.ends_with('.') || before.ends_with("..")
}

/// Segments of the path that `code` starts with.
fn path_from(code: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = code;
    while let Some((0, word)) = words(rest).next() {
        segments.push(word.to_owned());
        let Some(next) = rest[word.len()..].trim_start().strip_prefix("::") else { break };
        rest = next.trim_start();
    }
    segments
}

/// Calls `leaf` with every path of the `use` tree in the byte range.
fn expand(
    code: &str,
    (from, to): (usize, usize),
    prefix: &[String],
    leaf: &mut impl FnMut(Vec<String>, usize),
) {
    for (from, to) in branches(code, from, to) {
        let tree = &code[from..to];
        let indent = tree.len() - tree.trim_start().trim_start_matches("::").len();
        let mut segments = prefix.to_vec();
        segments.extend(path_from(&tree[indent..]));
        match (tree.find('{'), tree.rfind('}')) {
            (Some(open), Some(close)) => expand(code, (from + open + 1, from + close), &segments, leaf),
            _ if tree.trim().is_empty() => {}
            _ => leaf(segments, from + indent),
        }
    }
}

/// Byte ranges of the parts of a `use` tree that commas outside its braces divide.
fn branches(code: &str, from: usize, to: usize) -> Vec<(usize, usize)> {
    let (mut depth, mut start, mut found) = (0, from, Vec::new());
    for at in from..to {
        match code.as_bytes()[at] {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.push((start, at));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push((start, to));
    found
}

/// Offsets of the braces of the body that belongs to the `fn` at `at`; `None` for a declaration without one.
fn body(code: &str, at: usize) -> Option<(usize, usize)> {
    let (mut brackets, mut braces, mut open) = (0, 0, None);
    for (offset, byte) in code.as_bytes()[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' if open.is_none() => brackets += 1,
            b')' | b']' if open.is_none() => brackets -= 1,
            b';' if open.is_none() && brackets == 0 => return None,
            b'{' if open.is_some() || brackets == 0 => {
                open = open.or(Some(at + offset));
                braces += 1;
            }
            b'}' if open.is_some() => {
                braces -= 1;
                if braces == 0 {
                    return open.map(|open| (open, at + offset));
                }
            }
            _ => {}
        }
    }
    None
}
