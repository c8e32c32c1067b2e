//! Quantities with their text form: durations ("250ms"), sizes ("64KiB"), rates ("5/s"), shares ("50%") and weights.

use std::fmt;
use std::time::Duration;

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No digits where a number must be.
    #[error("it must start with a number")]
    NoNumber,
    /// A number without a unit where one is needed, or an unknown unit.
    #[error("the unit must be one of {0}")]
    Unit(&'static str),
    /// None at all, where there must be some.
    #[error("it must be more than none")]
    Zero,
    /// Less than is of use.
    #[error("it must be at least {0}")]
    TooLittle(&'static str),
    /// More than the type can hold.
    #[error("the number is too large")]
    TooLarge,
}

const DURATION_UNITS: &str = "ms, s, m, h, d";
const SIZE_UNITS: &str = "B, KiB, MiB, GiB, KB, MB, GB";

fn split_number(text: &str) -> Result<(u64, &str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err(UnitError::NoNumber);
    }
    let number = digits.parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, unit.trim_start()))
}

/// Reads a duration such as `"250ms"`, `"2s"` or `"5m"`.
///
/// # Errors
/// [`UnitError`] when the number or its unit is missing, unknown or too large.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split_number(text.trim())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(UnitError::Unit(DURATION_UNITS)),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or(UnitError::TooLarge)
}

/// Writes a duration in the largest unit that holds it exactly, as [`parse_duration`] reads it.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

/// So many of a number of things: a count, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A count.
    Count(u32),
    /// A share in percent, up to 100.
    Percent(u8),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Amount {
    /// Reads a share such as "50%".
    ///
    /// # Errors
    /// [`UnitError`], where it is no number from 0 to 100 and a percent sign.
    pub fn parse_percent(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_number(text.trim())?;
        if unit != "%" {
            return Err(UnitError::Unit("%"));
        }
        u8::try_from(number).ok().filter(|n| *n <= 100).map(Self::Percent).ok_or(UnitError::TooLarge)
    }

    /// How many that is of `total` when it is what must stay: a share is rounded up.
    #[must_use]
    pub fn at_least(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let parts = (u64::from(total) * u64::from(percent)).div_ceil(100);
                u32::try_from(parts).unwrap_or(u32::MAX)
            }
        }
    }

    /// How many that is of `total` when it is what may go: a share is rounded down.
    #[must_use]
    pub fn at_most(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                u32::try_from(u64::from(total) * u64::from(percent) / 100).unwrap_or(u32::MAX)
            }
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Reads a size such as `"64KiB"` or `"512B"`.
    ///
    /// # Errors
    /// [`UnitError`] when the number or its unit is missing, unknown or too large.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_number(text.trim())?;
        let bytes: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return Err(UnitError::Unit(SIZE_UNITS)),
        };
        number.checked_mul(bytes).map(Self).ok_or(UnitError::TooLarge)
    }

    /// The size as an index type; saturates on a machine whose addresses are smaller.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A number of bytes in a second; at least 1 KiB, so that a head gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth(pub u64);

impl Bandwidth {
    /// Reads a bandwidth such as "1MiB/s".
    ///
    /// # Errors
    /// [`UnitError`], where it is no size and "/s", or too little.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let size = text.trim().strip_suffix("/s").ok_or(UnitError::Unit(BANDWIDTH_UNITS))?;
        match ByteSize::parse(size) {
            Ok(ByteSize(bytes)) if bytes < 1024 => Err(UnitError::TooLittle("1KiB/s")),
            Ok(ByteSize(bytes)) => Ok(Self(bytes)),
            Err(UnitError::Unit(_)) => Err(UnitError::Unit(BANDWIDTH_UNITS)),
            Err(error) => Err(error),
        }
    }
}

const BANDWIDTH_UNITS: &str = "B/s, KiB/s, MiB/s, GiB/s, KB/s, MB/s, GB/s";

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0))
    }
}

