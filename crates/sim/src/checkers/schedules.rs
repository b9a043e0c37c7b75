//! Each time of a schedule is decided once, and starts at most one run (I18).

use magpie_core::invariant::InvariantId;
use magpie_core::queue::{FireOutcome, Record, ScheduleRecord};

use super::{Verdict, require};
use crate::book::Book;

/// `book` is as it was before the record.
pub fn invariant_each_time_is_decided_once(book: &Book, record: &Record) -> Verdict {
    let (schedule, first) = match record {
        Record::Schedule(ScheduleRecord::Fired { schedule, fire, outcome, .. }) => {
            let before = book.schedules.get(schedule).and_then(|facts| facts.decided.get(fire)).copied();
            let rightly = match (before, outcome) {
                (Some(FireOutcome::Queued), FireOutcome::Dequeued) => true,
                (None, FireOutcome::Dequeued) | (Some(_), _) => false,
                (None, _) => book.schedules.get(schedule).is_some_and(|facts| *fire > facts.through && !facts.removed),
            };
            return require(InvariantId::I18, "each_time_is_decided_once", rightly, || {
                format!("{fire} of {schedule} is {outcome:?} after {before:?}")
            });
        }
        Record::Schedule(ScheduleRecord::Missed { schedule, next, .. }) => (schedule, next),
        _ => return Ok(()),
    };
    let through = book.schedules.get(schedule).map(|facts| facts.through);
    require(InvariantId::I18, "each_time_is_decided_once", first.is_none_or(|next| Some(next) > through), || {
        format!("{schedule} goes on at {first:?} after {through:?}")
    })
}
