//! What a route holds requests to before it acts on them, and the pages that take the place of errors.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::Report;
use super::source::Span;
use super::tls::Files;
use super::value::Fields;
use crate::model::field::FieldName;
use crate::model::units::ByteSize;
use crate::policy::cors::{Cors, OriginPattern, Origins};
use crate::route::template::{Template, Variable};

/// Bytes of one page.
const PAGE_MAX: u64 = 1 << 20;

/// What stands before a route.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gate {
    /// Clients that may pass; empty is all.
    pub allow: Vec<IpNet>,
    /// Clients that may not.
    pub deny: Vec<IpNet>,
    /// The route is out of service.
    pub maintenance: Option<Maintenance>,
    /// What scripts of other origins may do.
    pub cors: Option<Cors>,
    /// The largest request body.
    pub max_body: Option<ByteSize>,
    /// Pages in the place of errors.
    pub error_pages: Vec<ErrorPage>,
    /// Whether pages also take the place of errors that endpoints answer with.
    pub intercept_errors: bool,
}

/// A route that is out of service.
#[derive(Debug, Clone, PartialEq)]
pub struct Maintenance {
    /// Clients for whom it is not.
    pub allow: Vec<IpNet>,
    /// What clients are asked to wait.
    pub retry_after: Option<Duration>,
    /// What they are told.
    pub page: Option<PageFile>,
}

/// A page for some statuses.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorPage {
    /// The first status.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// The page.
    pub page: PageFile,
}

/// A file that is a page.
#[derive(Debug, Clone, PartialEq)]
pub struct PageFile {
    /// Its path.
    pub path: PathBuf,
    /// Its `Content-Type`.
    pub content_type: String,
    /// What is in it.
    pub bytes: Arc<[u8]>,
    /// The same as a template, where it is one.
    pub template: Option<Template>,
}

impl Gate {
    /// Reads what a route says of it; nothing when something of it was reported.
    pub(super) fn read(fields: &Fields, files: Files<'_>, report: &mut Report) -> Option<Self> {
        let cors = match fields.table("cors") {
            Some(cors) => Some(read_cors(&cors, report)?),
            None => None,
        };
        let maintenance = match fields.table("maintenance") {
            Some(maintenance) => Some(Maintenance {
                allow: maintenance.plain_list("allow"),
                retry_after: maintenance.get("retry_after"),
                page: match maintenance.table("page") {
                    Some(page) => Some(read_page(&page, files, report)?),
                    None => None,
                },
            }),
            None => None,
        };
        let error_pages = read_pages(fields, files, report)?;
        let intercept_errors = fields.get("intercept_errors")?;
        Some(Self {
            allow: fields.plain_list("allow"),
            deny: fields.plain_list("deny"),
            maintenance,
            cors,
            max_body: fields.get("max_body"),
            error_pages,
            intercept_errors,
        })
    }
}

/// Reads `error_pages` of a listener or a route; nothing when something of it was reported.
pub(super) fn read_pages(fields: &Fields, files: Files<'_>, report: &mut Report) -> Option<Vec<ErrorPage>> {
    let written = fields.map::<(u16, u16), Fields>("error_pages");
    let read = written.into_iter().map(|((first, last), page, _)| {
        page.require("a page", report);
        read_page(&page, files, report).map(|page| ErrorPage { first, last, page })
    });
    // Every page is read before the first that failed ends it: all errors at once.
    read.collect::<Vec<_>>().into_iter().collect()
}

fn read_page(fields: &Fields, files: Files<'_>, report: &mut Report) -> Option<PageFile> {
    const KIND: &str = "a file of at most 1 MiB";
    let path = files.named(fields, "file", KIND, |path| read_file(path).map(drop), report)?;
    let span = fields.span_of("file");
    let content_type = fields.get("content_type").unwrap_or_else(|| type_of(&path).to_owned());
    let bytes: Arc<[u8]> = match files.looks() {
        // What cannot be read has been reported.
        true => read_file(&path).ok()?.into(),
        false => Arc::default(),
    };
    let template = match fields.get("template") {
        Some(true) => Some(parse(&bytes, span, report)?),
        _ => None,
    };
    Some(PageFile { path, content_type, bytes, template })
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(PAGE_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > PAGE_MAX { Err("it is larger than 1 MiB".to_owned()) } else { Ok(bytes) }
}

fn parse(bytes: &[u8], span: Span, report: &mut Report) -> Option<Template> {
    const HELP: &str = "mend the page, or write it as it is with template = false";
    let read = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned());
    let read = read.and_then(|text| Template::parse(text).map_err(|error| error.to_string()));
    let unknown = |template: &Template| {
        let known = |v: &&Variable| !matches!(v, Variable::Group(_) | Variable::NamedGroup(_));
        template
            .variables()
            .find(|v| !known(v))
            .map(|v| format!("{{{v}}} is a group of no regular expression"))
    };
    match read.and_then(|template| unknown(&template).map_or(Ok(template), Err)) {
        Ok(template) => Some(template),
        Err(what) => {
            report.error(span, format!("the page is no template: {what}"), HELP);
            None
        }
    }
}

/// What a file is by the end of its name.
fn type_of(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        _ => "text/plain; charset=utf-8",
    }
}

fn read_cors(fields: &Fields, report: &mut Report) -> Option<Cors> {
    fields.require("`cors`", report);
    let mut listed = Vec::new();
    let mut any = None;
    for (text, span) in fields.list::<String>("origins") {
        match OriginPattern::parse(&text) {
            _ if text == "*" => any = Some(span),
            Some(pattern) => listed.push(pattern),
            None => {
                let message = format!("`origins` cannot be {text:?}: it is no origin");
                report.error(
                    span,
                    message,
                    "write for example \"https://app.example\" or \"https://*.app.example\"",
                );
                return None;
            }
        }
    }
    let credentials = fields.get("credentials")?;
    if let (Some(span), true) = (any, credentials) {
        let message =
            "`credentials` cannot stand beside the origin \"*\": every site could then act as your users";
        report.error(span, message, "write the origins that you trust, or credentials = false");
        return None;
    }
    if let (Some(span), false) = (any, listed.is_empty()) {
        report.error(span, "\"*\" is every origin already", "remove it, or the others");
        return None;
    }
    let names =
        |key| fields.plain_list::<FieldName>(key).iter().map(|name| name.as_str().to_owned()).collect();
    Some(Cors {
        origins: if any.is_some() { Origins::Any } else { Origins::Listed(listed) },
        methods: fields.plain_list("methods"),
        headers: names("headers"),
        expose: names("expose"),
        credentials,
        max_age: fields.get("max_age"),
    })
}
