//! What a route holds requests to before it acts on them, and what it says in the place of errors.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::page::Page;
use crate::policy::cors::Cors;

/// What stands before a route.
#[derive(Debug, Default)]
pub struct Gate {
    /// Clients that may pass; empty is all.
    pub allow: Vec<IpNet>,
    /// Clients that may not.
    pub deny: Vec<IpNet>,
    /// The route is out of service.
    pub maintenance: Option<Maintenance>,
    /// What scripts of other origins may do.
    pub cors: Option<Cors>,
    /// The largest request body, in bytes.
    pub max_body: Option<u64>,
    /// Pages in the place of errors.
    pub pages: Pages,
    /// Whether pages also take the place of errors that endpoints answer with.
    pub intercept: bool,
}

/// A route that is out of service.
#[derive(Debug)]
pub struct Maintenance {
    /// Clients for whom it is not.
    pub allow: Vec<IpNet>,
    /// What clients are asked to wait.
    pub retry_after: Option<Duration>,
    /// What they are told.
    pub page: Option<Page>,
}

/// Pages by status.
#[derive(Debug, Clone, Default)]
pub struct Pages(Arc<[(u16, u16, Page)]>);

impl Pages {
    /// Pages for statuses from the first number to the second; of several that fit the narrowest is taken, so that a page
    /// for one status goes before one for its class.
    #[must_use]
    pub fn new(mut pages: Vec<(u16, u16, Page)>) -> Self {
        pages.sort_by_key(|(first, last, _)| last - first);
        Self(pages.into())
    }

    /// The page of a status.
    #[must_use]
    pub fn find(&self, status: u16) -> Option<&Page> {
        self.0.iter().find(|(first, last, _)| (*first..=*last).contains(&status)).map(|(.., page)| page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_one_status_goes_before_one_for_its_class() {
        let page = |name: &str| Page::fixed(b"", name);
        let pages =
            Pages::new(vec![(500, 599, page("5xx")), (503, 503, page("503")), (404, 404, page("404"))]);
        let found = |status| pages.find(status).map(|page| &*page.content_type);
        assert_eq!([503, 502, 404, 403].map(found), [Some("503"), Some("5xx"), Some("404"), None]);
    }
}
