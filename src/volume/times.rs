//! NTFS time: 100-nanosecond steps since 1601-01-01 00:00 UTC.

use std::fmt;

/// Seconds from 1601-01-01 to 1970-01-01.
const EPOCH_GAP: i64 = 11_644_473_600;
const STEPS: u64 = 10_000_000;

/// A point in time as NTFS stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtTime(pub u64);

/// The four times of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// When it was made.
    pub created: NtTime,
    /// When its content last changed.
    pub modified: NtTime,
    /// When its file record last changed.
    pub changed: NtTime,
    /// When it was last read.
    pub accessed: NtTime,
}

impl Times {
    /// From the 32 bytes that `$STANDARD_INFORMATION` begins with and
    /// `$FILE_NAME` has at byte 8; `None` when there are fewer.
    pub fn parse(bytes: &[u8]) -> Option<Times> {
        let at = |i: usize| {
            let b = bytes.get(i * 8..i * 8 + 8)?;
            Some(NtTime(u64::from_le_bytes(b.try_into().ok()?)))
        };
        Some(Times {
            created: at(0)?,
            modified: at(1)?,
            changed: at(2)?,
            accessed: at(3)?,
        })
    }
}

/// Longest text of [`NtTime::format`].
pub const TEXT_LEN: usize = 32;

impl NtTime {
    /// Seconds since 1970-01-01 00:00 UTC (negative before) and nanoseconds
    /// to add to them.
    pub const fn to_unix(self) -> (i64, u32) {
        let secs = (self.0 / STEPS) as i64 - EPOCH_GAP;
        (secs, (self.0 % STEPS) as u32 * 100)
    }

    /// From Unix time, rounded down to 100 ns; `None` before 1601 or beyond
    /// what 64 bits hold.
    pub fn from_unix(secs: i64, nanos: u32) -> Option<Self> {
        let secs = u64::try_from(secs.checked_add(EPOCH_GAP)?).ok()?;
        let steps = secs.checked_mul(STEPS)?;
        Some(Self(steps.checked_add(u64::from(nanos) / 100)?))
    }

    /// RFC 3339 in UTC with all seven digits, `2018-03-04T05:06:07.1234567Z`,
    /// written into `buf` without allocating. Years above 9999 take five
    /// digits. Returns the text's length.
    #[inline]
    pub fn format(self, buf: &mut [u8; TEXT_LEN]) -> usize {
        let steps = (self.0 % STEPS) as u32;
        let secs = self.0 / STEPS;
        let (year, month, day) = civil((secs / 86_400) as u32);
        let of_day = (secs % 86_400) as u32;
        let mut n = 0;
        if year > 9999 {
            buf[0] = b'0' + (year / 10_000) as u8;
            n = 1;
        }
        let year = year % 10_000;
        two(buf, n, year / 100);
        two(buf, n + 2, year % 100);
        buf[n + 4] = b'-';
        two(buf, n + 5, month);
        buf[n + 7] = b'-';
        two(buf, n + 8, day);
        buf[n + 10] = b'T';
        two(buf, n + 11, of_day / 3600);
        buf[n + 13] = b':';
        two(buf, n + 14, of_day / 60 % 60);
        buf[n + 16] = b':';
        two(buf, n + 17, of_day % 60);
        buf[n + 19] = b'.';
        two(buf, n + 20, steps / 100_000);
        two(buf, n + 22, steps / 1000 % 100);
        two(buf, n + 24, steps / 10 % 100);
        buf[n + 26] = b'0' + (steps % 10) as u8;
        buf[n + 27] = b'Z';
        n + 28
    }

    /// Appends the RFC 3339 text.
    #[inline]
    pub fn push_to(self, out: &mut Vec<u8>) {
        let mut buf = [0; TEXT_LEN];
        let n = self.format(&mut buf);
        out.extend_from_slice(&buf[..n]);
    }
}

#[inline]
fn two(buf: &mut [u8; TEXT_LEN], at: usize, v: u32) {
    buf[at] = b'0' + (v / 10) as u8;
    buf[at + 1] = b'0' + (v % 10) as u8;
}

/// Year, month and day of a day counted from 1601-01-01 (a Monday, and the
/// first day of a 400-year cycle).
#[inline]
fn civil(days: u32) -> (u32, u32, u32) {
    // Years that begin in March, counted from 1600-03-01, put the leap day
    // last: 306 days from there to 1601-01-01.
    let z = days + 306;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = 1600 + era * 400 + yoe + u32::from(month <= 2);
    (year, month, day)
}

impl fmt::Display for NtTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = [0; TEXT_LEN];
        let n = self.format(&mut buf);
        f.write_str(std::str::from_utf8(&buf[..n]).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        let text = |t: NtTime| t.to_string();
        assert_eq!(text(NtTime(0)), "1601-01-01T00:00:00.0000000Z");
        let epoch = NtTime::from_unix(0, 0).unwrap();
        assert_eq!(text(epoch), "1970-01-01T00:00:00.0000000Z");
        let t = NtTime::from_unix(1_582_934_400, 123_456_789).unwrap();
        assert_eq!(text(t), "2020-02-29T00:00:00.1234567Z");
        assert_eq!(t.to_unix(), (1_582_934_400, 123_456_700));
        assert_eq!(text(NtTime(u64::MAX)), "60056-05-28T05:36:10.9551615Z");
        assert_eq!(NtTime::from_unix(-11_644_473_601, 0), None);
        let t = NtTime::from_unix(-1, 500).unwrap();
        assert_eq!(text(t), "1969-12-31T23:59:59.0000005Z");
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let leap =
            |y: u32| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
        let (mut y, mut m, mut d) = (1601, 1, 1);
        for day in 0..292_194 {
            assert_eq!(civil(day), (y, m, d));
            let last = match m {
                2 => 28 + u32::from(leap(y)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            d += 1;
            if d > last {
                (d, m) = (1, m + 1);
            }
            if m > 12 {
                (m, y) = (1, y + 1);
            }
        }
    }

    proptest! {
        #[test]
        fn unix_time_and_back(t in any::<u64>()) {
            let (s, n) = NtTime(t).to_unix();
            prop_assert_eq!(NtTime::from_unix(s, n), Some(NtTime(t)));
            // The second opinion.
            let theirs = ntfs::NtfsTime::from(t);
            prop_assert_eq!(theirs.nt_timestamp(), t);
        }
    }
}
