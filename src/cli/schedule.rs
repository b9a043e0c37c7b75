//! `nodectl schedule`.

use clap::{Args, Subcommand};
use magpie_core::dag::Overlap;
use magpie_core::ids::{PeerId, ScheduleId};
use magpie_core::queue::{
    LedgerReply, LedgerRequest, ScheduleChange, ScheduleReply, ScheduleRequest, ScheduleRunView, ScheduleView,
};
use magpie_core::time::{DurationMs, Wall};
use serde::Serialize;
use serde_json::json;

use super::all_homes::{AllHomesArg, list};
use super::args::Context;
use super::connection::{ANSWER_PATIENCE, unexpected};
use super::exit::{CommandError, Exit};
use super::id_prefix::{Noun, resolve};
use super::shapes::IdDocument;
use super::{human, operation, table};

#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List schedules of this home, the oldest first
    Ls(LsArgs),
    /// Show a schedule with its newest runs
    Get { id: String },
    /// Let no run start until it is resumed; what runs goes on
    Pause { id: String },
    /// Let runs start again, from the next time on
    Resume { id: String },
    /// Remove a schedule; what runs goes on
    Rm { id: String },
    /// Start a run now, beside whatever runs, and print its id
    RunNow { id: String },
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Begin after this schedule: `next_cursor` of an earlier listing
    #[arg(long, value_name = "ID")]
    cursor: Option<ScheduleId>,
    #[command(flatten)]
    homes: AllHomesArg,
}

/// Of `schedule get`, `schedule ls`, and what changes one.
#[derive(Debug, Serialize)]
struct ScheduleDocument<'a> {
    id: ScheduleId,
    name: &'a str,
    namespace: &'a str,
    cron: &'a str,
    timezone: &'a str,
    overlap: Overlap,
    catch_up: u32,
    jitter: DurationMs,
    paused: bool,
    next_at: Option<Wall>,
    last_at: Option<Wall>,
    waiting_at: Option<Wall>,
    fired: u64,
    missed: u64,
    skipped: u64,
    home: PeerId,
    owner: &'a str,
    created_at: Wall,
    runs: &'a [ScheduleRunView],
}

impl<'a> ScheduleDocument<'a> {
    fn of(view: &'a ScheduleView) -> Self {
        let terms = &view.schedule;
        Self {
            id: view.id,
            name: &view.name,
            namespace: &view.namespace,
            cron: &terms.cron,
            timezone: &terms.timezone,
            overlap: terms.overlap,
            catch_up: terms.catch_up,
            jitter: terms.jitter,
            paused: view.paused,
            next_at: view.next_at,
            last_at: view.last_at,
            waiting_at: view.waiting_at,
            fired: view.fired,
            missed: view.missed,
            skipped: view.skipped,
            home: view.home,
            owner: &view.owner,
            created_at: view.created_at,
            runs: &view.runs,
        }
    }
}

impl ScheduleCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls(list) => list.run(context).await,
            Self::Get { id } => {
                let id = resolve(&context.link, Noun::Schedule, &id).await?;
                match context.link.ledger(LedgerRequest::Schedule(ScheduleRequest::Get { id })).await? {
                    LedgerReply::Schedule(ScheduleReply::One(view)) => print(context, &view),
                    _ => Err(unexpected()),
                }
            }
            Self::Pause { id } => change(context, &id, ScheduleChange::Pause).await,
            Self::Resume { id } => change(context, &id, ScheduleChange::Resume).await,
            Self::Rm { id } => change(context, &id, ScheduleChange::Remove).await,
            Self::RunNow { id } => run_now(context, &id).await,
        }
    }
}

async fn change(context: &Context, id: &str, change: ScheduleChange) -> Result<Exit, CommandError> {
    let id = resolve(&context.link, Noun::Schedule, id).await?;
    match insist(context, ScheduleRequest::Change { operation: operation::fresh(), id, change }).await? {
        ScheduleReply::One(view) => print(context, &view),
        ScheduleReply::Removed { id } => {
            context.document(&json!({"id": id, "removed": true}), || format!("{id} is removed\n"))?;
            Ok(Exit::Ok)
        }
        _ => Err(unexpected()),
    }
}

