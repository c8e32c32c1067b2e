//! Directives as a tree, each with its line: the source's files, and those that they include put where they are included.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::report::{Place, Report, Verdict};
use super::super::surroundings::Surroundings;
use super::glob;
use super::lexer::{Lexer, Token};

/// A directive.
#[derive(Debug, Clone)]
pub(super) struct Directive {
    /// Its number; what is included twice has one.
    pub(super) id: usize,
    pub(super) name: String,
    /// The words behind its name.
    pub(super) words: Vec<String>,
    pub(super) at: Place,
    /// What stands in its braces, if it has some.
    pub(super) block: Option<Vec<Self>>,
}

impl Directive {
    /// A word behind the name; empty where there is none.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// The words from one on.
    pub(super) fn from(&self, at: usize) -> &[String] {
        self.words.get(at..).unwrap_or_default()
    }

    /// What stands in its braces.
    pub(super) fn inside(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// The lines of a directive that has several.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: Place,
    end: usize,
    id: usize,
}

/// A source that has been read.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) root: Vec<Directive>,
    /// How many directives begin on each line.
    pub(super) crowds: HashMap<Place, usize>,
    /// How many directives there are.
    pub(super) count: usize,
    spans: Vec<Span>,
    /// How many lines each file has.
    lines: Vec<usize>,
}

/// Blocks are followed into one another so deeply.
const DEPTH_MAX: usize = 48;
/// With what is included there are no more directives than this.
const COUNT_MAX: usize = 500_000;
/// Includes are followed into one another so deeply.
const INCLUDES_MAX: usize = 16;

/// Reads the files of a source, in the order in which they are given.
pub(super) fn read(files: &[(&str, &str)], around: Surroundings<'_>, report: &mut Report) -> Source {
    let mut reader = Reader { report, around, source: Source::default(), files: HashMap::new(), total: 0 };
    for (name, text) in files {
        let directives = reader.parse(name, text);
        let directives = reader.expand(directives, 0);
        reader.source.root.extend(directives);
    }
    reader.source
}

struct Reader<'a, 'r> {
    report: &'r mut Report,
    around: Surroundings<'a>,
    source: Source,
    /// Files that were included.
    files: HashMap<PathBuf, Option<Rc<Vec<Directive>>>>,
    /// With what is included.
    total: usize,
}

/// A block that is open.
struct Frame {
    /// What it belongs to; nothing at the root.
    head: Option<Directive>,
    inside: Vec<Directive>,
}

impl Reader<'_, '_> {
    fn parse(&mut self, name: &str, text: &str) -> Vec<Directive> {
        let file = self.report.file(name, text);
        let mut count = 0;
        for (at, line) in text.lines().enumerate() {
            count = at + 1;
            if !line.trim().is_empty() && !line.trim().starts_with('#') {
                self.report.expect(Place { file, line: at + 1 });
            }
        }
        self.source.lines.resize(file + 1, 0);
        if let Some(lines) = self.source.lines.get_mut(file) {
            *lines = count;
        }
        let mut lexer = Lexer::new(text);
        let mut frames = vec![Frame { head: None, inside: Vec::new() }];
        let mut words: Vec<(String, usize)> = Vec::new();
        while let Some((token, line)) = lexer.next() {
            let here = Place { file, line };
            match token {
                Token::Word(word) => words.push((word, line)),
                Token::End | Token::Open if words.is_empty() => {
                    self.report.wrong(here, "nothing stands before it: nginx rejects the file");
                    if token == Token::Open {
                        lexer.skip_block();
                        let end = lexer.line();
                        self.source.spans.push(Span { start: here, end, id: usize::MAX });
                    }
                }
                Token::End => {
                    let directive = self.directive(&mut words, file);
                    self.span(&directive, line);
                    self.add(&mut frames, directive);
                }
                Token::Open => {
                    let mut directive = self.directive(&mut words, file);
                    if directive.name.ends_with("_by_lua_block") || frames.len() > DEPTH_MAX {
                        lexer.skip_block();
                        directive.block = Some(Vec::new());
                        self.span(&directive, lexer.line());
                        self.add(&mut frames, directive);
                    } else {
                        frames.push(Frame { head: Some(directive), inside: Vec::new() });
                    }
                }
                Token::Close => {
                    self.left_over(&mut words, (file, line), &mut frames);
                    if frames.len() > 1 {
                        self.close(&mut frames, line);
                    } else {
                        self.report.wrong(here, "no block is open that it could end: nginx rejects the file");
                    }
                }
            }
        }
        self.left_over(&mut words, (file, count), &mut frames);
        for fault in std::mem::take(&mut lexer.faults) {
            self.report
                .wrong(Place { file, line: fault.line }, format!("{}: nginx rejects the file", fault.what));
        }
        while frames.len() > 1 {
            if let Some(head) = frames.last().and_then(|frame| frame.head.as_ref()) {
                self.report.wrong(head.at, "its block is not closed: nginx rejects the file");
            }
            self.close(&mut frames, count);
        }
        frames.pop().map(|frame| frame.inside).unwrap_or_default()
    }

