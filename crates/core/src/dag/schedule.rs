//! When a workflow runs by itself: the `schedule` of its file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Pointer, Problems, instead, shown};
use super::fields::{Fields, Shape};
use crate::cron::{Cron, CronPart};
use crate::limits;
use crate::task::{Durability, is_default};
use crate::time::DurationMs;

/// Times of the calendar at which a home starts a run of the workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// Minute, hour, day, month, weekday; or `@daily` and its like.
    pub cron: String,
    /// An IANA name.
    #[serde(default = "utc")]
    pub timezone: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// Times that passed while the home was away and run nevertheless: the newest ones, at most so many.
    #[serde(default, skip_serializing_if = "is_default")]
    pub catch_up: u32,
    /// Each run starts up to so much after its time, by a draw that the time decides.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jitter: DurationMs,
}

/// What happens at a time when an earlier run is not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The time passes without a run.
    #[default]
    Skip,
    /// The run waits for the earlier one; at most one waits.
    Queue,
    /// The earlier run is cancelled.
    Replace,
    /// Both run.
    Allow,
}

impl Overlap {
    const ALL: [Self; 4] = [Self::Skip, Self::Queue, Self::Replace, Self::Allow];

    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Replace => "replace",
            Self::Allow => "allow",
        }
    }
}

