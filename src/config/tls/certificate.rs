//! What an X.509 certificate (RFC 5280) says: whom it names, when it is valid, and its subject as text (RFC 4514). Leaves
//! verifying it to rustls.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// How long before its end a certificate is an alarm.
pub const SOON: Duration = Duration::from_secs(21 * 24 * 3600);

/// What of a certificate matters to whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its subject, as [`subject_of`] has it.
    pub subject: String,
    /// Its serial number, as it is encoded.
    pub serial: Vec<u8>,
    /// The DNS names that it is for, lower case, with a star where it has one.
    pub names: Vec<String>,
    /// Whether it is for an IP address.
    pub has_address: bool,
    /// When it begins to be valid.
    pub begins: SystemTime,
    /// When it stops.
    pub expires: SystemTime,
}

impl Facts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let alternatives = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let (mut names, mut has_address) = (Vec::new(), false);
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(_) => has_address = true,
                _ => {}
            }
        }
        let validity = certificate.validity();
        Ok(Self {
            subject: text_of(certificate.subject()),
            serial: certificate.raw_serial().to_vec(),
            names,
            has_address,
            begins: time(validity.not_before.timestamp()),
            expires: time(validity.not_after.timestamp()),
        })
    }
}

/// The subject of a certificate in DER, as RFC 4514 writes it: the most specific part first, with everything escaped that
/// is not printable ASCII, so that it can stand in a header and nobody's name can look like two. Empty when it cannot be
/// read.
#[must_use]
pub fn subject_of(der: &[u8]) -> String {
    X509Certificate::from_der(der).map_or_else(|_| String::new(), |(_, read)| text_of(read.subject()))
}

/// The common name of a certificate in DER, the most specific one, where it has one that is text.
#[must_use]
pub fn common_name_of(der: &[u8]) -> Option<String> {
    let (_, read) = X509Certificate::from_der(der).ok()?;
    let names = read.subject().iter_common_name();
    names.filter_map(|name| name.as_str().ok()).last().map(str::to_owned)
}

fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn text_of(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (index, part) in parts.into_iter().rev().enumerate() {
        for (within, attribute) in part.iter().enumerate() {
            match (index, within) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            let oid = attribute.attr_type().to_id_string();
            let short = short_name(&oid);
            text.push_str(short.unwrap_or(&oid));
            text.push('=');
            match (short, attribute.as_str()) {
                (Some(_), Ok(value)) => escape(value, &mut text),
                _ => hex(attribute.attr_value().data, &mut text),
            }
        }
    }
    text
}

/// The short names of RFC 4514 section 3 and RFC 2985, and of the serial number, by which some name devices.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// RFC 4514 section 2.4, and every byte beyond printable ASCII as `\XX`.
fn escape(value: &str, out: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => {
                let _infallible = write!(out, "\\{byte:02X}");
            }
        }
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    out.push('#');
    for byte in bytes {
        let _infallible = write!(out, "{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str], subject: &[(rcgen::DnType, &str)]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn names_and_times_are_read() {
        let der = certificate(&["A.example", "*.b.example", "192.0.2.1"], &[]);
        let facts = Facts::of(&der).expect("a certificate");
        assert_eq!(facts.names, ["a.example", "*.b.example"]);
        assert!(facts.has_address);
        assert_eq!(facts.begins, SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
        assert_eq!(facts.expires, SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600));
        assert!(Facts::of(b"\x30\x03\x02\x01").is_err());
    }

    #[test]
    fn nobodys_name_looks_like_two() {
        use rcgen::DnType::{CommonName, OrganizationName};
        let subject = |name: &str| {
            subject_of(&certificate(&["a"], &[(OrganizationName, "Example"), (CommonName, name)]))
        };
        assert_eq!(subject("alice"), "CN=alice,O=Example");
        assert_eq!(subject("x,CN=admin+y"), "CN=x\\,CN=admin\\+y,O=Example");
        assert_eq!(subject(" a\r\nb "), "CN=\\ a\\0D\\0Ab\\ ,O=Example");
        assert_eq!(subject("zo\u{eb}"), "CN=zo\\C3\\AB,O=Example");
        assert_eq!(subject_of(b"no certificate"), "");
        let der = certificate(&["a"], &[(OrganizationName, "Example"), (CommonName, "x,CN=admin")]);
        assert_eq!(common_name_of(&der).as_deref(), Some("x,CN=admin"));
    }
}
