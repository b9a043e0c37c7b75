//! Calendar times: five fields of cron in an IANA time zone, and the next instant they name.
//!
//! The zone rules are compiled in, so that a home asks neither its disk nor its clock. Each local minute that the
//! fields name is one instant: one that does not exist is the first instant after the gap, one that exists twice is
//! the earlier of the two. An expression as `*/5 * * * *` therefore rests for the hour that a zone repeats in autumn;
//! `timezone: UTC` has neither gaps nor repetitions.

mod field;
mod fields;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use self::fields::Fields;
use crate::limits;
use crate::time::Wall;

/// An expression and its zone, ready to be asked for its next time.
#[derive(Debug, Clone)]
pub struct Cron {
    fields: Fields,
    zone: TimeZone,
}

/// An expression or a zone that names no times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} ({fix})")]
pub struct CronError {
    pub part: CronPart,
    pub problem: String,
    /// What to write instead.
    pub fix: String,
}

/// Which of the two is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CronPart {
    Expression,
    TimeZone,
}

/// The longest that two times of one expression lie apart: 29 February around a century that is no leap year.
const YEARS_APART_MAX: i16 = 8;

impl Cron {
    /// Reads `minute hour day month weekday` or a name as `@daily`, in the zone of that IANA name.
    ///
    /// # Errors
    /// [`CronError`] if a field is wrong, no date ever matches, or the zone is not known.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, CronError> {
        let fields = Fields::parse(expression)?;
        Ok(Self { fields, zone: zone_named(zone)? })
    }

    /// The first time after `wall`; `None` beyond the year 9999.
    pub fn next_after(&self, wall: Wall) -> Option<Wall> {
        let after = Timestamp::from_millisecond(i64::try_from(wall.0).ok()?).ok()?;
        // Local minutes and their instants go forward together, so none before this one can still come.
        let start = self.zone.to_datetime(after);
        let (mut date, mut from) = (start.date(), (start.hour(), start.minute()));
        let last_year = start.year().saturating_add(YEARS_APART_MAX);
        while date.year() <= last_year {
            if self.fields.has_date(date) {
                let instants =
                    self.fields.times_from(from).map(|(hour, minute)| self.instant(date.at(hour, minute, 0, 0)));
                for instant in instants {
                    let instant = instant?;
                    if instant > after {
                        return u64::try_from(instant.as_millisecond()).ok().map(Wall);
                    }
                }
            }
            date = date.tomorrow().ok()?;
            from = (0, 0);
        }
        None
    }

    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()
            }
            // Read with the later offset, a minute of the gap lies before the change; the next change is that of the gap.
            AmbiguousOffset::Gap { after, .. } => {
                let before_change = after.to_timestamp(local).ok()?;
                self.zone.following(before_change).next().map(|change| change.timestamp())
            }
        }
    }
}

fn zone_named(name: &str) -> Result<TimeZone, CronError> {
    let refused = |problem: String| {
        let fix = "write an IANA name, as Europe/Berlin, America/New_York or UTC".to_owned();
        CronError { part: CronPart::TimeZone, problem, fix }
    };
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(refused("the name of the time zone is too long".to_owned()));
    }
    jiff::tz::db().get(name).map_err(|_| refused(format!("{name:?} is not a time zone")))
}
