//! What every protocol shows of a request head: the one view that routes, policies and edits read.

use std::net::IpAddr;

use super::method::Method;

/// Read access to a request head, whatever protocol it came in.
///
/// Bytes are as received but for framing: names without case rules, values without surrounding white space.
/// `authority` is validated and has no user information; `path` has no query and starts with `/` (or is `*`).
pub trait RequestView {
    /// The method, recognized.
    fn method(&self) -> Method;
    /// The method's own bytes, which [`Method::Other`] does not hold.
    fn method_bytes(&self) -> &[u8];
    /// `http` or `https`.
    fn scheme(&self) -> &str;
    /// Host and, where written, port: `example.com:8080`. Empty when the request names none.
    fn authority(&self) -> &[u8];
    /// The path as sent, without the query.
    fn path(&self) -> &[u8];
    /// The query as sent, without its question mark.
    fn query(&self) -> Option<&[u8]>;
    /// The whole request target as sent, for the log.
    fn target(&self) -> &[u8];
    /// The fields in order, as (name, value).
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])>;
    /// The address of the client after trust has been applied.
    fn source(&self) -> IpAddr;

    /// The first value of a field, its name compared without case.
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v)
    }
}
