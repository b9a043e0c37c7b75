//! `nodectl task logs`.

use std::time::Duration;

use clap::Args;
use magpie_core::ids::TaskId;
use magpie_core::limits;
use magpie_core::progress::{AttemptRecord, Progress};
use magpie_core::stream::{Checkpoint, StreamEpoch, Taken};
use serde::Serialize;

use super::reader::TaskReader;
use crate::cli::args::{Context, duration};
use crate::cli::exit::{CommandError, Exit};
use crate::cli::id_prefix::{Noun, resolve};
use crate::cli::output::{Format, print};
use crate::cli::stream::say_gone;
use crate::messages::stream::Unread;

/// Print what the attempts of a task write to standard error
///
/// Of attempts that ended long ago the end of the log is left. With -o json progress stands between, in its order, and
/// each line carries the `epoch` and `seq` to go on from with --after.
#[derive(Debug, Args)]
pub struct LogsArgs {
    id: String,
    /// Go on until the task has ended
    #[arg(short, long)]
    follow: bool,
    /// Begin behind this record, as an earlier call told it
    #[arg(long, value_name = "EPOCH:SEQ", value_parser = checkpoint)]
    after: Option<Checkpoint>,
    /// Give up following, or reaching the node, after this long: 200ms, 5s, 10m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

fn checkpoint(text: &str) -> Result<Checkpoint, String> {
    let parts = text.split_once(':').and_then(|(epoch, seq)| Some((epoch.parse().ok()?, seq.parse().ok()?)));
    let (epoch, seq) = parts.ok_or_else(|| format!("{text:?} is not EPOCH:SEQ, as 4294967297:12"))?;
    Ok(Checkpoint { epoch: StreamEpoch(epoch), seq })
}

/// One line of `-o json`.
#[derive(Serialize)]
struct Line<'a> {
    task: TaskId,
    epoch: StreamEpoch,
    seq: u64,
    #[serde(flatten)]
    record: Said<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Said<'a> {
    Log(&'a str),
    Progress(&'a Progress),
}

/// What an attempt said and nobody tells.
#[derive(Serialize)]
struct Lost<'a> {
    lost: LostRest,
    #[serde(skip_serializing_if = "str::is_empty")]
    log_tail: &'a str,
}

#[derive(Serialize)]
struct LostRest {
    epoch: StreamEpoch,
    /// The last record that was shown.
    after: u64,
    why: String,
}

impl LogsArgs {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let deadline = context.link.wait_deadline(self.timeout).await?;
        let id = resolve(&context.link, Noun::Task, &self.id).await?;
        let wait = Duration::from_millis(if self.follow { limits::STREAM_WAIT_MS_MAX } else { 0 });
        let mut reader = TaskReader::new(&context.link, id, self.after);
        let mut shown = self.after.map_or(0, |after| after.seq);
        loop {
            let told = reader.next(wait, deadline).await?;
            let has_news = told.taken.is_some();
            if let Some(taken) = &told.taken {
                show(context.format, id, taken, shown)?;
                shown = reader.checkpoint().map_or(0, |at| at.seq);
            }
            if told.over {
                let rest = told.unread.map(|unread| say_unread(context.format, &unread, &reader));
                return rest.unwrap_or(Ok(())).map(|()| Exit::Ok);
            }
            if !self.follow && !has_news {
                return Ok(Exit::Ok);
            }
            if deadline.has_passed() {
                return Err(CommandError::new(Exit::TimedOut, format!("{id} goes on, and so does its log")));
            }
        }
    }
}

/// `shown`: the last record of the attempt before.
fn show(format: Format, id: TaskId, taken: &Taken<AttemptRecord>, shown: u64) -> Result<(), CommandError> {
    if let Some((epoch, false)) = taken.left {
        let why = "it was given up, or its worker is gone".to_owned();
        say_lost(format, LostRest { epoch, after: shown, why }, "")?;
    }
    say_gone(format, taken.gone)?;
    for (seq, record) in (taken.first..).zip(&taken.records) {
        let line = |record| Line { task: id, epoch: taken.epoch, seq, record };
        match (format, record) {
            (Format::Table | Format::Wide, AttemptRecord::Log(text)) => print(&readable(text))?,
            (Format::Table | Format::Wide, AttemptRecord::Progress(_)) => {}
            (Format::Json | Format::Yaml, AttemptRecord::Log(text)) => {
                format.line(&line(Said::Log(text)), String::new)?;
            }
            (Format::Json | Format::Yaml, AttemptRecord::Progress(progress)) => {
                format.line(&line(Said::Progress(progress)), String::new)?;
            }
        }
    }
    Ok(())
}

fn say_unread(format: Format, unread: &Unread, reader: &TaskReader<'_>) -> Result<(), CommandError> {
    let Unread { epoch, why, log_tail, away } = unread;
    let after = reader.checkpoint().filter(|at| at.epoch == *epoch).map_or(0, |at| at.seq);
    // One that never said anything has lost nothing.
    if after == 0 && log_tail.is_empty() && !away {
        return Ok(());
    }
    say_lost(format, LostRest { epoch: *epoch, after, why: why.clone() }, log_tail)
}

fn say_lost(format: Format, lost: LostRest, log_tail: &str) -> Result<(), CommandError> {
    let LostRest { epoch, after, why } = &lost;
    let end = if log_tail.is_empty() { "" } else { "; its home has the end of its log" };
    let text = match after {
        0 => format!("what the attempt of epoch {epoch} said is not known here: {why}{end}"),
        _ => format!("what the attempt of epoch {epoch} said after record {after} is not known here: {why}{end}"),
    };
    format.failed_line(&Lost { lost, log_tail }, || text)?;
    if matches!(format, Format::Table | Format::Wide) { print(&readable(log_tail)) } else { Ok(()) }
}

/// The text without what a terminal would obey, but for its lines and tabs.
fn readable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_an_epoch_and_a_number() {
        assert_eq!(checkpoint("4294967297:12"), Ok(Checkpoint { epoch: StreamEpoch(4_294_967_297), seq: 12 }));
        for wrong in ["", "12", "a:1", "1:", "1:-1", "1:2:3"] {
            assert!(checkpoint(wrong).unwrap_err().contains("EPOCH:SEQ"), "{wrong}");
        }
    }

    #[test]
    fn a_log_cannot_command_the_terminal_and_keeps_its_lines() {
        assert_eq!(readable("a\tb\r\n\x1b[31mred\u{9b}\n"), "a\tb\n[31mred\n");
    }
}
