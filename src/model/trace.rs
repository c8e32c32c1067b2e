//! W3C Trace Context, level 1, and where spans go: which trace a request belongs to, read strictly from `traceparent` and written again, and
//! whether a `tracestate` keeps its rules. What to make of them is `policy::traces`'s.

/// Bytes of a `traceparent` of version 00.
pub const PARENT_BYTES: usize = 55;

/// Members that a `tracestate` may have (section 3.3.1.1).
const MEMBERS_MAX: usize = 32;

/// What `traceparent` says: a trace, and the span in it that whoever sends the request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace; never zero.
    pub trace: u128,
    /// The span; never zero.
    pub span: u64,
    /// Bit 0 is whether the sender records it; of the others those that are passed on.
    pub flags: u8,
}

impl Parent {
    /// Whether the sender records it.
    pub const SAMPLED: u8 = 1;
    /// Whether the trace's number is a random one: of the next level of the standard, and passed on.
    const RANDOM: u8 = 2;

    /// Reads a value (section 3.2). A version that is not known yet may say more behind what is known (section 4.3).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(PARENT_BYTES)?;
        let (version, rest) = known.split_at(2);
        let version = u8::try_from(hex(version)?).ok().filter(|version| *version != 0xff)?;
        let is_whole = more.is_empty() || (version > 0 && more.starts_with(b"-"));
        let [b'-', trace @ .., b'-', _, _] = rest else { return None };
        let (trace, span) = trace.split_at_checked(32)?;
        let trace = hex(trace)?;
        let span = u64::try_from(hex(span.strip_prefix(b"-")?)?).ok()?;
        let flags = u8::try_from(hex(known.get(PARENT_BYTES - 2..)?)?).ok()?;
        if !is_whole || trace == 0 || span == 0 {
            return None;
        }
        let passed = if version == 0 { Self::SAMPLED | Self::RANDOM } else { Self::SAMPLED };
        Some(Self { trace, span, flags: flags & passed })
    }

    /// The value, of version 00.
    #[must_use]
    pub fn text(&self) -> [u8; PARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut text[3..35], self.trace);
        put_hex(&mut text[36..52], self.span.into());
        put_hex(&mut text[53..], self.flags.into());
        text
    }

    /// Whether the sender records it.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The URL to which batches are posted.
    pub url: String,
    /// What this program calls itself there.
    pub service: String,
    /// Spans of requests that may wait.
    pub queue: usize,
}

/// A number of lower-case digits; upper-case ones are an error.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Fills `out` with the last digits of a number.
pub fn put_hex(out: &mut [u8], number: u128) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (place, digit) in out.iter_mut().rev().enumerate() {
        *digit = DIGITS[(number >> (place * 4)) as usize & 15];
    }
}

/// Whether these lines of `tracestate` together keep its rules (section 3.3); empty members are allowed.
#[must_use]
pub fn is_state<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut members = 0;
    for member in lines.flat_map(|line| line.split(|&byte| byte == b',')) {
        let start = member.iter().position(|byte| !blank(byte)).unwrap_or(member.len());
        let end = member.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        let member = &member[start..end];
        members += usize::from(!member.is_empty());
        if !member.is_empty() && !is_member(member) {
            return false;
        }
    }
    members <= MEMBERS_MAX
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|&byte| byte == b'=') else { return false };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let is_value = |&byte: &u8| (0x20..=0x7e).contains(&byte) && byte != b'=';
    // Its last character is no space, as those around a member are none of its own.
    is_key(key) && (1..=256).contains(&value.len()) && value.iter().all(is_value)
}

/// A name, or one of a tenant at a system (section 3.3.1.3.1).
fn is_key(key: &[u8]) -> bool {
    let is_rest = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/')
    };
    let begins = |part: &[u8]| part.first().is_some_and(u8::is_ascii_lowercase);
    let mut parts = key.splitn(2, |&byte| byte == b'@');
    match (parts.next().unwrap_or_default(), parts.next()) {
        (name, None) => begins(name) && name.len() <= 256 && name.iter().all(is_rest),
        (tenant, Some(system)) => {
            (1..=241).contains(&tenant.len())
                && (begins(tenant) || tenant[0].is_ascii_digit())
                && begins(system)
                && system.len() <= 14
                && tenant.iter().chain(system).all(is_rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

    #[test]
    fn a_parent_is_read_strictly_and_written_as_version_00() {
        const FINE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = |flags| Some(Parent { trace: TRACE, span: 0xb7ad_6b71_6920_3331, flags });
        let changed = |from: &str, to: &str| FINE.replacen(from, to, 1);
        for (text, want) in [
            (FINE.to_owned(), parent(1)),
            (changed("-01", "-00"), parent(0)),
            (changed("-01", "-03"), parent(3)),
            // Flags that no standard knows yet are not passed on.
            (changed("-01", "-fd"), parent(1)),
            (changed("00-", "cc-"), parent(1)),
            (changed("00-", "cc-") + "-what-the-future-will-be-like", parent(1)),
            (changed("00-", "cc-") + ".what-the-future-will-not-be-like", None),
            (changed("00-", "ff-"), None),
            (changed("00-", "0-"), None),
            (changed("00-", "0x-"), None),
            (FINE.to_owned() + "-more", None),
            (FINE.to_owned() + " ", None),
            (changed("-01", "-1"), None),
            (changed("-01", "-.1"), None),
            (FINE.to_uppercase(), None),
            (changed("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), None),
            (changed("b7ad6b7169203331", &"0".repeat(16)), None),
            (changed("0af7", "0ag7"), None),
            (changed("319c-b7ad", "319cb7ad-"), None),
            (changed("-01", "_01"), None),
            (String::new(), None),
        ] {
            assert_eq!(Parent::parse(text.as_bytes()), want, "{text}");
        }
        assert_eq!(parent(1).map(|parent| parent.text().to_vec()), Some(FINE.as_bytes().to_vec()));
    }

    #[test]
    fn a_state_keeps_the_rules_of_its_keys_and_values_over_all_its_lines() {
        let check = |lines: &[&str]| is_state(lines.iter().map(|line| line.as_bytes()));
        let long = |key: usize, value: usize| format!("{}={}", "k".repeat(key), "v".repeat(value));
        let tenant =
            |tenant: usize, system: usize| format!("{}@{}=1", "t".repeat(tenant), "s".repeat(system));
        let many = |count: usize| (0..count).map(|i| format!("k{i}=1")).collect::<Vec<_>>().join(",");
        for fine in ["foo=1", "foo=1 ,\tbar= a b", "foo=1,,", "", "a_-*/9=!", "0t/x@sys=1"] {
            assert!(check(&[fine]), "{fine}");
        }
        for fine in [long(256, 256), tenant(241, 14), many(32)] {
            assert!(check(&[&fine]), "{fine}");
        }
        for wrong in
            ["foo", "foo=", "=1", "foo=1=2", "Foo=1", "9a=1", "foo =1", "a@=1", "@b=1", "a@b@c=1", "a=\u{e9}"]
        {
            assert!(!check(&[wrong]), "{wrong}");
        }
        for wrong in [long(257, 1), long(1, 257), tenant(242, 14), tenant(241, 15), many(33)] {
            assert!(!check(&[&wrong]), "{wrong}");
        }
        assert!(check(&["foo=1", "bar=2"]));
        assert!(!check(&[&many(32), "more=1"]));
    }
}
