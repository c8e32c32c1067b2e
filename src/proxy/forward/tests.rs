//! Tests of the pure part of forwarding: rewritten paths.

use super::*;

#[test]
fn a_prefix_is_replaced_element_by_element() {
    #[track_caller]
    fn check(matched: &str, with: &str, path: &str, want: &str) {
        let rewrite = Rewrite::Prefix { matched: matched.into(), with: with.into() };
        let got =
            rewritten(Some(&rewrite), path.as_bytes()).map(|p| String::from_utf8_lossy(&p).into_owned());
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
fn a_path_is_replaced_as_a_whole_or_left_alone() {
    assert_eq!(rewritten(Some(&Rewrite::Path("/sorry".into())), b"/a/b"), Some(b"/sorry".to_vec()));
    assert_eq!(rewritten(None, b"/a/b"), None);
    let prefix = Rewrite::Prefix { matched: "/".into(), with: "/app".into() };
    assert_eq!(rewritten(Some(&prefix), b"*"), None, "the star is no path");
}
