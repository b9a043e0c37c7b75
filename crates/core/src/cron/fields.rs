//! The five fields together: which dates and which minutes they name.

use jiff::civil::{Date, Weekday};

use super::field::{DAY, FieldKind, HOUR, MINUTE, MONTH, WEEKDAY};
use super::{CronError, CronPart};

/// Sets of bits: bit `n` stands for the value `n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// Both the day of the month and that of the week are restricted: then either is enough.
    either_day: bool,
}

const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// The days of each month in a leap year.
const DAYS_MAX: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Fields {
    pub fn parse(expression: &str) -> Result<Self, CronError> {
        let trimmed = expression.trim();
        let named = NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(trimmed));
        let text = named.map_or(trimmed, |(_, text)| text);
        let parts: Vec<&str> = text.split_ascii_whitespace().take(6).collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(refused(format!("{:?} has not five fields", expression.chars().take(60).collect::<String>())));
        };
        let read = |kind: &FieldKind, text: &str| kind.parse(text);
        let weekdays = read(&WEEKDAY, weekday)?;
        let fields = Self {
            minutes: read(&MINUTE, minute)?,
            hours: read(&HOUR, hour)?,
            days: read(&DAY, day)?,
            months: read(&MONTH, month)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        if fields.ever_has_a_date() { Ok(fields) } else { Err(refused("there is no such day in any year".to_owned())) }
    }

    /// Whether some year has a date of these fields.
    fn ever_has_a_date(&self) -> bool {
        let least_day = self.days.trailing_zeros();
        self.either_day || (1..=12).any(|month| has(self.months, month) && least_day <= DAYS_MAX[month as usize - 1])
    }

    pub fn has_date(&self, date: Date) -> bool {
        let day = has(self.days, date.day() as u32);
        let weekday = has(self.weekdays, sunday_is_zero(date.weekday()));
        let right_day = if self.either_day { day || weekday } else { day && weekday };
        has(self.months, date.month() as u32) && right_day
    }

    /// Hours and minutes of a day, in order, from this one on.
    pub fn times_from(&self, (hour, minute): (i8, i8)) -> impl Iterator<Item = (i8, i8)> {
        let hours = (hour..24).filter(|hour| has(self.hours, *hour as u32));
        hours.flat_map(move |each| {
            let first = if each == hour { minute } else { 0 };
            let minutes = (first..60).filter(|minute| has(self.minutes, *minute as u32));
            minutes.map(move |minute| (each, minute))
        })
    }
}

fn has(bits: u64, value: u32) -> bool {
    bits >> value & 1 == 1
}

fn sunday_is_zero(weekday: Weekday) -> u32 {
    weekday.to_sunday_zero_offset() as u32
}

fn refused(problem: String) -> CronError {
    let fix = "write minute, hour, day, month and weekday, as 30 4 * * mon-fri, or @daily".to_owned();
    CronError { part: CronPart::Expression, problem, fix }
}
