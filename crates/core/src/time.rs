//! Time as data: what the callers read off their clocks and hand in.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One reading of both clocks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never steps and counts suspend; its zero means nothing.
    pub mono_ms: u64,
    /// Unix milliseconds of the wall clock; it may step either way.
    pub wall_ms: u64,
}

/// A point of wall time: Unix milliseconds inside, RFC 3339 in UTC with milliseconds in text.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl fmt::Display for Wall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms_of_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days as i64);
        let (second, ms) = (ms_of_day / 1_000, ms_of_day % 1_000);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The proleptic Gregorian date of a day since 1970-01-01 (the era algorithm of H. Hinnant's "chrono-compatible date algorithms").
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a proleptic Gregorian date: the inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A text that is not RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UTC time, as 2026-11-21T03:00:00Z")]
pub struct ParseWallError(String);

impl std::str::FromStr for Wall {
    type Err = ParseWallError;

    fn from_str(text: &str) -> Result<Self, ParseWallError> {
        parse_rfc3339_utc(text).ok_or_else(|| ParseWallError(text.chars().take(40).collect()))
    }
}

fn parse_rfc3339_utc(text: &str) -> Option<Wall> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let number =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i64>().ok()).flatten();
    let [year, month, day] = split_numbers(date, '-', number)?;
    let [hour, minute, second] = split_numbers(clock, ':', number)?;
    let in_range = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 59 || fraction.len() > 9 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let ms = number(&format!("{:0<3}", fraction.get(..3).unwrap_or(fraction)))?;
    u64::try_from(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + ms).ok().map(Wall)
}

fn split_numbers(text: &str, separator: char, number: impl Fn(&str) -> Option<i64>) -> Option<[i64; 3]> {
    let parts: Option<Vec<i64>> = text.split(separator).map(number).collect();
    parts?.try_into().ok()
}

impl Serialize for Wall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Wall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Wall;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a UTC time (RFC 3339) or Unix milliseconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Wall, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<Wall, E> {
                Ok(Wall(ms))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A length of time in milliseconds. A person writes `200ms`, `5s`, `10m`, `1h` or `7d`; a bare number is milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationMs(pub u64);

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl fmt::Display for DurationMs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().rev().find(|(_, ms)| self.0 != 0 && self.0.is_multiple_of(*ms));
        let (unit, ms) = exact.unwrap_or(&UNITS[0]);
        write!(formatter, "{}{unit}", self.0 / ms)
    }
}

/// A text that is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration, as 200ms, 5s, 10m, 1h or 7d")]
pub struct ParseDurationError(String);

impl std::str::FromStr for DurationMs {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        let wrong = || ParseDurationError(text.chars().take(40).collect());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, ms) =
            UNITS.iter().find(|(name, _)| *name == unit || (unit.is_empty() && *name == "ms")).ok_or_else(wrong)?;
        number.checked_mul(*ms).map(Self).ok_or_else(wrong)
    }
}

impl Serialize for DurationMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for DurationMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = DurationMs;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a duration, as 200ms, 5s, 10m, 1h or 7d")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DurationMs, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<DurationMs, E> {
                Ok(DurationMs(ms))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_print_and_parse() {
        for (ms, text) in [(0, "1970-01-01T00:00:00.000Z"), (1_582_934_400_001, "2020-02-29T00:00:00.001Z")] {
            assert_eq!(Wall(ms).to_string(), text);
            assert_eq!(text.parse(), Ok(Wall(ms)));
        }
        for wrong in ["2021-02-29T00:00:00Z", "2020-02-29", "2020-02-29T00:00:00+01:00", "x"] {
            assert!(wrong.parse::<Wall>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms, back) in [
            ("200ms", 200, "200ms"),
            ("5s", 5_000, "5s"),
            ("90s", 90_000, "90s"),
            ("24h", 86_400_000, "1d"),
            ("7", 7, "7ms"),
        ] {
            assert_eq!(text.parse(), Ok(DurationMs(ms)));
            assert_eq!(DurationMs(ms).to_string(), back);
        }
        for wrong in ["", "s", "5 s", "5y", "-1s", "99999999999999999999d"] {
            assert!(wrong.parse::<DurationMs>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn times_and_durations_survive_text(ms in 0u64..253_402_300_799_999) {
            prop_assert_eq!(Wall(ms).to_string().parse(), Ok(Wall(ms)));
            prop_assert_eq!(DurationMs(ms).to_string().parse(), Ok(DurationMs(ms)));
        }
    }
}
