//! Workflows that start by themselves: made, listed, held back, let go on, started out of turn, removed.

use std::sync::Arc;

use magpie_core::ids::ScheduleId;
use magpie_core::queue::{LedgerReply, LedgerRequest, ScheduleChange, ScheduleReply, ScheduleRequest, ScheduleView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::detail::{LIMIT, LIMIT_MAX, wrong_cursor};
use super::operation;
use super::upload::Uploads;
use super::workflow::parse_workflow;
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};

async fn ask(call: &Call<'_>, request: ScheduleRequest) -> Result<ScheduleReply, ToolError> {
    match call.link.ledger(LedgerRequest::Schedule(request), PATIENCE).await? {
        LedgerReply::Schedule(reply) => Ok(reply),
        _ => Err(link::unexpected()),
    }
}

async fn get(call: &Call<'_>, id: ScheduleId) -> Result<ScheduleView, ToolError> {
    match ask(call, ScheduleRequest::Get { id }).await? {
        ScheduleReply::One(view) => Ok(*view),
        _ => Err(link::unexpected()),
    }
}

fn parse_id(text: &str) -> Result<ScheduleId, ToolError> {
    text.trim().parse().map_err(|error| {
        let fix = "take an id that schedule_create answered or that schedule_list lists";
        let next = Next::new("schedule_list", Value::Object(Map::new()), 0);
        ToolError::wrong_argument("schedule_id", error, "an id as 01JD...-k3v9x2aq", fix).next(next)
    })
}

/// What every answer about a schedule says.
#[derive(Serialize, JsonSchema)]
struct ScheduleRow {
    schedule_id: String,
    /// Of the workflow.
    name: String,
    cron: String,
    timezone: String,
    paused: bool,
    /// When it starts a run next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<String>,
    /// Times that led to a run, that passed while the home was away, and that passed because of an earlier run.
    fired: u64,
    missed: u64,
    skipped: u64,
    /// Runs that are not over.
    runs_live: usize,
}

