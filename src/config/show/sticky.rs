//! `sticky` of a pool as TOML.

use super::{Page, quote_key};
use crate::config::sticky::{By, Sticky};

/// Prints the section of the pool of this name.
pub(super) fn sticky(page: &mut Page, pool: &str, sticky: &Sticky) {
    page.section(format_args!("[pool.{}.sticky]", quote_key(pool)));
    match &sticky.by {
        By::Cookie { attributes, max_age, key_file } => {
            page.text("cookie", &attributes.name);
            if let Some(time) = max_age {
                page.time("max_age", *time);
            }
            page.optional("key_file", key_file.as_ref().map(|path| path.display()).as_ref());
            page.text("path", &attributes.path);
            page.optional("domain", attributes.domain.as_ref());
            page.text("same_site", attributes.same_site.word());
            page.text("secure", attributes.secure.word());
        }
        By::Table { key, size, expire, learn } => {
            page.text("table", key);
            page.key("size", size);
            page.time("expire", *expire);
            page.key("learn", learn);
        }
    }
    if let Some(time) = sticky.max_idle {
        page.time("max_idle", time);
    }
    page.text("when_down", sticky.when_down.word());
    page.text("failback", sticky.failback.word());
}
