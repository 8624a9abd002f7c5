//! Points in time as the store keeps them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

const NANOS_PER_SECOND: u64 = 1_000_000_000;

impl Timestamp {
    /// From nanoseconds since the epoch.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time of a change made at `now` to something last changed at `self`: later by a full
    /// second at least, because programs (nginx) compare whole seconds to notice a change.
    pub fn next(self, now: Self) -> Self {
        now.max(Self(self.0.saturating_add(NANOS_PER_SECOND)))
    }

    /// RFC 3339 in UTC with whole seconds: `2026-11-24T03:52:00Z`.
    pub fn to_rfc3339(self) -> String {
        let seconds = self.0 / NANOS_PER_SECOND;
        let (hours, minutes, seconds_of_minute) =
            (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let (year, month, day) = civil_from_days(seconds / 86_400);
        format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds_of_minute:02}Z")
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before the epoch become the epoch: a secret is not older than Unix.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_nanos(time.0)
    }
}

/// Year, month and day of a day number since 1970-01-01 in the proleptic Gregorian calendar.
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_moves_a_full_second() {
        let first = Timestamp(5 * NANOS_PER_SECOND);
        assert_eq!(first.next(Timestamp(first.0 + 1)), Timestamp(6 * NANOS_PER_SECOND));
        assert_eq!(
            first.next(Timestamp(0)),
            Timestamp(6 * NANOS_PER_SECOND),
            "the clock went back"
        );
        assert_eq!(
            first.next(Timestamp(9 * NANOS_PER_SECOND + 7)),
            Timestamp(9 * NANOS_PER_SECOND + 7)
        );
    }

    #[test]
    fn writes_dates_as_the_standard_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_492_320, "2026-11-24T03:52:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(seconds * NANOS_PER_SECOND).to_rfc3339(), text);
        }
    }
}
