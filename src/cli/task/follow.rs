//! Waiting for a task, with what its attempt says of itself on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use magpie_core::ids::TaskId;
use magpie_core::queue::TaskView;

use crate::cli::args::Context;
use crate::cli::deadline::Deadline;
use crate::cli::exit::CommandError;
use crate::cli::human;
use crate::cli::wait::{STEP_MAX, until_terminal};

/// How often the line is brought up to date.
const REFRESH: Duration = Duration::from_millis(500);
/// Steps of the bar.
const LENGTH: u64 = 1_000;

/// Waits for the end of a task.
///
/// # Errors
/// As [`until_terminal`].
pub async fn followed(context: &Context, id: TaskId, until: Deadline) -> Result<TaskView, CommandError> {
    let bar = bar_on_a_terminal();
    let step = bar.as_ref().map_or(STEP_MAX, |_| REFRESH);
    let seen = |view: &TaskView| bar.iter().for_each(|bar| show(bar, view));
    let ended = until_terminal(&context.link, id, until, step, seen).await;
    bar.iter().for_each(ProgressBar::finish_and_clear);
    ended
}

/// On standard error, so that what is printed at the end stands alone on standard output; none where nobody looks.
fn bar_on_a_terminal() -> Option<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:24} {msg}").ok()?;
    std::io::stderr().is_terminal().then(|| ProgressBar::new(LENGTH).with_style(style))
}

fn show(bar: &ProgressBar, view: &TaskView) {
    let fraction = view.progress.as_ref().and_then(|progress| progress.fraction).unwrap_or_default();
    bar.set_position((fraction * LENGTH as f64) as u64);
    bar.set_message(message(view));
}

/// The state, and what the attempt says.
fn message(view: &TaskView) -> String {
    let said = view.progress.as_ref().map(human::progress).unwrap_or_default();
    let words: Vec<String> = [view.state.to_string(), said].into_iter().filter(|word| !word.is_empty()).collect();
    words.join("  ")
}
