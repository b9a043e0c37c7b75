//! What clients submit: tasks of every class, batches, workflows with needs and `for_each`.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::dag::{CompensateSpec, Join, OnFail, Overlap, ScheduleSpec, StepSpec, Template, WorkflowSpec};
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::SubmitItem;
use magpie_core::retry::RetryPolicy;
use magpie_core::task::{Durability, Priority, TaskKind, TaskSpec};
use magpie_core::time::{DurationMs, Wall};

use crate::rng::Rng;
use crate::settings::Settings;

pub const TIMEOUT_MS_MAX: u64 = 20_000;
/// The one that every node has loaded.
pub const MODEL: &str = "minilm";
pub const NAMESPACES: [&str; 3] = ["default", "other", "third"];

fn durability(rng: &mut Rng) -> Durability {
    match rng.below(10) {
        0 => Durability::Memory,
        1..=3 => Durability::Async,
        _ => Durability::Sync,
    }
}

fn retry(rng: &mut Rng) -> RetryPolicy {
    RetryPolicy {
        max_attempts: rng.between(1, 4) as u32,
        initial: DurationMs(rng.between(0, 800)),
        max_delay: DurationMs(3_000),
        ..RetryPolicy::default()
    }
}

/// Items of one submission. `memory` tasks stand in submissions of their own, and so do those that any client may submit
/// under the same key.
pub fn batch(rng: &mut Rng, settings: &Settings, now_wall_ms: u64) -> Vec<SubmitItem> {
    if rng.chance(150) {
        return vec![SubmitItem::one(same_for_all(rng.below(SAME_FOR_ALL)))];
    }
    let class = durability(rng);
    let items = rng.between(1, 3);
    (0..items)
        .map(|_| {
            let mut spec = task(rng, settings, now_wall_ms);
            spec.durability = match class {
                Durability::Memory => Durability::Memory,
                class => class.max(if rng.chance(500) { Durability::Async } else { Durability::Sync }),
            };
            let count = if spec.idempotency_key.is_some() || rng.chance(700) { 1 } else { rng.between(2, 6) as u32 };
            SubmitItem { spec: Arc::new(spec), count }
        })
        .collect()
}

/// So many specifications are known to all clients.
const SAME_FOR_ALL: u64 = 2;

/// A task under a key that every client gives it, so that each home runs it once, whoever submits it how often.
fn same_for_all(n: u64) -> TaskSpec {
    let mut rng = Rng::new(n);
    TaskSpec { idempotency_key: Some(format!("same-{n}")), ..plain_task(&mut rng, TaskKind::Noop) }
}

fn task(rng: &mut Rng, settings: &Settings, now_wall_ms: u64) -> TaskSpec {
    let kind = settings.draw_kind(rng);
    let mut spec = plain_task(rng, kind);
    spec.concurrency_key = settings.draw_concurrency_key(rng);
    spec.rate_key = settings.draw_rate_key(rng);
    if rng.chance(80) {
        spec.not_before = Some(Wall(now_wall_ms + rng.between(0, 4_000)));
    }
    if rng.chance(80) {
        spec.deadline = Some(Wall(now_wall_ms + rng.between(100, 20_000)));
    }
    if rng.chance(100) {
        spec.idempotency_key = Some(format!("key-{}", rng.below(4)));
    }
    spec
}

fn plain_task(rng: &mut Rng, kind: TaskKind) -> TaskSpec {
    let mut spec = TaskSpec::new(kind);
    spec.model = model(kind);
    spec.priority = Priority::try_from(rng.below(1_001) as u16).unwrap_or_default();
    spec.timeout = DurationMs(rng.between(1_000, TIMEOUT_MS_MAX));
    spec.retry = retry(rng);
    spec.namespace = rng.pick(&NAMESPACES).copied().unwrap_or("default").to_owned();
    spec.input = Payload::Inline(JsonText::of(&serde_json::Value::from(rng.below(1_000))));
    spec
}

fn model(kind: TaskKind) -> Option<String> {
    (kind == TaskKind::Embed).then(|| MODEL.to_owned())
}

fn step_of(name: &str, kind: TaskKind) -> StepSpec {
    let input = Template::parse(&serde_json::json!("some text")).unwrap_or_default();
    StepSpec { model: model(kind), input, ..StepSpec::new(name, kind) }
}

