//! What stands before a route, from what is written.

use crate::config::gate::{self as written, ErrorPage, PageFile};
use crate::runtime::gate::{Gate, Maintenance, Pages};
use crate::runtime::page::Page;

/// The gate of a route; nothing where nothing stands before it.
pub(super) fn compile(gate: &written::Gate) -> Option<Box<Gate>> {
    if *gate == written::Gate::default() {
        return None;
    }
    Some(Box::new(Gate {
        allow: gate.allow.clone(),
        deny: gate.deny.clone(),
        maintenance: gate.maintenance.as_ref().map(|maintenance| Maintenance {
            allow: maintenance.allow.clone(),
            retry_after: maintenance.retry_after,
            page: maintenance.page.as_ref().map(page),
        }),
        cors: gate.cors.clone(),
        max_body: gate.max_body.map(|size| size.0),
        pages: pages(&gate.error_pages),
        intercept: gate.intercept_errors,
    }))
}

/// Pages by status.
pub(super) fn pages(pages: &[ErrorPage]) -> Pages {
    Pages::new(pages.iter().map(|one| (one.first, one.last, page(&one.page))).collect())
}

fn page(file: &PageFile) -> Page {
    match &file.template {
        Some(template) => Page::new(template, &file.content_type),
        None => Page::fixed(&file.bytes, &file.content_type),
    }
}
