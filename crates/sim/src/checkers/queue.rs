//! I20: a paused queue grants nothing, a clear ends what waited and nothing else. And what is not kept any more had
//! ended (I1) and is left alone (I4).

use std::collections::BTreeSet;

use magpie_core::ids::{TaskId, WorkflowId};
use magpie_core::invariant::InvariantId;
use magpie_core::limits;
use magpie_core::queue::Record;

use super::{Verdict, require};
use crate::book::{Book, TaskFacts, WorkflowFacts};

/// `book` is as it was before the record.
pub fn check(book: &Book, record: &Record) -> Verdict {
    invariant_a_paused_queue_grants_nothing(book, record)?;
    invariant_a_clear_ends_what_waited_and_nothing_else(book, record)?;
    invariant_what_is_pruned_had_ended(book, record)?;
    invariant_what_is_pruned_is_left_alone(book, record)
}

fn invariant_a_paused_queue_grants_nothing(book: &Book, record: &Record) -> Verdict {
    let Record::Granted { grants, .. } = record else { return Ok(()) };
    for facts in grants.iter().filter_map(|grant| book.tasks.get(&grant.task)) {
        let namespace = &facts.spec.namespace;
        require(InvariantId::I20, "a_paused_queue_grants_nothing", !book.queue.is_paused(namespace), || {
            format!("a task of {namespace}, which is paused, is granted: {facts:?}")
        })?;
    }
    Ok(())
}

fn invariant_a_clear_ends_what_waited_and_nothing_else(book: &Book, record: &Record) -> Verdict {
    let Record::QueueCleared { namespace, up_to, tasks, workflows, left, .. } = record else { return Ok(()) };
    let of_it = |other: &str| namespace.as_deref().is_none_or(|namespace| namespace == other);
    let due = |facts: &TaskFacts| waits(facts) && of_it(&facts.spec.namespace) && facts.submitted <= *up_to;
    let due_run =
        |facts: &WorkflowFacts| is_unbegun(book, facts) && of_it(&facts.spec.namespace) && facts.submitted <= *up_to;
    let cleared: BTreeSet<&TaskId> = tasks.iter().chain(workflows).collect();
    let of_tasks = book.tasks.iter().map(|(id, facts)| (id, due(facts), is_sure(facts)));
    let of_runs = book.workflows.iter().map(|(id, facts)| (id, due_run(facts), true));
    let wrong = of_tasks.chain(of_runs).find(|(id, due, sure)| *sure && cleared.contains(id) != *due);
    let holds = wrong.is_none() || *left > 0;
    require(InvariantId::I20, "a_clear_ends_what_waited_and_nothing_else", holds, || {
        let facts = wrong.map(|(id, ..)| (id, book.tasks.get(id), book.workflows.get(id)));
        format!("a clear of {namespace:?} up to {up_to} and {facts:?} do not fit")
    })
}

fn waits(facts: &TaskFacts) -> bool {
    facts.part_of.is_none() && facts.end.is_none() && !facts.is_leased()
}

/// Too many grants that were never started end a task without a record that says so.
fn is_sure(facts: &TaskFacts) -> bool {
    (facts.epochs.iter().filter(|epoch| !epoch.started).count() as u32) < limits::FALSE_STARTS_MAX
}

fn is_unbegun(book: &Book, facts: &WorkflowFacts) -> bool {
    let mut tasks = facts.steps.iter().flat_map(|step| &step.tasks).filter_map(|id| book.tasks.get(id));
    facts.ended.is_none() && facts.parent.is_none() && tasks.all(|task| task.epochs.is_empty() && task.end.is_none())
}

fn invariant_what_is_pruned_had_ended(book: &Book, record: &Record) -> Verdict {
    let Record::Pruned { tasks, workflows, .. } = record else { return Ok(()) };
    let workflows: BTreeSet<&WorkflowId> = workflows.iter().collect();
    for (id, facts) in tasks.iter().filter_map(|id| Some((id, book.tasks.get(id)?))) {
        let with_its_workflow = facts.part_of.is_some_and(|workflow| workflows.contains(&workflow));
        let ended = if facts.part_of.is_some() { with_its_workflow } else { facts.end.is_some() || !is_sure(facts) };
        // Of what undoes a step the book does not see how a cancel ends it.
        let undoes = facts.part_of.is_some() && facts.step.is_none();
        require(InvariantId::I1, "what_is_pruned_had_ended", ended && (undoes || !facts.is_leased()), || {
            format!("{id} is not kept any more: {facts:?}")
        })?;
    }
    Ok(())
}

/// The tasks that a record moves.
fn moved(record: &Record) -> Vec<TaskId> {
    match record {
        Record::Granted { grants, .. } => grants.iter().map(|grant| grant.task).collect(),
        Record::Completed { results, .. } => results.iter().map(|result| result.fence.task).collect(),
        Record::Released { releases, .. } => releases.iter().map(|release| release.fence.task).collect(),
        Record::Started { fences, .. } | Record::Expired { fences, .. } | Record::Revived { fences, .. } => {
            fences.iter().map(|fence| fence.task).collect()
        }
        Record::Buried { tasks, .. } | Record::DeadlinePassed { tasks, .. } | Record::Pruned { tasks, .. } => {
            tasks.clone()
        }
        Record::Cancelled { target, .. } => vec![*target],
        Record::WorkflowRetried { workflow, .. } | Record::WorkflowEnded { workflow, .. } => vec![*workflow],
        Record::QueueCleared { tasks, workflows, .. } => tasks.iter().chain(workflows).copied().collect(),
        Record::Retried { tasks, .. } => tasks.iter().map(|retried| retried.of).collect(),
        _ => Vec::new(),
    }
}

fn invariant_what_is_pruned_is_left_alone(book: &Book, record: &Record) -> Verdict {
    let again = moved(record).into_iter().find(|id| book.queue.pruned.contains_key(id));
    require(InvariantId::I4, "what_is_pruned_is_left_alone", again.is_none(), || {
        format!("{again:?} is not kept any more, and then came a record {}", record.kind())
    })
}
