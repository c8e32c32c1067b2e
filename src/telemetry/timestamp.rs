//! RFC 3339 time stamps in UTC with milliseconds, formatted once a second and patched in between.

use std::time::{SystemTime, UNIX_EPOCH};

/// Formats time stamps; remembers the text of the last second, which nearly every next record shares.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Seconds since 1970 that `text` shows.
    second: u64,
    /// `2026-11-21T03:58:07.`
    text: [u8; 20],
}

impl Default for Clock {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00." }
    }
}

impl Clock {
    /// Appends `at` as `2026-11-21T03:58:07.123Z`; a time before 1970 or after 9999 is shown as that end.
    pub fn write(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs().min(LAST_SECOND);
        if second != self.second {
            self.text = format_second(second);
            self.second = second;
        }
        out.extend_from_slice(&self.text);
        let millis = u64::from(since.subsec_millis());
        out.extend_from_slice(&[digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

/// `9999-12-31T23:59:59`: RFC 3339 has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

fn format_second(second: u64) -> [u8; 20] {
    let (year, month, day) = civil_from_days(second / 86_400);
    let (hour, minute, second) = (second / 3_600 % 24, second / 60 % 60, second % 60);
    let mut text = *b"0000-00-00T00:00:00.";
    for (at, value, width) in
        [(0, year, 4), (5, month, 2), (8, day, 2), (11, hour, 2), (14, minute, 2), (17, second, 2)]
    {
        let mut rest = value;
        for place in text.iter_mut().skip(at).take(width).rev() {
            *place = digit(rest);
            rest /= 10;
        }
    }
    text
}

fn digit(value: u64) -> u8 {
    // The remainder is under ten, so nothing is cut off.
    b'0' + (value % 10) as u8
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`, for days that are not negative).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(clock: &mut Clock, millis: u64) -> String {
        let mut out = Vec::new();
        clock.write(UNIX_EPOCH + Duration::from_millis(millis), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn time_stamps_are_those_of_the_calendar_in_any_order() {
        let mut clock = Clock::default();
        for (millis, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_795_233_487_123, "2026-11-21T03:58:07.123Z"),
            (1_798_761_599_050, "2026-12-31T23:59:59.050Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59.000Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.000Z"),
            (0, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(text(&mut clock, millis), want);
        }
    }

    #[test]
    fn a_clock_set_before_1970_is_no_panic() {
        let mut out = Vec::new();
        Clock::default().write(UNIX_EPOCH - Duration::from_secs(5), &mut out);
        assert_eq!(out, b"1970-01-01T00:00:00.000Z");
    }
}
