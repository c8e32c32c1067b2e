//! `GET /v1/explain`: a question from a query, and its answer as text or JSON. What is said is `control::explain`'s.

use std::net::{IpAddr, Ipv4Addr};

use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};

use super::answer::{self, Answer, Refusal};
use super::paths::{decode, parameters};
use crate::control::explain::{Ask, Explanation};

/// Fields of the request that may be asked about.
const HEADERS_MAX: usize = 100;

/// What a query asks; it is as long as the head of a request may be.
pub(super) fn ask(query: Option<&str>) -> Result<Ask, Refusal> {
    let (mut method, mut url, mut source) = (None, None, None);
    let (mut listener, mut server_name, mut headers) = (None, None, Vec::new());
    for (name, value) in parameters(query) {
        let value = decode(value).ok_or_else(|| wrong(format!("{name} is not percent-encoded UTF-8")))?;
        let place = match name {
            "method" => &mut method,
            "url" => &mut url,
            "source" => &mut source,
            "listener" => &mut listener,
            "sni" => &mut server_name,
            "header" if headers.len() < HEADERS_MAX => {
                headers.push(value);
                continue;
            }
            "header" => return Err(wrong(format!("there are more than {HEADERS_MAX} headers"))),
            _ => {
                let known = "method, url, source, header, listener and sni";
                return Err(wrong(format!("{name:?} is none of {known}; a & of the url is written %26")));
            }
        };
        if place.replace(value).is_some() {
            return Err(wrong(format!("{name} stands twice; a & of the url is written %26")));
        }
    }
    let source = match source {
        None => Ipv4Addr::LOCALHOST.into(),
        Some(text) => text.parse::<IpAddr>().map_err(|_| wrong(format!("source: {text:?} is no address")))?,
    };
    let url = url.ok_or_else(|| wrong("url is missing, as in ?url=https%3A%2F%2Fhost%2Fpath".to_owned()))?;
    let method = method.unwrap_or_else(|| "GET".to_owned());
    Ok(Ask { method, url, headers, source, listener, server_name })
}

fn wrong(detail: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, detail)
}

/// Text for who wants that before anything else, or else JSON.
pub(super) fn told(explanation: &Explanation, fields: &HeaderMap) -> Answer {
    let wanted = fields.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if wanted.trim_start().starts_with("text/plain") {
        let text = explanation.to_string();
        return answer::whole(StatusCode::OK, "text/plain; charset=utf-8", text.into());
    }
    answer::json(StatusCode::OK, &explanation.to_json())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_a_question() {
        let query = "method=POST&url=https%3A%2F%2Fa%2Fb%3Fc%26d&source=2001:db8::1&header=x:%20y&header=z:&listener=web&sni=s";
        let asked = ask(Some(query)).ok();
        let wanted = Ask {
            method: "POST".to_owned(),
            url: "https://a/b?c&d".to_owned(),
            headers: vec!["x: y".to_owned(), "z:".to_owned()],
            source: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
            listener: Some("web".to_owned()),
            server_name: Some("s".to_owned()),
        };
        assert_eq!(asked, Some(wanted));
        let short = ask(Some("url=/")).ok().map(|ask| (ask.method, ask.source));
        assert_eq!(short, Some(("GET".to_owned(), Ipv4Addr::LOCALHOST.into())));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let many = format!("url=/{}", "&header=a:b".repeat(HEADERS_MAX + 1));
        for query in
            ["", "method=GET", "url=/&url=/", "url=%ff", "url=%", "url=/&source=a", "url=/a&b=c", &many]
        {
            assert_eq!(
                ask(Some(query)).err().map(|refusal| refusal.status()),
                Some(StatusCode::BAD_REQUEST),
                "{query}"
            );
        }
        assert!(ask(None).is_err());
    }
}
