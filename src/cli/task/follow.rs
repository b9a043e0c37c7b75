//! Waiting for a task, with what its attempt says of itself on a terminal.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use magpie_core::ids::TaskId;
use magpie_core::limits;
use magpie_core::progress::{AttemptRecord, Progress};
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskView};
use magpie_core::task::TaskState;

use super::reader::TaskReader;
use crate::cli::args::Context;
use crate::cli::deadline::Deadline;
use crate::cli::exit::CommandError;
use crate::cli::human;
use crate::cli::wait::{STEP_MAX, until_terminal};

/// Steps of the bar.
const LENGTH: u64 = 1_000;

/// Who waits is told why nothing happens, when it has not begun after so long, and whenever that changes.
const PENDING_AFTER: Duration = Duration::from_secs(3);
const PENDING_EVERY: Duration = Duration::from_secs(10);

/// Waits for the end of a task; on standard error it says what the task waits for, if that takes long.
///
/// # Errors
/// As [`until_terminal`].
pub async fn followed(context: &Context, id: TaskId, until: Deadline) -> Result<TaskView, CommandError> {
    let bar = bar_on_a_terminal();
    let showing = async {
        match &bar {
            Some(bar) => show_progress(bar, context, id, until).await,
            None => std::future::pending().await,
        }
    };
    // Boxed, so that no command is as large as all that it may do meanwhile.
    let (showing, saying) = (Box::pin(showing), Box::pin(say_what_it_waits_for(bar.as_ref(), context, id)));
    let ended = tokio::select! {
        ended = Box::pin(until_terminal(&context.link, id, until, STEP_MAX, |_| {})) => ended,
        never = showing => match never {},
        never = saying => match never {},
    };
    bar.iter().for_each(ProgressBar::finish_and_clear);
    ended
}

/// What cannot be asked for is not said.
async fn say_what_it_waits_for(bar: Option<&ProgressBar>, context: &Context, id: TaskId) -> Infallible {
    let (mut wait, mut said) = (PENDING_AFTER, String::new());
    loop {
        tokio::time::sleep(wait).await;
        wait = PENDING_EVERY;
        let Ok(LedgerReply::Pending(view)) = context.link.ledger(LedgerRequest::WhyPending { id }).await else {
            continue;
        };
        let waits = matches!(view.state, TaskState::Ready | TaskState::Delayed | TaskState::Blocked);
        if !waits || view.reason == said {
            continue;
        }
        let line = format!("nodectl: {id} waits: {}; see `nodectl task why-pending {id}`", view.reason);
        match bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
        said = view.reason;
    }
}

/// Shows what the attempts say as they say it; what cannot be read is not shown.
async fn show_progress(bar: &ProgressBar, context: &Context, id: TaskId, until: Deadline) -> Infallible {
    let (mut reader, mut said) = (TaskReader::new(&context.link, id, None), None);
    while let Ok(told) = reader.next(Duration::from_millis(limits::STREAM_WAIT_MS_MAX), until).await {
        for record in told.taken.into_iter().flat_map(|taken| taken.records) {
            match record {
                AttemptRecord::Progress(progress) => said = Some(progress),
                AttemptRecord::Log(_) => {}
            }
        }
        show(bar, told.state, said.as_ref());
        if told.over {
            break;
        }
    }
    std::future::pending().await
}

/// On standard error, so that what is printed at the end stands alone on standard output; none where nobody looks.
fn bar_on_a_terminal() -> Option<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:24} {msg}").ok()?;
    std::io::stderr().is_terminal().then(|| ProgressBar::new(LENGTH).with_style(style))
}

fn show(bar: &ProgressBar, state: TaskState, said: Option<&Progress>) {
    let fraction = said.and_then(|progress| progress.fraction).unwrap_or_default();
    bar.set_position((fraction * LENGTH as f64) as u64);
    bar.set_message(message(state, said));
}

/// The state, and what the attempt says.
fn message(state: TaskState, said: Option<&Progress>) -> String {
    let said = said.map(human::progress).unwrap_or_default();
    let words: Vec<String> = [state.to_string(), said].into_iter().filter(|word| !word.is_empty()).collect();
    words.join("  ")
}
