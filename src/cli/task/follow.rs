//! Waiting for a task, with what its attempt says of itself on a terminal.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use magpie_core::ids::TaskId;
use magpie_core::limits;
use magpie_core::progress::{AttemptRecord, Progress};
use magpie_core::queue::TaskView;
use magpie_core::task::TaskState;

use super::reader::TaskReader;
use crate::cli::args::Context;
use crate::cli::deadline::Deadline;
use crate::cli::exit::CommandError;
use crate::cli::human;
use crate::cli::wait::{STEP_MAX, until_terminal};

/// Steps of the bar.
const LENGTH: u64 = 1_000;

/// Waits for the end of a task.
///
/// # Errors
/// As [`until_terminal`].
pub async fn followed(context: &Context, id: TaskId, until: Deadline) -> Result<TaskView, CommandError> {
    let ended = until_terminal(&context.link, id, until, STEP_MAX, |_| {});
    let Some(bar) = bar_on_a_terminal() else { return ended.await };
    let ended = tokio::select! {
        ended = ended => ended,
        never = show_progress(&bar, context, id, until) => match never {},
    };
    bar.finish_and_clear();
    ended
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
