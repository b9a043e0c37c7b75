//! `nodectl run --dry-run`: what a file would do.

use magpie_core::dag::{Graph, ScheduleSpec, WorkflowSpec};
use magpie_core::ids::ContentId;
use magpie_core::payload::BlobRef;
use magpie_core::task::{TaskKind, TaskSpec};
use magpie_core::time::Wall;
use serde::Serialize;

use crate::cli::args::Context;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::spec_file::{LocalFile, Spec, SpecFile};
use crate::cli::{human, table};

/// Times of a schedule that a plan names.
const TIMES_SHOWN: usize = 5;

#[derive(Serialize)]
struct PlanDocument<'a> {
    dry_run: bool,
    name: Option<&'a str>,
    /// In an order in which each follows all that it needs.
    steps: Vec<PlannedStep<'a>>,
    critical_path: Vec<&'a str>,
    /// The next times of its schedule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next_times: Vec<Wall>,
    files: Vec<PlannedFile<'a>>,
}

#[derive(Serialize)]
struct PlannedStep<'a> {
    name: Option<&'a str>,
    kind: TaskKind,
    needs: &'a [String],
    /// `null` where the outputs of other steps decide.
    tasks: Option<u32>,
    requires: Option<&'a str>,
    model: Option<&'a str>,
    critical: bool,
}

#[derive(Serialize)]
struct PlannedFile<'a> {
    path: &'a str,
    bytes: u64,
}

/// Prints the plan; the node is not asked.
pub fn print(context: &Context, file: &SpecFile) -> Result<Exit, CommandError> {
    // Nothing is uploaded: a plan names files by their paths.
    let nowhere = |local: &LocalFile| BlobRef { cid: ContentId::of(b""), bytes: local.bytes };
    let submission = file.with_uploaded(nowhere)?;
    let mut plan = match &submission.spec {
        Spec::Workflow(spec) => workflow(spec)?,
        Spec::Task(spec) => task(spec),
    };
    plan.files = file.files.iter().map(|file| PlannedFile { path: &file.path_in_task, bytes: file.bytes }).collect();
    context.document(&plan, || text(&plan))?;
    Ok(Exit::Ok)
}

fn workflow(spec: &WorkflowSpec) -> Result<PlanDocument<'_>, CommandError> {
    let graph = Graph::of(spec).map_err(|error| CommandError::usage(error.to_string()))?;
    let critical = graph.critical_path(|_| 1);
    let planned = |index: &usize| {
        let step = &spec.steps[*index];
        PlannedStep {
            name: Some(&step.name),
            kind: step.kind,
            needs: &step.needs,
            tasks: step.for_each.is_none().then_some(1),
            requires: step.requires.as_deref(),
            model: step.model.as_deref(),
            critical: critical.contains(index),
        }
    };
    Ok(PlanDocument {
        dry_run: true,
        name: Some(&spec.name),
        steps: graph.order().iter().map(planned).collect(),
        critical_path: critical.iter().map(|step| spec.steps[*step].name.as_str()).collect(),
        next_times: spec.schedule.as_ref().map_or_else(Vec::new, next_times),
        files: Vec::new(),
    })
}

fn next_times(schedule: &ScheduleSpec) -> Vec<Wall> {
    let Ok(times) = schedule.times() else { return Vec::new() };
    let next = |wall: &Wall| times.next_after(*wall);
    std::iter::successors(next(&human::now()), next).take(TIMES_SHOWN).collect()
}

fn task(spec: &TaskSpec) -> PlanDocument<'_> {
    let step = PlannedStep {
        name: None,
        kind: spec.kind,
        needs: &[],
        tasks: Some(1),
        requires: spec.requires.as_deref(),
        model: spec.model.as_deref(),
        critical: true,
    };
    PlanDocument {
        dry_run: true,
        name: None,
        steps: vec![step],
        critical_path: Vec::new(),
        next_times: Vec::new(),
        files: Vec::new(),
    }
}

fn text(plan: &PlanDocument<'_>) -> String {
    let row = |step: &PlannedStep<'_>| {
        [
            human::or_dash(step.name),
            step.kind.to_string(),
            step.tasks.map_or_else(|| "one per item".to_owned(), |tasks| tasks.to_string()),
            if step.needs.is_empty() { "-".to_owned() } else { step.needs.join(" ") },
            human::or_dash(step.model),
            human::or_dash(step.requires),
        ]
    };
    let mut text = table::rows(["STEP", "KIND", "TASKS", "NEEDS", "MODEL", "REQUIRES"], plan.steps.iter().map(row));
    if !plan.critical_path.is_empty() {
        text += &format!("\ncritical path: {}\n", plan.critical_path.join(" -> "));
    }
    if !plan.next_times.is_empty() {
        let times: Vec<String> = plan.next_times.iter().map(ToString::to_string).collect();
        text += &format!("next times: {}\n", times.join(" "));
    }
    let bytes: u64 = plan.files.iter().map(|file| file.bytes).sum();
    if !plan.files.is_empty() {
        text += &format!("{} files to upload, {}\n", plan.files.len(), human::bytes(bytes));
    }
    text + "nothing was submitted\n"
}
