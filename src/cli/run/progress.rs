//! One line per step while a workflow runs, on a terminal only.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use magpie_core::queue::{StepView, WorkflowView};

use crate::cli::human;

/// How often the lines are brought up to date.
pub const REFRESH: Duration = Duration::from_millis(250);
/// Steps that have a line of their own: a terminal is not higher.
const LINES_MAX: usize = 40;

/// Standard error, so that what is printed at the end stands alone on standard output. Dropped, the lines go.
pub struct Progress {
    lines: MultiProgress,
    steps: BTreeMap<String, ProgressBar>,
    style: ProgressStyle,
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.steps.values().for_each(ProgressBar::finish_and_clear);
    }
}

impl Progress {
    /// None where nobody looks.
    pub fn on_a_terminal() -> Option<Self> {
        let style = ProgressStyle::with_template("{prefix:16!} {bar:24} {pos:>6}/{len:<6} {msg}").ok()?;
        let progress = Self { lines: MultiProgress::new(), steps: BTreeMap::new(), style };
        std::io::stderr().is_terminal().then_some(progress)
    }

    pub fn show(&mut self, view: &WorkflowView) {
        for step in view.steps.iter().take(LINES_MAX) {
            let line = self.line(&step.name);
            // A step that has no tasks yet is not done.
            line.set_length(step.tasks.total().max(1));
            line.set_position(step.tasks.terminal());
            line.set_message(message(step));
        }
    }

    fn line(&mut self, name: &str) -> &ProgressBar {
        self.steps.entry(name.to_owned()).or_insert_with(|| {
            let line = self.lines.add(ProgressBar::new(0).with_style(self.style.clone()));
            line.set_prefix(name.to_owned());
            line
        })
    }
}

/// The state, and who does the work.
fn message(step: &StepView) -> String {
    let by_worker = step.workers.iter().map(|(peer, tasks)| format!("{} {tasks}", human::short_peer(peer)));
    let now = step.worker.filter(|_| !step.state.is_terminal()).map(|peer| format!("on {}", human::short_peer(&peer)));
    let said = step.progress.as_ref().map(human::progress);
    let words: Vec<String> = [step.state.to_string()].into_iter().chain(now).chain(by_worker).chain(said).collect();
    words.join("  ")
}
