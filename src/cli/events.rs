//! `nodectl events`.

use std::time::Duration;

use clap::Args;
use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::queue::{EventView, Subject};
use magpie_core::stream::{Checkpoint, Inlet, Taken};

use super::args::{Context, duration};
use super::connection::unexpected;
use super::deadline::Deadline;
use super::exit::{CommandError, Exit};
use super::home_arg::HomeArg;
use super::stream::{WINDOW, say_gone, take};
use super::{human, table};
use crate::messages::stream::{EVENTS_EPOCH, EventsAsk, StreamReply, StreamRequest};
use crate::messages::{Answer, Body};

/// What a node may take beyond the wait.
const SLACK: Duration = Duration::from_secs(10);

/// Print the events of a home, in their order
///
/// Each is a record that is on the home's disk, with the number to go on from with --after. Tasks of class `memory` are
/// in no record.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with those to come
    #[arg(short, long)]
    follow: bool,
    /// Begin behind this one
    #[arg(long, value_name = "SEQ", conflicts_with = "last")]
    after: Option<u64>,
    /// Begin so many before the newest
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    last: u64,
    #[command(flatten)]
    home: HomeArg,
    /// Give up following, or reaching the node, after this long: 200ms, 5s, 10m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

impl EventsArgs {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let deadline = context.link.wait_deadline(self.timeout).await?;
        self.home.address(context).await?;
        let wait = Duration::from_millis(if self.follow { limits::STREAM_WAIT_MS_MAX } else { 0 });
        let after = self.after.map(|seq| Checkpoint { epoch: EVENTS_EPOCH, seq });
        let (mut inlet, mut event) = (Inlet::new(after), None);
        loop {
            // An inlet that has taken nothing begins with the newest.
            let last = inlet.checkpoint().is_none().then_some(self.last);
            let taken = next(context, &mut inlet, (event, last), wait, deadline).await?;
            let is_done = taken.is_none() && !self.follow;
            if let Some(taken) = taken {
                say_gone(context.format, taken.gone.filter(|_| last.is_none()))?;
                taken.records.iter().try_for_each(|view| context.format.line(view, || text(view)))?;
                event = taken.records.last().map(|view| view.event).or(event);
            }
            if is_done {
                return Ok(Exit::Ok);
            }
            if deadline.has_passed() {
                return Err(CommandError::new(Exit::TimedOut, "the events go on"));
            }
        }
    }
}

async fn next(
    context: &Context,
    inlet: &mut Inlet,
    (event, last): (Option<ContentId>, Option<u64>),
    wait: Duration,
    deadline: Deadline,
) -> Result<Option<Taken<EventView>>, CommandError> {
    let wait = deadline.cap(wait);
    let (home, ask) = (context.link.home(), inlet.ask(WINDOW));
    let ask = EventsAsk { home, ask, event, last, wait_ms: wait.as_millis() as u64 };
    let body = Body::Stream(StreamRequest::Events(ask));
    let Answer::Stream(StreamReply::Events(piece)) = context.link.insist(&body, wait + SLACK, deadline).await? else {
        return Err(unexpected());
    };
    if let (Some(piece), true) = (&piece, last.is_some()) {
        let before = Checkpoint { epoch: piece.epoch, seq: piece.first.saturating_sub(1) };
        *inlet = Inlet::new(Some(before));
    }
    take(inlet, piece)
}

fn text(view: &EventView) -> String {
    let mut line = format!("{:>8}  {}  {:<18}", view.seq.0, view.at, view.kind);
    for subject in &view.subjects {
        line += &format!("  {}", one(subject));
    }
    if view.left_out > 0 {
        line += &format!("  and {} more", view.left_out);
    }
    table::printable(line.trim_end())
}

fn one(subject: &Subject) -> String {
    let on = subject.worker.map(|worker| format!(" on {}", human::short_peer(&worker))).unwrap_or_default();
    let says = subject.says.as_ref().map(|says| format!(" ({says})")).unwrap_or_default();
    format!("{}{on}{says}", subject.id)
}
