//! Many tasks: read as they come, sent in batches, answered in order.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use magpie_core::ids::TaskId;
use magpie_core::queue::{Refusal, SubmitAnswer, SubmitItem, TaskView};
use magpie_core::task::TaskState;
use serde::Serialize;
use tokio::task::JoinSet;

pub use super::lines::Lines;
use super::lines::{Batch, Entry};
use crate::cli::args::{Context, WaitArgs};
use crate::cli::connection::{NodeLink, SUBMIT_PATIENCE};
use crate::cli::deadline::Deadline;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::shapes::IdDocument;
use crate::cli::submission;
use crate::cli::wait::{STEP_MAX, until_terminal};

/// Batches under way at a time.
const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Tasks that are waited for at a time.
const WAITS_IN_FLIGHT_MAX: usize = 64;
/// Failed tasks that are named after a wait.
const FAILED_SHOWN: usize = 20;

/// A task that was not accepted.
#[derive(Serialize)]
struct RefusedDocument<'a> {
    error: &'a str,
    line: u64,
}

/// Submits all of `lines`, prints an object for each, and waits for their ends if it is asked to.
pub async fn submit(context: &Context, mut lines: Lines, wait: &WaitArgs) -> Result<Exit, CommandError> {
    let until = Deadline::within(wait.timeout);
    let by = context.link.submission_deadline(wait.timeout).await?;
    let mut sending = Sending::default();
    let mut printed = Printed::new(context, wait.wait);
    while let Some(batch) = next_batch(&mut lines, &mut sending, &mut printed).await? {
        if sending.batches.len() >= BATCHES_IN_FLIGHT_MAX {
            printed.answers(sending.next_done().await?)?;
        }
        // Each batch has the patience of a submission of its own, though the node is away just now: a long stream
        // outlives any single one.
        let by = if wait.timeout.is_some() { by } else { Deadline::after(SUBMIT_PATIENCE) };
        sending.start(context.link.clone(), batch, by);
    }
    while !sending.batches.is_empty() {
        printed.answers(sending.next_done().await?)?;
    }
    let Printed { ids, exit, .. } = printed;
    if !wait.wait {
        return Ok(exit);
    }
    context.goes_on(format!("the {} tasks go on", ids.len()));
    let ended = wait_for_all(&context.link, ids, until).await?;
    Ok(if exit == Exit::Ok { ended } else { exit })
}

/// The next batch. Answers that come before it are printed meanwhile: whoever types waits for them.
async fn next_batch(
    lines: &mut Lines,
    sending: &mut Sending,
    printed: &mut Printed<'_>,
) -> Result<Option<Batch>, CommandError> {
    let mut next = pin!(lines.next_batch());
    loop {
        tokio::select! {
            batch = &mut next => return batch,
            done = sending.next_done(), if !sending.batches.is_empty() => printed.answers(done?)?,
        }
    }
}

/// Batches on their way to the home, in order.
#[derive(Default)]
struct Sending {
    requests: JoinSet<(u64, Result<Vec<SubmitAnswer>, CommandError>)>,
    batches: VecDeque<(u64, Batch)>,
    done: BTreeMap<u64, Result<Vec<SubmitAnswer>, CommandError>>,
    started: u64,
}

impl Sending {
    fn start(&mut self, link: Arc<NodeLink>, batch: Batch, deadline: Deadline) {
        let number = self.started;
        self.started += 1;
        let items: Vec<SubmitItem> = batch.items();
        self.batches.push_back((number, batch));
        self.requests.spawn(async move {
            let answers =
                if items.is_empty() { Ok(Vec::new()) } else { submission::tasks(&link, items, deadline).await };
            (number, answers)
        });
    }

    /// The oldest batch with its answers. A wait that is given up forgets nothing.
    async fn next_done(&mut self) -> Result<(Batch, Vec<SubmitAnswer>), CommandError> {
        loop {
            let Some((number, _)) = self.batches.front() else { return Ok(Default::default()) };
            if let Some(answers) = self.done.remove(number) {
                let batch = self.batches.pop_front().map(|(_, batch)| batch).unwrap_or_default();
                return answers.map(|answers| (batch, answers));
            }
            if let Some(Ok((number, answers))) = self.requests.join_next().await {
                self.done.insert(number, answers);
            }
        }
    }
}

/// What has been printed: one object for each task.
struct Printed<'a> {
    context: &'a Context,
    keep_ids: bool,
    ids: Vec<TaskId>,
    exit: Exit,
}

impl<'a> Printed<'a> {
    fn new(context: &'a Context, keep_ids: bool) -> Self {
        Self { context, keep_ids, ids: Vec::new(), exit: Exit::Ok }
    }

    fn answers(&mut self, (batch, answers): (Batch, Vec<SubmitAnswer>)) -> Result<(), CommandError> {
        let mut answers = answers.into_iter();
        for entry in batch.entries {
            match entry {
                Entry::Wrong { line, error } => self.refused(line, &error, Exit::Usage)?,
                Entry::Task { line, item } => {
                    for (n, answer) in answers.by_ref().take(item.count as usize).enumerate() {
                        self.answer(line + n as u64, answer)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, line: u64, answer: SubmitAnswer) -> Result<(), CommandError> {
        match answer {
            SubmitAnswer::Accepted { id } => {
                if self.keep_ids {
                    self.ids.push(id);
                }
                self.context.format.line(&IdDocument { id }, || id.to_string())
            }
            SubmitAnswer::Refused(refusal) => {
                let exit = if matches!(refusal, Refusal::Invalid { .. }) { Exit::Usage } else { Exit::Refused };
                self.refused(line, &refusal.to_string(), exit)
            }
        }
    }

    /// Bad input outweighs what the home would not take.
    fn refused(&mut self, line: u64, error: &str, exit: Exit) -> Result<(), CommandError> {
        if self.exit != Exit::Usage {
            self.exit = exit;
        }
        self.context.format.failed_line(&RefusedDocument { error, line }, || format!("line {line}: {error}"))
    }
}

/// Waits for the ends of all; the first that did not succeed decides the exit code.
async fn wait_for_all(link: &Arc<NodeLink>, ids: Vec<TaskId>, deadline: Deadline) -> Result<Exit, CommandError> {
    let total = ids.len();
    let mut left = ids.into_iter();
    let mut waiting = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        while waiting.len() < WAITS_IN_FLIGHT_MAX
            && let Some(id) = left.next()
        {
            let link = link.clone();
            waiting.spawn(async move {
                let ended: Result<TaskView, _> = until_terminal(&link, id, deadline, STEP_MAX, |_| {}).await;
                ended
            });
        }
        let Some(ended) = waiting.join_next().await else { break };
        let view = ended.map_err(|error| CommandError::new(Exit::Failed, error.to_string()))??;
        if view.state != TaskState::Succeeded {
            failed.push(view);
        }
    }
    if failed.is_empty() {
        return Ok(Exit::Ok);
    }
    let shown = failed.iter().take(FAILED_SHOWN).map(|view| {
        let why = view.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        format!("\n  {} is {}{why}", view.id, view.state)
    });
    let what = format!("{} of {total} tasks did not succeed:{}", failed.len(), shown.collect::<String>());
    Err(CommandError::new(Exit::Failed, what))
}