impl ScheduleRow {
    fn of(view: &ScheduleView) -> Self {
        let live = view.runs.iter().filter(|run| run.state.is_some_and(|state| !state.is_terminal()));
        Self {
            schedule_id: view.id.to_string(),
            name: view.name.clone(),
            cron: view.schedule.cron.clone(),
            timezone: view.schedule.timezone.clone(),
            paused: view.paused,
            next_at: view.next_at.map(|at| at.to_string()),
            last_at: view.last_at.map(|at| at.to_string()),
            fired: view.fired,
            missed: view.missed,
            skipped: view.skipped,
            runs_live: live.count(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
pub struct ScheduleOutput {
    ok: bool,
    #[serde(flatten)]
    row: ScheduleRow,
    namespace: String,
    owner: String,
    /// skip, queue, replace or allow: what happens at a time when an earlier run is not over.
    overlap: &'static str,
    catch_up: u32,
    created_at: String,
    peer_id: String,
    /// The newest last.
    runs: Vec<RunRow>,
}

#[derive(Serialize, JsonSchema)]
struct RunRow {
    workflow_id: String,
    /// The time that it was started for.
    fire_at: String,
    /// Absent once its home does not keep it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

impl ScheduleOutput {
    fn of(view: &ScheduleView) -> Self {
        let runs = view.runs.iter().map(|run| RunRow {
            workflow_id: run.id.to_string(),
            fire_at: run.fire_at.to_string(),
            state: run.state.map(|state| state.name()),
        });
        Self {
            ok: true,
            row: ScheduleRow::of(view),
            namespace: view.namespace.clone(),
            owner: view.owner.clone(),
            overlap: view.schedule.overlap.name(),
            catch_up: view.schedule.catch_up,
            created_at: view.created_at.to_string(),
            peer_id: view.home.to_string(),
            runs: runs.collect(),
        }
    }
}

pub struct CreateSchedule;

#[derive(Deserialize, JsonSchema)]
pub struct CreateScheduleInput {
    /// Of the workflow: lower-case letters, digits, - and _.
    #[schemars(with = "String")]
    name: Value,
    /// As submit_p2p_workflow takes them.
    #[schemars(with = "Vec<Map<String, Value>>")]
    steps: Value,
    /// Minute, hour, day, month, weekday, as 0 6 * * 1-5; or @hourly, @daily, @weekly, @monthly.
    #[schemars(with = "String")]
    cron: Value,
    /// An IANA name; UTC unless said.
    #[schemars(with = "Option<String>")]
    timezone: Option<Value>,
    /// While an earlier run is not over: skip (default), queue, replace or allow.
    #[schemars(with = "Option<String>")]
    overlap: Option<Value>,
    /// So many of the times that passed while the home was away run all the same.
    #[schemars(with = "Option<u64>")]
    catch_up: Option<Value>,
    /// Up to so much later, as 5m.
    #[schemars(with = "Option<String>")]
    jitter: Option<Value>,
    #[schemars(with = "Option<Map<String, Value>>")]
    input: Option<Value>,
    #[schemars(with = "Option<Map<String, Value>>")]
    outputs: Option<Value>,
    #[schemars(with = "Option<String>")]
    on_fail: Option<Value>,
    #[schemars(with = "Option<String>")]
    namespace: Option<Value>,
    #[schemars(with = "Option<Map<String, Value>>")]
    labels: Option<Value>,
    /// Repeat it within 10 min, and no second schedule is made.
    idempotency_key: Option<String>,
}

impl CreateScheduleInput {
    fn document(self) -> Map<String, Value> {
        let named = |fields: Vec<(&str, Option<Value>)>| {
            let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            given.collect::<Map<String, Value>>()
        };
        let schedule = named(vec![
            ("cron", Some(self.cron)),
            ("timezone", self.timezone),
            ("overlap", self.overlap),
            ("catch_up", self.catch_up),
            ("jitter", self.jitter),
        ]);
        named(vec![
            ("name", Some(self.name)),
            ("steps", Some(self.steps)),
            ("schedule", Some(Value::Object(schedule))),
            ("input", self.input),
            ("outputs", self.outputs),
            ("on_fail", self.on_fail),
            ("namespace", self.namespace),
            ("labels", self.labels),
        ])
    }
}

impl Handler for CreateSchedule {
    type Input = CreateScheduleInput;
    type Output = ScheduleOutput;

    async fn call(&self, input: CreateScheduleInput, call: &Call<'_>) -> Result<ScheduleOutput, ToolError> {
        let key = input.idempotency_key.clone();
        let mut uploads = Uploads::default();
        let spec = Arc::new(parse_workflow(input.document(), &mut uploads)?);
        uploads.send(call.link).await?;
        let operation = operation::id("schedule_create", key.as_deref(), "");
        let request = LedgerRequest::SubmitWorkflow { operation, spec: spec.clone() };
        let id = match call.link.ledger(request, PATIENCE).await? {
            LedgerReply::Schedule(ScheduleReply::Made { id, .. }) => id,
            _ => return Err(link::unexpected()),
        };
        let view = get(call, id).await?;
        if key.is_some() && (view.name != spec.name || Some(&view.schedule) != spec.schedule.as_ref()) {
            let message = format!("the idempotency key belongs to {id}, which is another schedule");
            let fix = "take another idempotency_key for another schedule, or send exactly what the key was used for";
            return Err(ToolError::new("idempotency_conflict", message, fix));
        }
        Ok(ScheduleOutput::of(&view))
    }
}

pub struct ListSchedules;

#[derive(Deserialize, JsonSchema)]
pub struct ListSchedulesInput {
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ListSchedulesOutput {
    ok: bool,
    /// Oldest first.
    schedules: Vec<ScheduleRow>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl Handler for ListSchedules {
    type Input = ListSchedulesInput;
    type Output = ListSchedulesOutput;

    async fn call(&self, input: ListSchedulesInput, call: &Call<'_>) -> Result<ListSchedulesOutput, ToolError> {
        let cursor = input.cursor.as_deref().map(|text| text.parse().map_err(|_| wrong_cursor(text))).transpose()?;
        let limit = input.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
        match ask(call, ScheduleRequest::List { namespace: None, cursor, limit }).await? {
            ScheduleReply::List { items, next_cursor } => Ok(ListSchedulesOutput {
                ok: true,
                count: items.len(),
                schedules: items.iter().map(ScheduleRow::of).collect(),
                next_cursor: next_cursor.map(|id| id.to_string()),
            }),
            _ => Err(link::unexpected()),
        }
    }
}

pub struct GetSchedule;

#[derive(Deserialize, JsonSchema)]
pub struct GetScheduleInput {
    schedule_id: String,
}

impl Handler for GetSchedule {
    type Input = GetScheduleInput;
    type Output = ScheduleOutput;

    async fn call(&self, input: GetScheduleInput, call: &Call<'_>) -> Result<ScheduleOutput, ToolError> {
        Ok(ScheduleOutput::of(&get(call, parse_id(&input.schedule_id)?).await?))
    }
}

#[derive(Deserialize, JsonSchema)]
pub struct ChangeScheduleInput {
    schedule_id: String,
    idempotency_key: Option<String>,
}

impl ChangeScheduleInput {
    async fn ask(self, tool: &str, change: ScheduleChange, call: &Call<'_>) -> Result<ScheduleReply, ToolError> {
        let id = parse_id(&self.schedule_id)?;
        let operation = operation::id(tool, self.idempotency_key.as_deref(), &id.to_string());
        ask(call, ScheduleRequest::Change { operation, id, change }).await
    }
}

/// Lets no run start until it is resumed.
pub struct PauseSchedule;
/// Lets runs start again.
pub struct ResumeSchedule;

fn changed(reply: ScheduleReply) -> Result<ScheduleOutput, ToolError> {
    match reply {
        ScheduleReply::One(view) => Ok(ScheduleOutput::of(&view)),
        _ => Err(link::unexpected()),
    }
}

impl Handler for PauseSchedule {
    type Input = ChangeScheduleInput;
    type Output = ScheduleOutput;

    async fn call(&self, input: ChangeScheduleInput, call: &Call<'_>) -> Result<ScheduleOutput, ToolError> {
        changed(input.ask("schedule_pause", ScheduleChange::Pause, call).await?)
    }
}

impl Handler for ResumeSchedule {
    type Input = ChangeScheduleInput;
    type Output = ScheduleOutput;

    async fn call(&self, input: ChangeScheduleInput, call: &Call<'_>) -> Result<ScheduleOutput, ToolError> {
        changed(input.ask("schedule_resume", ScheduleChange::Resume, call).await?)
    }
}

pub struct RemoveSchedule;

#[derive(Serialize, JsonSchema)]
pub struct RemoveScheduleOutput {
    ok: bool,
    schedule_id: String,
    removed: bool,
}

impl Handler for RemoveSchedule {
    type Input = ChangeScheduleInput;
    type Output = RemoveScheduleOutput;

    async fn call(&self, input: ChangeScheduleInput, call: &Call<'_>) -> Result<RemoveScheduleOutput, ToolError> {
        match input.ask("schedule_remove", ScheduleChange::Remove, call).await? {
            ScheduleReply::Removed { id } => {
                Ok(RemoveScheduleOutput { ok: true, schedule_id: id.to_string(), removed: true })
            }
            _ => Err(link::unexpected()),
        }
    }
}

pub struct RunSchedule;

#[derive(Serialize, JsonSchema)]
pub struct RunScheduleOutput {
    ok: bool,
    workflow_id: String,
    /// What names the work in later calls: the workflow's id.
    handle: String,
    next: Next,
}

impl Handler for RunSchedule {
    type Input = ChangeScheduleInput;
    type Output = RunScheduleOutput;

    async fn call(&self, input: ChangeScheduleInput, call: &Call<'_>) -> Result<RunScheduleOutput, ToolError> {
        let id = parse_id(&input.schedule_id)?;
        let operation = operation::id("schedule_run", input.idempotency_key.as_deref(), &id.to_string());
        match ask(call, ScheduleRequest::RunNow { operation, id }).await? {
            ScheduleReply::RunStarted { id } => Ok(RunScheduleOutput {
                ok: true,
                workflow_id: id.to_string(),
                handle: id.to_string(),
                next: super::workflow::wait_next(id),
            }),
            _ => Err(link::unexpected()),
        }
    }
}