/// The share of traffic that an endpoint or a part of a split takes, relative to its siblings; 0 takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// The largest weight.
    pub const MAX: u16 = 1000;
    /// The weight of whatever names none.
    pub const ONE: Self = Self(1);

    /// A weight between 0 and [`Weight::MAX`].
    #[must_use]
    pub fn new(value: u16) -> Option<Self> {
        (value <= Self::MAX).then_some(Self(value))
    }

    /// The plain number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// So many of something in so much time, as in "500/s"; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how much time: a second, a minute or an hour.
    pub per: Duration,
}

const RATE_UNITS: &str = "/s, /m, /h";

impl Rate {
    /// Reads a rate such as "500/s".
    ///
    /// # Errors
    /// [`UnitError`], where it is no number and unit, or none at all.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_number(text.trim())?;
        let seconds = match unit {
            "/s" => 1,
            "/m" => 60,
            "/h" => 3600,
            _ => return Err(UnitError::Unit(RATE_UNITS)),
        };
        match u32::try_from(number) {
            Ok(0) => Err(UnitError::Zero),
            Ok(count) => Ok(Self { count, per: Duration::from_secs(seconds) }),
            Err(_) => Err(UnitError::TooLarge),
        }
    }

    /// The time from one to the next when they are spread evenly.
    #[must_use]
    pub fn spacing(self) -> Duration {
        self.per / self.count.max(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            3600 => "h",
            60 => "m",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_the_same_text() {
        for text in ["0s", "250ms", "2s", "5m", "1h", "2d", "90s"] {
            let parsed = parse_duration(text);
            assert_eq!(parsed.map(format_duration).as_deref(), Ok(text));
        }
        assert_eq!(parse_duration("5"), Err(UnitError::Unit(DURATION_UNITS)));
        assert_eq!(parse_duration("s"), Err(UnitError::NoNumber));
        assert_eq!(parse_duration("99999999999999999d"), Err(UnitError::TooLarge));
    }

    #[test]
    fn rates_and_shares_read_and_write_the_same_text() {
        for text in ["5/s", "90/m", "1/h"] {
            assert_eq!(Rate::parse(text).map(|r| r.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Rate::parse("4/s").map(Rate::spacing), Ok(Duration::from_millis(250)));
        assert_eq!(Rate::parse("0/s"), Err(UnitError::Zero));
        assert_eq!(Rate::parse("5"), Err(UnitError::Unit(RATE_UNITS)));
        assert_eq!(Amount::parse_percent("50%"), Ok(Amount::Percent(50)));
        assert_eq!(Amount::parse_percent("101%"), Err(UnitError::TooLarge));
        assert_eq!((Amount::Count(2).to_string(), Amount::Percent(7).to_string()), ("2".into(), "7%".into()));
    }

    #[test]
    fn bandwidths_read_and_write_the_same_text() {
        for text in ["1KiB/s", "1500B/s", "3MiB/s"] {
            assert_eq!(Bandwidth::parse(text).map(|b| b.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Bandwidth::parse("1MB/s"), Ok(Bandwidth(1_000_000)));
        assert_eq!(Bandwidth::parse("1MiB"), Err(UnitError::Unit(BANDWIDTH_UNITS)));
        assert_eq!(Bandwidth::parse("1/s"), Err(UnitError::Unit(BANDWIDTH_UNITS)));
        assert_eq!(Bandwidth::parse("1023B/s"), Err(UnitError::TooLittle("1KiB/s")));
    }

    #[test]
    fn sizes_read_and_write_the_same_text() {
        for text in ["0B", "1000B", "64KiB", "3MiB", "1GiB"] {
            assert_eq!(ByteSize::parse(text).map(|s| s.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(ByteSize::parse("1KB"), Ok(ByteSize(1000)));
        assert_eq!(ByteSize::parse("64"), Err(UnitError::Unit(SIZE_UNITS)));
    }
}