/// A workflow; one in four runs every minute, by any policy.
pub fn maybe_scheduled(rng: &mut Rng, settings: &Settings) -> WorkflowSpec {
    let mut spec = workflow(rng, settings);
    if rng.chance(250) && spec.durability != Durability::Memory {
        let overlap = [Overlap::Skip, Overlap::Queue, Overlap::Replace, Overlap::Allow][rng.below(4) as usize];
        spec.schedule = Some(ScheduleSpec {
            cron: "* * * * *".to_owned(),
            timezone: "UTC".to_owned(),
            overlap,
            catch_up: rng.below(3) as u32,
            jitter: DurationMs(rng.below(5_000)),
        });
    }
    spec
}

/// A list, a step over it, a step without items, and one that joins them; often with conditions, and with policies for
/// what fails.
pub fn workflow(rng: &mut Rng, settings: &Settings) -> WorkflowSpec {
    let template = |value: serde_json::Value| Template::parse(&value).unwrap_or_default();
    let items: Vec<u64> = (0..rng.below(6)).collect();
    let step = |rng: &mut Rng, name: &str, needs: &[&str]| StepSpec {
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        retry: retry(rng),
        timeout: Some(DurationMs(rng.between(1_000, TIMEOUT_MS_MAX))),
        concurrency_key: settings.draw_concurrency_key(rng),
        rate_key: settings.draw_rate_key(rng),
        ..step_of(name, settings.draw_kind(rng))
    };
    let list = StepSpec { input: template(serde_json::json!(items)), ..step(rng, "list", &[]) };
    let branches = rng.chance(600);
    let each = StepSpec {
        when: "${item} != 2".parse().ok().filter(|_| branches && rng.chance(400)),
        on_fail: branches.then(|| on_fail(rng)),
        for_each: Some(template("${steps.list.output}".into())),
        input: template("${item}".into()),
        ..step(rng, "each", &["list"])
    };
    let list = StepSpec { compensate: branches.then(|| undo(rng)), ..list };
    let aside = step(rng, "aside", &[]);
    let aside = StepSpec { on_fail: branches.then(|| on_fail(rng)), compensate: branches.then(|| undo(rng)), ..aside };
    let joins = [Join::All, Join::Any, Join::Count(1), Join::Count(2)];
    let join = StepSpec {
        input: template("${steps.each.output}".into()),
        join: if branches { joins[rng.below(4) as usize] } else { Join::All },
        when: "${steps.aside.state} != 'failed' || ${steps.each.error.code} == null"
            .parse()
            .ok()
            .filter(|_| branches && rng.chance(400)),
        ..step(rng, "join", &["each", "aside"])
    };
    let inside = vec![step(rng, "one", &[]), step(rng, "two", &["one"])];
    let mut spec = WorkflowSpec {
        name: "drawn".to_owned(),
        tag: None,
        namespace: rng.pick(&NAMESPACES).copied().unwrap_or("default").to_owned(),
        durability: durability(rng),
        priority: Priority::default(),
        schedule: None,
        parent: None,
        input: BTreeMap::new(),
        labels: BTreeMap::new(),
        on_fail: if branches { on_fail(rng) } else { OnFail::FailFast },
        steps: vec![list, each, aside, join],
        outputs: BTreeMap::from([("all".to_owned(), template("${steps.join.output}".into()))]),
    };
    if rng.chance(250) {
        let (steps, outputs) = (inside, BTreeMap::new());
        let inside = WorkflowSpec { steps, outputs, on_fail: OnFail::FailFast, ..spec.clone() };
        let needs = vec!["list".to_owned()];
        let sub = StepSpec { workflow: Some(Arc::new(inside)), needs, ..StepSpec::new("sub", TaskKind::Workflow) };
        spec.steps.push(sub);
    }
    spec
}

fn on_fail(rng: &mut Rng) -> OnFail {
    OnFail::ALL[rng.below(4) as usize]
}

/// A task that undoes a step, and may read what that gave.
fn undo(rng: &mut Rng) -> Box<CompensateSpec> {
    let missing = rng.chance(200);
    let input = if missing { "${steps.list.output.gone}" } else { "as drawn" };
    Box::new(CompensateSpec {
        kind: TaskKind::Noop,
        run: Vec::new(),
        model: None,
        input: Template::parse(&input.into()).unwrap_or_default(),
        files: Vec::new(),
        requires: None,
        timeout: Some(DurationMs(rng.between(1_000, 20_000))),
        retry: retry(rng),
    })
}