/// A field of a schedule that cannot be as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schedule.{field}: {problem} ({fix})")]
pub struct ScheduleError {
    pub field: &'static str,
    pub problem: String,
    pub fix: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl ScheduleSpec {
    /// The times of the schedule.
    ///
    /// # Errors
    /// [`ScheduleError`] names the first field that is wrong: what a parser accepted may be another home's words.
    pub fn times(&self) -> Result<Cron, ScheduleError> {
        let wrong = |field, problem: String, fix: String| Err(ScheduleError { field, problem, fix });
        if self.catch_up > limits::SCHEDULE_CATCH_UP_MAX {
            let fix = format!("write 0 to {}", limits::SCHEDULE_CATCH_UP_MAX);
            return wrong("catch_up", format!("{} times to catch up", self.catch_up), fix);
        }
        if self.jitter.0 > limits::SCHEDULE_JITTER_MS_MAX {
            let fix = format!("write at most {}", DurationMs(limits::SCHEDULE_JITTER_MS_MAX));
            return wrong("jitter", format!("a jitter of {}", self.jitter), fix);
        }
        if self.cron.len() > limits::NAME_BYTES_MAX {
            return wrong("cron", "the expression is too long".to_owned(), "write five fields".to_owned());
        }
        Cron::parse(&self.cron, &self.timezone).map_err(|error| {
            let field = match error.part {
                CronPart::Expression => "cron",
                CronPart::TimeZone => "timezone",
            };
            ScheduleError { field, problem: error.problem, fix: error.fix }
        })
    }
}

const SCHEDULE: Shape =
    Shape { name: "schedule", keys: &["cron", "timezone", "overlap", "catch_up", "jitter"], elsewhere: |_| None };

/// The `schedule` of a workflow, with what is wrong in it reported at its place.
pub(super) fn read(value: &Value, at: Pointer, problems: &mut Problems) -> Option<ScheduleSpec> {
    let fields = Fields::open(value, at, &SCHEDULE, problems)?;
    if fields.value("cron").is_none() {
        problems.report(&fields.at.key("cron"), "cron is missing", "add cron: '30 4 * * *'");
    }
    let spec = ScheduleSpec {
        cron: fields.read("cron", problems).unwrap_or_default(),
        timezone: fields.read("timezone", problems).unwrap_or_else(utc),
        overlap: read_overlap(&fields, problems),
        catch_up: fields.read("catch_up", problems).unwrap_or_default(),
        jitter: fields.read("jitter", problems).unwrap_or_default(),
    };
    Some(spec)
}

fn read_overlap(fields: &Fields<'_>, problems: &mut Problems) -> Overlap {
    let Some(written) = fields.read::<String>("overlap", problems) else { return Overlap::default() };
    let found = Overlap::ALL.into_iter().find(|overlap| overlap.name() == written);
    if found.is_none() {
        let problem = format!("{} is no way to treat an earlier run", shown(&written));
        problems.report(&fields.at.key("overlap"), problem, instead(&written, Overlap::ALL.map(Overlap::name)));
    }
    found.unwrap_or_default()
}

pub(super) fn check(schedule: Option<&ScheduleSpec>, durability: Durability, problems: &mut Problems) {
    let Some(schedule) = schedule else { return };
    if durability == Durability::Memory {
        // A schedule outlives its home's process, so its runs do.
        let at = Pointer::default().key("durability");
        let fix = "write async or sync, or remove schedule";
        problems.report(&at, "a workflow with a schedule is written to disk", fix);
    }
    if let Err(error) = schedule.times() {
        let at = Pointer::default().key("schedule").key(error.field);
        if !problems.touch(&at) {
            problems.report(&at, error.problem, error.fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::parse::tests::refusal;
    use crate::dag::{WorkflowSpec, parse_workflow};
    use serde_json::json;

    fn scheduled(schedule: Value) -> Value {
        json!({"name": "w", "schedule": schedule, "steps": [{"name": "a", "kind": "noop"}]})
    }

    #[test]
    fn a_bare_expression_is_in_utc_skips_overlaps_and_catches_nothing_up() {
        let spec = parse_workflow(&scheduled(json!({"cron": "@daily"}))).unwrap();
        let schedule = spec.schedule.clone().unwrap();
        assert_eq!((schedule.timezone.as_str(), schedule.overlap, schedule.catch_up), ("UTC", Overlap::Skip, 0));
        assert_eq!(schedule.jitter, DurationMs(0));
        assert_eq!(parse_workflow(&serde_json::to_value(&spec).unwrap()).unwrap(), spec);
    }

    #[test]
    fn all_fields_survive_both_encodings() {
        let written = json!({
            "cron": "30 2 * * mon-fri", "timezone": "Europe/Berlin", "overlap": "queue", "catch_up": 3, "jitter": "30s",
        });
        let spec = parse_workflow(&scheduled(written)).unwrap();
        assert_eq!(parse_workflow(&serde_json::to_value(&spec).unwrap()).unwrap(), spec);
        let packed = rmp_serde::to_vec_named(&spec).unwrap();
        assert_eq!(rmp_serde::from_slice::<WorkflowSpec>(&packed).unwrap(), spec);
    }

    #[test]
    fn what_is_wrong_is_said_at_its_place() {
        for (schedule, expected) in [
            (json!({}), "/schedule/cron: cron is missing (add cron: '30 4 * * *')"),
            (
                json!({"cron": "@daily", "timezone": "Berlin"}),
                "/schedule/timezone: \"Berlin\" is not a time zone (write an IANA name, as Europe/Berlin, America/New_York or UTC)",
            ),
            (
                json!({"cron": "@daily", "overlap": "skpi"}),
                "/schedule/overlap: \"skpi\" is no way to treat an earlier run (write skip)",
            ),
            (
                json!({"cron": "@daily", "catch_up": 1_000}),
                "/schedule/catch_up: 1000 times to catch up (write 0 to 100)",
            ),
            (json!({"cron": "@daily", "jitter": "2h"}), "/schedule/jitter: a jitter of 2h (write at most 1h)"),
            (
                json!({"cron": "@daily", "zone": "UTC"}),
                "/schedule/zone: schedule has no key \"zone\" (write cron, timezone, overlap, catch_up or jitter)",
            ),
        ] {
            assert_eq!(refusal(&scheduled(schedule.clone())), expected, "{schedule}");
        }
        assert!(
            refusal(&scheduled(json!({"cron": "61 * * * *"})))
                .starts_with("/schedule/cron: \"61\" is no value of the field (minute)")
        );
    }

    #[test]
    fn a_schedule_of_class_memory_is_refused() {
        let mut document = scheduled(json!({"cron": "@daily"}));
        document["durability"] = json!("memory");
        assert!(refusal(&document).starts_with("/durability: a workflow with a schedule is written to disk"));
    }
}
