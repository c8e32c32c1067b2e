//! Tests of the pure parts of a request: redirect targets, the spreading of addresses.

use super::*;
use crate::model::method::Method;

struct View {
    path: &'static str,
    query: Option<&'static str>,
}

impl RequestView for View {
    fn method(&self) -> Method {
        Method::Get
    }
    fn method_bytes(&self) -> &[u8] {
        b"GET"
    }
    fn scheme(&self) -> &str {
        "http"
    }
    fn authority(&self) -> &[u8] {
        b"example.com:8080"
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> Option<&[u8]> {
        self.query.map(str::as_bytes)
    }
    fn target(&self) -> &[u8] {
        self.path()
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
    fn source(&self) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)
    }
}

#[test]
fn a_redirect_fills_in_the_request() {
    #[track_caller]
    fn check(template: &str, query: Option<&'static str>, want: &str) {
        let got = location(&Piece::parse(template), &View { path: "/a/b", query });
        assert_eq!(String::from_utf8_lossy(&got), want, "{template:?}");
    }
    check("https://{host}{uri}", Some("q=1"), "https://example.com:8080/a/b?q=1");
    check("https://{host}{uri}", Some(""), "https://example.com:8080/a/b?");
    check("https://{host}{uri}", None, "https://example.com:8080/a/b");
    check("/new{path}?from={query}", Some("q=1"), "/new/a/b?from=q=1");
    check("/new{path}?from={query}", None, "/new/a/b?from=");
    check("/{unknown}{", None, "/{unknown}{");
}

#[test]
fn addresses_are_spread_evenly_and_the_same_everywhere() {
    let share = |shift: u32| {
        let upper = (0..4096_u32).filter(|n| {
            let source = IpAddr::from((0x0a00_0000 + (n << shift)).to_be_bytes());
            spread(source) >> 63 == 1
        });
        upper.count()
    };
    for shift in [0, 4, 8] {
        // Six standard deviations around a half.
        assert!((1856..=2240).contains(&share(shift)), "{} of 4096, {shift} bits apart", share(shift));
    }
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    assert_eq!(spread(parse("10.0.0.1")), spread(parse("::ffff:10.0.0.1")));
}
