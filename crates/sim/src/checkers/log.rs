//! What each record may say after those before it: epochs (I2), attempts (I7), needs (I8), one end per task (I4),
//! one effect per operation (I15), and what the queue's own records say (I18, I20, I21).

use magpie_core::dag::Join;
use magpie_core::invariant::InvariantId;
use magpie_core::queue::{AfterAttempt, Record};

use super::{Verdict, keys, queue, require, schedules};
use crate::book::{self, Book};

/// All that is checked of a record before it is read into the book.
pub fn check(book: &Book, record: &Record) -> Verdict {
    invariant_generations_only_grow(book, record)?;
    invariant_an_operation_acts_once(book, record)?;
    invariant_epochs_only_grow(book, record)?;
    invariant_ended_tasks_are_left_alone(book, record)?;
    invariant_attempts_stay_within_the_policy(book, record)?;
    invariant_a_step_starts_after_all_it_needs(book, record)?;
    queue::check(book, record)?;
    keys::invariant_a_key_is_given_to_one_task(book, record)?;
    schedules::invariant_each_time_is_decided_once(book, record)
}

pub fn invariant_generations_only_grow(book: &Book, record: &Record) -> Verdict {
    let Record::Opened { generation, .. } = record else { return Ok(()) };
    require(InvariantId::I2, "generations_only_grow", *generation > book.generation, || {
        format!("generation {generation} was opened after {}", book.generation)
    })
}

pub fn invariant_an_operation_acts_once(book: &Book, record: &Record) -> Verdict {
    let Some(operation) = book::operation(record) else { return Ok(()) };
    let before = book.operations.get(&operation);
    require(InvariantId::I15, "an_operation_acts_once", before.is_none(), || {
        format!("{operation} acted in record {before:?}, and again: {record:?}")
    })
}

pub fn invariant_epochs_only_grow(book: &Book, record: &Record) -> Verdict {
    let Record::Granted { grants, .. } = record else { return Ok(()) };
    for grant in grants {
        let before = book.tasks.get(&grant.task).and_then(|facts| facts.newest());
        let grew = before.is_none_or(|before| before.epoch < grant.epoch);
        require(InvariantId::I2, "epochs_only_grow", grew && grant.epoch.generation() == book.generation, || {
            format!("{} was granted in epoch {} after {before:?} in {}", grant.task, grant.epoch, book.generation)
        })?;
    }
    Ok(())
}

pub fn invariant_ended_tasks_are_left_alone(book: &Book, record: &Record) -> Verdict {
    let ends: Vec<_> = match record {
        Record::Granted { grants, .. } => grants.iter().map(|grant| grant.task).collect(),
        Record::Completed { results, .. } => results.iter().map(|result| result.fence.task).collect(),
        Record::Buried { tasks, .. } | Record::DeadlinePassed { tasks, .. } => tasks.clone(),
        Record::Cancelled { target, .. } => vec![*target],
        Record::Expired { fences, .. } | Record::Revived { fences, .. } | Record::Started { fences, .. } => {
            fences.iter().map(|fence| fence.task).collect()
        }
        Record::TakenOutside { fence, .. } => vec![fence.task],
        _ => return Ok(()),
    };
    for task in ends {
        let end = book.tasks.get(&task).and_then(|facts| facts.end);
        require(InvariantId::I4, "ended_tasks_are_left_alone", end.is_none(), || {
            format!("{task} is {end:?}, and then came a record {}", record.kind())
        })?;
    }
    Ok(())
}

pub fn invariant_attempts_stay_within_the_policy(book: &Book, record: &Record) -> Verdict {
    let started: Vec<_> = match record {
        Record::Started { fences, .. } => fences.clone(),
        Record::TakenOutside { fence, .. } => vec![*fence],
        Record::Completed { results, .. } => results.iter().map(|result| result.fence).collect(),
        _ => return Ok(()),
    };
    for fence in started {
        let Some(facts) = book.tasks.get(&fence.task) else { continue };
        let new = facts.of_epoch(fence.epoch).is_some_and(|epoch| !epoch.started);
        let (attempts, allowed) = (facts.attempts() + u32::from(new), facts.spec.retry.max_attempts);
        require(InvariantId::I7, "attempts_stay_within_the_policy", attempts <= allowed, || {
            format!("{} started {attempts} times, its policy allows {allowed}", fence.task)
        })?;
    }
    Ok(())
}

pub fn invariant_a_step_starts_after_all_it_needs(book: &Book, record: &Record) -> Verdict {
    let (Record::StepBound { workflow, step, .. } | Record::StepUnbound { workflow, step, .. }) = record else {
        return Ok(());
    };
    let Some(facts) = book.workflows.get(workflow) else {
        return require(InvariantId::I8, "a_step_starts_after_all_it_needs", false, || {
            format!("{workflow} is unknown")
        });
    };
    let spec = &facts.spec.steps[*step as usize];
    let place = |name: &String| facts.spec.steps.iter().position(|step| step.name == *name);
    let met = spec.needs.iter().filter_map(place).filter(|need| book.ended_well(facts, *need)).count();
    let wanted = match spec.join {
        Join::All => spec.needs.len(),
        Join::Any => spec.needs.len().min(1),
        Join::Count(count) => count as usize,
    };
    require(InvariantId::I8, "a_step_starts_after_all_it_needs", met >= wanted, || {
        format!("step {step} of {workflow} was bound when {met} of {wanted} needs had ended well: {:?}", facts.steps)
    })
}

/// Whether an attempt's record ends its task.
pub fn ends(next: AfterAttempt) -> bool {
    !matches!(next, AfterAttempt::Retry { .. })
}
