//! What becomes of a request's target on its way to an endpoint.

use std::borrow::Cow;

use crate::model::request::RequestView;
use crate::route::path::strip_prefix;
use crate::runtime::snapshot::Rewrite;

/// Path and query that go on; nothing where they stay as they are.
#[must_use]
pub fn target<V: RequestView>(rewrite: &Rewrite, view: &V) -> Option<Vec<u8>> {
    let mut target = rewritten(rewrite, view.path())?;
    if let Some(query) = view.query() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    Some(target)
}

/// The path that goes on where the route rewrites it.
fn rewritten(rewrite: &Rewrite, path: &[u8]) -> Option<Vec<u8>> {
    match rewrite {
        Rewrite::Path(with) => Some(with.as_bytes().to_vec()),
        // The star of OPTIONS is no path and has no prefix.
        Rewrite::Prefix { .. } if path == b"*" => None,
        Rewrite::Prefix { matched, with } => {
            let rest = strip_prefix(path, matched).unwrap_or(Cow::Borrowed(path));
            let with = with.trim_end_matches('/').as_bytes();
            let mut path = Vec::with_capacity(with.len() + rest.len() + 1);
            path.extend_from_slice(with);
            if !rest.starts_with(b"/") && (!rest.is_empty() || with.is_empty()) {
                path.push(b'/');
            }
            path.extend_from_slice(&rest);
            Some(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_element_by_element() {
        #[track_caller]
        fn check(matched: &str, with: &str, path: &str, want: &str) {
            let rewrite = Rewrite::Prefix { matched: matched.into(), with: with.into() };
            let got = rewritten(&rewrite, path.as_bytes()).map(|p| String::from_utf8_lossy(&p).into_owned());
            assert_eq!(got.as_deref(), Some(want), "{matched} -> {with} of {path}");
        }
        check("/v1", "/", "/v1", "/");
        check("/v1", "/", "/v1/", "/");
        check("/v1", "/", "/v1/a", "/a");
        check("/v1/", "/", "/v1/a", "/a");
        check("/v1", "/v2", "/v1/a", "/v2/a");
        check("/v1", "/v2/", "/v1/a/", "/v2/a/");
        check("/v1", "/v2", "/v1", "/v2");
        check("/", "/app", "/a", "/app/a");
        check("/", "/", "/a", "/a");
        check("/v1", "/", "/x/../v1/y", "/y");
    }

    #[test]
    fn a_path_is_replaced_as_a_whole() {
        assert_eq!(rewritten(&Rewrite::Path("/sorry".into()), b"/a/b"), Some(b"/sorry".to_vec()));
        let prefix = Rewrite::Prefix { matched: "/".into(), with: "/app".into() };
        assert_eq!(rewritten(&prefix, b"*"), None, "the star is no path");
    }
}