    /// Words that no `;` ends.
    fn left_over(
        &mut self,
        words: &mut Vec<(String, usize)>,
        (file, end): (usize, usize),
        frames: &mut [Frame],
    ) {
        if words.is_empty() {
            return;
        }
        let directive = self.directive(words, file);
        self.report.wrong(directive.at, "a ; is missing behind it: nginx rejects the file");
        self.span(&directive, end);
        self.add(frames, directive);
    }

    fn directive(&mut self, words: &mut Vec<(String, usize)>, file: usize) -> Directive {
        let line = words.first().map_or(1, |(_, line)| *line);
        let mut words = std::mem::take(words).into_iter().map(|(word, _)| word);
        let name = words.next().unwrap_or_default();
        let at = Place { file, line };
        *self.source.crowds.entry(at).or_insert(0) += 1;
        self.source.count += 1;
        Directive { id: self.source.count - 1, name, words: words.collect(), at, block: None }
    }

    fn span(&mut self, directive: &Directive, end: usize) {
        if end > directive.at.line {
            self.source.spans.push(Span { start: directive.at, end, id: directive.id });
        }
    }

    fn add(&mut self, frames: &mut [Frame], directive: Directive) {
        if let Some(frame) = frames.last_mut() {
            frame.inside.push(directive);
        }
    }

    fn close(&mut self, frames: &mut Vec<Frame>, line: usize) {
        let Some(Frame { head: Some(mut head), inside }) = frames.pop() else { return };
        head.block = Some(inside);
        self.span(&head, line);
        self.add(frames, head);
    }

    /// Puts what is included where it is included.
    fn expand(&mut self, directives: Vec<Directive>, depth: usize) -> Vec<Directive> {
        let mut out = Vec::with_capacity(directives.len());
        for mut directive in directives {
            self.total += 1;
            if let Some(block) = directive.block.take() {
                // A map and its like include lines that are no directives; so they are read the same way.
                directive.block = Some(self.expand(block, depth));
            }
            if directive.name == "include" && directive.block.is_none() {
                out.extend(self.included(&directive, depth));
            }
            out.push(directive);
        }
        out
    }

    fn included(&mut self, directive: &Directive, depth: usize) -> Vec<Directive> {
        let pattern = directive.word(0);
        if pattern.is_empty() {
            self.report.wrong(directive.at, "the name of a file is missing: nginx rejects it");
            return Vec::new();
        }
        if depth >= INCLUDES_MAX || self.total > COUNT_MAX {
            self.report.not_possible(
                directive.at,
                "files are included too deeply, or too often: put their lines here",
            );
            return Vec::new();
        }
        let mut out = Vec::new();
        let names = glob::files(pattern, self.around);
        let is_glob = pattern.contains(['*', '?', '[']);
        if names.is_empty() && is_glob {
            self.report.note(directive.at, Verdict::Translated, "no file here has such a name");
            return out;
        }
        for name in names {
            match self.file(&name) {
                Some(directives) => {
                    self.report.translated(directive.at);
                    let copy = directives.as_ref().clone();
                    out.extend(self.expand(copy, depth + 1));
                }
                None if is_glob => {}
                None => self.missing(directive, pattern),
            }
        }
        out
    }

