//! What stands before a route, and pages in the place of errors, as TOML.

use super::{Page, braces, join, quote};
use crate::config::gate::{ErrorPage, Gate, PageFile};
use crate::model::units::format_duration;
use crate::policy::cors::{Cors, Origins};

pub(super) fn show_gate(page: &mut Page, gate: &Gate) {
    page.some("allow", &gate.allow);
    page.some("deny", &gate.deny);
    if let Some(maintenance) = &gate.maintenance {
        let mut keys = vec![format!("allow = {}", list(&maintenance.allow))];
        keys.extend(maintenance.retry_after.map(|t| format!("retry_after = {}", quote(&format_duration(t)))));
        keys.extend(maintenance.page.as_ref().map(|file| format!("page = {}", shown(file))));
        page.key("maintenance", braces(keys.into_iter()));
    }
    if let Some(max) = gate.max_body {
        page.text("max_body", max);
    }
    if let Some(cors) = &gate.cors {
        show_cors(page, cors);
    }
    show_pages(page, &gate.error_pages);
    if gate.intercept_errors {
        page.key("intercept_errors", true);
    }
}

pub(super) fn show_pages(page: &mut Page, pages: &[ErrorPage]) {
    if pages.is_empty() {
        return;
    }
    let one = |ErrorPage { first, last, page }: &ErrorPage| {
        let statuses = if first == last { first.to_string() } else { format!("{first}-{last}") };
        format!("\"{statuses}\" = {}", shown(page))
    };
    page.key("error_pages", braces(pages.iter().map(one)));
}

fn show_cors(page: &mut Page, cors: &Cors) {
    let origins = match &cors.origins {
        Origins::Any => "[\"*\"]".to_owned(),
        Origins::Listed(listed) => list(listed),
    };
    let mut keys = vec![
        format!("origins = {origins}"),
        format!("methods = {}", list(&cors.methods)),
        format!("headers = {}", list(&cors.headers)),
        format!("expose = {}", list(&cors.expose)),
        format!("credentials = {}", cors.credentials),
    ];
    keys.extend(cors.max_age.map(|time| format!("max_age = {}", quote(&format_duration(time)))));
    page.key("cors", braces(keys.into_iter()));
}

fn shown(file: &PageFile) -> String {
    let path = quote(&file.path.display().to_string());
    let kind = quote(&file.content_type);
    format!("{{ file = {path}, content_type = {kind}, template = {} }}", file.template.is_some())
}

fn list<T: ToString>(values: &[T]) -> String {
    format!("[{}]", join(values.iter().map(|value| quote(&value.to_string()))))
}
