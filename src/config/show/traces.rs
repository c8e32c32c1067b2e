//! `[tracing]` as a page shows it.

use super::Page;
use crate::config::traces::Tracing;
use crate::policy::traces::Accept;

/// The section, where there is one.
pub(super) fn show_tracing(page: &mut Page, tracing: Option<&Tracing>) {
    let Some(tracing) = tracing else { return };
    page.section("[tracing]");
    page.text("propagate", if tracing.propagates { "w3c" } else { "off" });
    let accept = match tracing.settings.accept {
        Accept::All => "all",
        Accept::Trusted => "trusted",
    };
    page.text("accept", accept);
    page.key("sample", format_args!("{:?}", tracing.settings.sample));
    if let Some(export) = &tracing.export {
        page.text("otlp", &export.url);
        page.text("service", &export.service);
        page.key("queue", export.queue);
    }
}
