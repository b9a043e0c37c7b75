//! One field of an expression: lists of numbers, ranges and steps, as a set of bits.

use super::{CronError, CronPart};

/// What a field may hold.
pub(super) struct FieldKind {
    pub name: &'static str,
    pub least: u32,
    pub most: u32,
    /// Names for the values from `least` on, three letters each.
    pub names: &'static [&'static str],
}

pub(super) const MINUTE: FieldKind = FieldKind { name: "minute", least: 0, most: 59, names: &[] };
pub(super) const HOUR: FieldKind = FieldKind { name: "hour", least: 0, most: 23, names: &[] };
pub(super) const DAY: FieldKind = FieldKind { name: "day of the month", least: 1, most: 31, names: &[] };
pub(super) const MONTH: FieldKind = FieldKind {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 0 and 7 are Sunday.
pub(super) const WEEKDAY: FieldKind = FieldKind {
    name: "day of the week",
    least: 0,
    most: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"],
};

impl FieldKind {
    /// The values that `text` names, as bits.
    pub fn parse(&self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |bits, item| Ok(bits | self.item(item)?))
    }

    /// `*`, `N`, `N-M`, each with `/STEP`.
    fn item(&self, item: &str) -> Result<u64, CronError> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(self.step(item, step)?)),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            None => {
                let first = self.value(item, range)?;
                // `N/STEP` goes on from N, as every cron reads it.
                (first, if step.is_some() { self.most } else { first })
            }
            Some((first, last)) => (self.value(item, first)?, self.end(item, last)?),
        };
        if first > last {
            return Err(self.wrong(item, "ends before it begins"));
        }
        Ok((first..=last).step_by(step.unwrap_or(1) as usize).fold(0, |bits, value| bits | 1 << value))
    }

    /// The end of a range: a Sunday there is the last day of the week.
    fn end(&self, item: &str, text: &str) -> Result<u32, CronError> {
        let end = self.value(item, text)?;
        Ok(if self.most == WEEKDAY.most && end == 0 { self.most } else { end })
    }

    fn value(&self, item: &str, text: &str) -> Result<u32, CronError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            Some(place) => Some(self.least + place as u32),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        value
            .filter(|value| (self.least..=self.most).contains(value))
            .ok_or_else(|| self.wrong(item, "is no value of the field"))
    }

    fn step(&self, item: &str, text: &str) -> Result<u32, CronError> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let step = text.parse().ok().filter(|step| digits && (1..=self.most).contains(step));
        step.ok_or_else(|| self.wrong(item, "has no step from 1 to the field's largest value"))
    }

    fn wrong(&self, item: &str, problem: &str) -> CronError {
        let item: String = item.chars().take(40).collect();
        let names = match self.names {
            [] => String::new(),
            names => format!(" or {}", names[..3].join(", ")),
        };
        let Self { name, least, most, .. } = self;
        CronError {
            part: CronPart::Expression,
            problem: format!("{item:?} {problem} ({name})"),
            fix: format!("write *, numbers from {least} to {most}{names}, as {least}-{most}/2 or {least},{most}"),
        }
    }
}