    fn missing(&mut self, directive: &Directive, pattern: &str) {
        let name = Path::new(pattern).file_name().and_then(|name| name.to_str()).unwrap_or("");
        match name {
            "mime.types" => self.report.ignored(directive.at, "types of files are for a server of files"),
            "fastcgi_params" | "fastcgi.conf" | "uwsgi_params" | "scgi_params" => {
                self.report.ignored(directive.at, "only HTTP is spoken with endpoints");
            }
            _ => self.report.not_possible(
                directive.at,
                "the file is not here: import again where it is, or put its lines here",
            ),
        }
    }

    fn file(&mut self, name: &Path) -> Option<Rc<Vec<Directive>>> {
        if let Some(known) = self.files.get(name) {
            return known.clone();
        }
        let text = glob::read(name, self.around);
        let parsed = text.map(|text| Rc::new(self.parse(&name.display().to_string(), &text)));
        self.files.insert(name.to_path_buf(), parsed.clone());
        parsed
    }
}

impl Source {
    /// For each line of each file the directive that it is of, where that begins on an earlier line.
    pub(super) fn owners(&self) -> HashMap<Place, (Place, usize)> {
        let mut out = HashMap::new();
        let mut spans = self.spans.clone();
        // What is inside stands behind what is around it.
        spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        for file in 0..self.lines.len() {
            let of = spans.iter().filter(|span| span.start.file == file);
            let mut open: Vec<Span> = Vec::new();
            let mut line = 1;
            let mut put = |open: &mut Vec<Span>, line: usize| {
                while open.last().is_some_and(|span| span.end < line) {
                    open.pop();
                }
                if let Some(span) = open.iter().rev().find(|span| span.start.line < line) {
                    out.insert(Place { file, line }, (span.start, span.id));
                }
            };
            for span in of {
                while line < span.start.line {
                    put(&mut open, line);
                    line += 1;
                }
                while open.last().is_some_and(|before| before.end < span.start.line) {
                    open.pop();
                }
                open.push(*span);
            }
            let last = self.lines.get(file).copied().unwrap_or(0);
            while line <= last {
                put(&mut open, line);
                line += 1;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> (Source, Report) {
        let around = Surroundings {
            environment: &|_| None,
            read: &|path| (path == Path::new("conf.d/a.conf")).then(|| "gzip on;".to_owned()),
            list: &|path| (path == Path::new("conf.d")).then(|| vec![PathBuf::from("conf.d/a.conf")]),
        };
        let mut report = Report::default();
        let source = read(&[("nginx.conf", text)], around, &mut report);
        (source, report)
    }

    #[test]
    fn blocks_nest_and_files_are_included() {
        let (source, _) = read_one("http {\n include conf.d/*.conf;\n log_format a 'x'\n  'y';\n}\n");
        let http = source.root.first().expect("a block");
        let names: Vec<&str> = http.inside().iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["gzip", "include", "log_format"]);
        let owners = source.owners();
        let line = |line| Place { file: 0, line };
        assert_eq!(owners.get(&line(4)).map(|(at, _)| *at), Some(line(3)));
        assert_eq!(owners.get(&line(5)).map(|(at, _)| *at), Some(line(1)));
    }

    #[test]
    fn what_nginx_would_not_read_is_told() {
        let (_, report) = read_one("}\nhttp {\n a\n}\nb {");
        let wrong = report.verdicts().filter(|(_, verdict)| *verdict == Verdict::WrongInSource).count();
        assert_eq!(wrong, 3, "{report}");
    }

    #[test]
    fn code_in_another_language_is_one_directive() {
        let (source, _) = read_one("content_by_lua_block {\n local a = { 1 }\n ngx.say('x;')\n}\nnext;");
        let names: Vec<&str> = source.root.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["content_by_lua_block", "next"]);
    }
}