async fn run_now(context: &Context, id: &str) -> Result<Exit, CommandError> {
    let id = resolve(&context.link, Noun::Schedule, id).await?;
    match insist(context, ScheduleRequest::RunNow { operation: operation::fresh(), id }).await? {
        ScheduleReply::RunStarted { id } => {
            context.document(&IdDocument { id }, || format!("{id}\n"))?;
            Ok(Exit::Ok)
        }
        _ => Err(unexpected()),
    }
}

async fn insist(context: &Context, request: ScheduleRequest) -> Result<ScheduleReply, CommandError> {
    let deadline = context.link.submission_deadline(None).await?;
    match context.link.insist_ledger(LedgerRequest::Schedule(request), ANSWER_PATIENCE, deadline).await? {
        LedgerReply::Schedule(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}

impl LsArgs {
    async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let (link, scope) = (&context.link, self.homes.scope(context).await?);
        let page = async |home, cursor, limit| {
            let request = LedgerRequest::Schedule(ScheduleRequest::List { namespace: None, cursor, limit });
            match link.ledger_of(home, request).await? {
                LedgerReply::Schedule(ScheduleReply::List { items, next_cursor }) => Ok((items, next_cursor)),
                _ => Err(unexpected()),
            }
        };
        let listed = list(link, &scope, self.cursor, self.limit as usize, |view: &ScheduleView| view.id, page).await?;
        let document = listed.document(ScheduleDocument::of);
        context.document(&document, || rows(&listed.items) + &listed.rest())?;
        Ok(Exit::Ok)
    }
}

fn rows(schedules: &[ScheduleView]) -> String {
    let now = human::now();
    let row = |view: &ScheduleView| {
        [
            view.id.to_string(),
            view.name.clone(),
            view.schedule.cron.clone(),
            view.schedule.timezone.clone(),
            next_in_words(view, now),
            human::ago(view.last_at, now),
            view.runs.len().to_string(),
            format!("{}/{}/{}", view.fired, view.missed, view.skipped),
        ]
    };
    let header = ["SCHEDULE", "NAME", "CRON", "ZONE", "NEXT", "LAST", "RUNNING", "FIRED/MISSED/SKIPPED"];
    table::rows(header, schedules.iter().map(row))
}

fn next_in_words(view: &ScheduleView, now: Wall) -> String {
    if view.paused { "paused".to_owned() } else { human::ahead(view.next_at, now) }
}

fn print(context: &Context, view: &ScheduleView) -> Result<Exit, CommandError> {
    context.document(&ScheduleDocument::of(view), || details(view))?;
    Ok(Exit::Ok)
}

fn details(view: &ScheduleView) -> String {
    let now = human::now();
    let terms = &view.schedule;
    let next = view.next_at.map_or_else(String::new, |at| format!(", at {at}"));
    let mut text = table::details([
        ("schedule", view.id.to_string()),
        ("workflow", view.name.clone()),
        ("namespace", view.namespace.clone()),
        ("times", format!("{} in {}", terms.cron, terms.timezone)),
        ("overlap", terms.overlap.name().to_owned()),
        ("catch up", terms.catch_up.to_string()),
        ("jitter", terms.jitter.to_string()),
        ("next", next_in_words(view, now) + &next),
        ("last", human::or_dash(view.last_at)),
        ("waiting", human::or_dash(view.waiting_at)),
        ("fired", view.fired.to_string()),
        ("missed", view.missed.to_string()),
        ("skipped", view.skipped.to_string()),
    ]);
    if !view.runs.is_empty() {
        let row = |run: &ScheduleRunView| {
            let state = run.state.map_or("no longer kept", |state| state.name());
            [run.id.to_string(), run.fire_at.to_string(), state.to_owned()]
        };
        text += &format!("\n{}", table::rows(["RUN", "FOR", "STATE"], view.runs.iter().map(row)));
    }
    text
}
