//! The last door: what a home asks of every task and workflow, whichever way it came, a file, an agent or a peer's frame.

use super::check;
use super::error::{Pointer, Problems, SpecError, shown};
use super::graph::Graph;
use super::spec::WorkflowSpec;
use crate::limits;
use crate::matching::Requirement;
use crate::payload::Payload;
use crate::task::{TaskKind, TaskSpec};
use crate::time::{DurationMs, Wall};

/// Checks a task that is submitted at a time of its home's wall clock.
///
/// # Errors
/// Every problem: the field's path, what is wrong with it, and what may stand there.
pub fn check_task(task: &TaskSpec, now: Wall) -> Result<(), Vec<SpecError>> {
    let mut problems = Problems::default();
    check_any(task, &mut problems);
    if !task.needs.is_empty() {
        problems.report(
            &Pointer::default().key("needs"),
            "only a step of a workflow has needs",
            "hand it over in input",
        );
    }
    check_deadline(task, now, &mut problems);
    problems.into_result(Some(()))
}

/// Checks a task that differs in its input alone from one that passed [`check_task`], to the same end.
///
/// # Errors
/// As [`check_task`].
pub fn check_another_input(task: &TaskSpec, now: Wall) -> Result<(), Vec<SpecError>> {
    let mut problems = Problems::default();
    check::input(task, &mut problems);
    check_payload(&task.input, &Pointer::default().key("input"), &mut problems);
    check_deadline(task, now, &mut problems);
    problems.into_result(Some(()))
}

fn check_deadline(task: &TaskSpec, now: Wall, problems: &mut Problems) {
    if let Some(deadline) = task.deadline.filter(|deadline| *deadline <= now) {
        let problem = format!("the deadline, {deadline}, has passed: the home's clock says {now}");
        problems.report(&Pointer::default().key("deadline"), problem, "set it later, or leave it out");
    }
}

/// Checks the task that a step's templates became.
///
/// # Errors
/// As [`check_task`].
pub fn check_bound(task: &TaskSpec) -> Result<(), Vec<SpecError>> {
    let mut problems = Problems::default();
    check_any(task, &mut problems);
    problems.into_result(Some(()))
}

fn check_any(task: &TaskSpec, problems: &mut Problems) {
    let root = Pointer::default();
    check::task(task, problems);
    // The workflow that is a step was checked when it was submitted: what its input changed is no matter of the graph.
    let is_workflow = task.kind == TaskKind::Workflow;
    if is_workflow != task.workflow.as_ref().is_some_and(|child| Graph::of(child).is_ok()) {
        let problem = "kind workflow without a workflow, or a workflow of another kind";
        problems.report(&root.key("workflow"), problem, "give both or neither");
    }
    check_requires(task.requires.as_deref(), &root.key("requires"), problems);
    check_payload(&task.input, &root.key("input"), problems);
    if task.needs.len() > limits::WORKFLOW_STEPS_MAX {
        let fix = format!("write at most {}", limits::WORKFLOW_STEPS_MAX);
        return problems.report(&root.key("needs"), format!("{} outputs", task.needs.len()), fix);
    }
    for (step, output) in &task.needs {
        check_payload(output, &root.key("needs").key(step), problems);
    }
}

/// Checks a workflow that is submitted, and those in it.
///
/// # Errors
/// As [`check_task`].
pub fn check_workflow(workflow: &WorkflowSpec) -> Result<(), Vec<SpecError>> {
    check_nested(workflow, 0)
}

fn check_nested(workflow: &WorkflowSpec, depth: usize) -> Result<(), Vec<SpecError>> {
    let mut problems = Problems::default();
    let steps = Pointer::default().key("steps");
    if workflow.steps.is_empty() || workflow.steps.len() > limits::WORKFLOW_STEPS_MAX {
        let fix = format!("write 1 to {}", limits::WORKFLOW_STEPS_MAX);
        problems.report(&steps, format!("{} steps", workflow.steps.len()), fix);
        return problems.into_result(None);
    }
    if depth > limits::WORKFLOW_DEPTH_MAX {
        let fix = format!("let them stand at most {} deep in each other", limits::WORKFLOW_DEPTH_MAX);
        problems.report(&steps, "workflows in workflows in workflows", fix);
        return problems.into_result(None);
    }
    check::workflow(workflow, &mut problems);
    for (index, step) in workflow.steps.iter().enumerate() {
        let at = steps.index(index);
        check_requires(step.requires.as_deref(), &at.key("requires"), &mut problems);
        if let Some(Err(errors)) = step.workflow.as_deref().map(|child| check_nested(child, depth + 1)) {
            problems.adopt(&at.key("workflow"), errors);
        }
    }
    problems.into_result(Some(()))
}

fn check_requires(requires: Option<&str>, at: &Pointer, problems: &mut Problems) {
    if let Some(Err(error)) = requires.map(Requirement::parse) {
        problems.report(at, error.to_string(), "write it as gpu.vram >= 16GiB && model:minilm");
    }
}

fn check_payload(payload: &Payload, at: &Pointer, problems: &mut Problems) {
    match payload {
        Payload::Inline(text) if !Payload::fits_inline(text) => {
            let most = limits::PAYLOAD_INLINE_BYTES_MAX / 1_024;
            let problem = format!("an inline value of {} bytes, and {most} KiB fit", text.as_str().len());
            problems.report(at, problem, "put it as a blob and give {cid, bytes}");
        }
        Payload::Blob(blob) if blob.bytes > limits::BLOB_BYTES_MAX => {
            let problem = format!("a blob of {} bytes", blob.bytes);
            problems.report(at, problem, format!("give at most {}", limits::BLOB_BYTES_MAX));
        }
        Payload::Inline(_) | Payload::Blob(_) => {}
    }
}

/// What only a task has: keys and times.
pub(super) fn check_own(task: &TaskSpec, problems: &mut Problems) {
    let root = Pointer::default();
    if let Some(key) = &task.idempotency_key {
        check_text(key, "key", &root.key("idempotency_key"), problems);
    }
    let ttl = DurationMs(limits::IDEMPOTENCY_TTL_MS_MIN)..=DurationMs(limits::IDEMPOTENCY_TTL_MS_MAX);
    if let Some(given) = task.idempotency_ttl {
        let at = root.key("idempotency_ttl");
        if task.idempotency_key.is_none() {
            problems.report(&at, "there is no idempotency_key that it could be of", "add the key, or remove it");
        } else if !ttl.contains(&given) {
            problems.report(&at, format!("{given} is out of range"), format!("write {} to {}", ttl.start(), ttl.end()));
        }
    }
    let kept = DurationMs(limits::RETENTION_MS_MIN)..=DurationMs(limits::RETENTION_MS_MAX);
    if let Some(given) = task.retention.filter(|given| !kept.contains(given)) {
        let fix = format!("write {} to {}", kept.start(), kept.end());
        problems.report(&root.key("retention"), format!("{given} is out of range"), fix);
    }
    for (name, time) in [("not_before", task.not_before), ("deadline", task.deadline)] {
        if time.is_some_and(|time| time > Wall(limits::WALL_MS_MAX)) {
            problems.report(&root.key(name), "the time is beyond the year 9999", "set it earlier");
        }
    }
    if let (Some(start), Some(end)) = (task.not_before, task.deadline)
        && start >= end
    {
        let problem = format!("the deadline, {end}, is not after not_before, {start}");
        problems.report(&root.key("deadline"), problem, "set it later");
    }
}

/// A name or a key of the user's choice: anything that one can read, but not too much of it.
pub(super) fn check_text(text: &str, what: &str, at: &Pointer, problems: &mut Problems) {
    if text.is_empty() || text.len() > limits::NAME_BYTES_MAX {
        let fix = format!("write 1 to {} bytes", limits::NAME_BYTES_MAX);
        problems.report(at, format!("the {what} is empty or too long"), fix);
    } else if text.chars().any(char::is_control) {
        problems.report(at, format!("the {what} {} has a control character", shown(text)), "write what can be read");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dag::policy::{Join, OnFail};
    use crate::dag::schedule::ScheduleSpec;
    use crate::dag::spec::{CompensateSpec, StepSpec};
    use crate::dag::template::{Template, TextTemplate};
    use crate::ids::ContentId;
    use crate::payload::{BlobRef, JsonText};
    use crate::retry::RetryPolicy;
    use crate::task::FileRef;

    const NOW: Wall = Wall(1_795_230_000_000);

    fn noop() -> TaskSpec {
        TaskSpec::new(TaskKind::Noop)
    }

    fn process() -> TaskSpec {
        TaskSpec { run: vec!["x".to_owned()], ..TaskSpec::new(TaskKind::Process) }
    }

    fn text(bytes: usize) -> Payload {
        Payload::Inline(JsonText::of(&serde_json::Value::from("x".repeat(bytes))))
    }

    fn retry(change: impl FnOnce(&mut RetryPolicy)) -> TaskSpec {
        let mut policy = RetryPolicy::default();
        change(&mut policy);
        TaskSpec { retry: policy, ..noop() }
    }

    fn labels(pairs: &[(&str, &str)]) -> TaskSpec {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        TaskSpec { labels: pairs.collect(), ..noop() }
    }

    fn file(path: &str, bytes: u64) -> TaskSpec {
        let file = FileRef { path: path.to_owned(), cid: ContentId::of(b""), bytes, executable: false };
        TaskSpec { files: vec![file], ..process() }
    }

    fn keyed(key: &str, ttl_ms: u64) -> TaskSpec {
        TaskSpec { idempotency_key: Some(key.to_owned()), idempotency_ttl: Some(DurationMs(ttl_ms)), ..noop() }
    }

    /// Every field just beyond its range, with its path.
    fn beyond() -> Vec<(&'static str, TaskSpec)> {
        let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
        let blob = Payload::Blob(BlobRef { cid: ContentId::of(b""), bytes: limits::BLOB_BYTES_MAX + 1 });
        let many: BTreeMap<String, String> =
            (0..=limits::LABELS_MAX).map(|n| (format!("l{n}"), String::new())).collect();
        let day = DurationMs(86_400_000);
        vec![
            ("/namespace", TaskSpec { namespace: String::new(), ..noop() }),
            ("/namespace", TaskSpec { namespace: long.clone(), ..noop() }),
            ("/namespace", TaskSpec { namespace: "Team A".to_owned(), ..noop() }),
            ("/labels/", labels(&[("", "x")])),
            ("/labels/a", labels(&[("a", &long)])),
            ("/labels/a=b", labels(&[("a=b", "x")])),
            ("/labels/a", labels(&[("a", "\x1b[31m")])),
            ("/labels", TaskSpec { labels: many, ..noop() }),
            ("/input", TaskSpec { input: text(limits::PAYLOAD_INLINE_BYTES_MAX), ..noop() }),
            ("/input", TaskSpec { input: blob, ..noop() }),
            ("/needs", TaskSpec { needs: [("a".to_owned(), Payload::null())].into(), ..noop() }),
            ("/run", TaskSpec { run: vec!["x".to_owned(); limits::RUN_ARGUMENTS_MAX + 1], ..process() }),
            ("/run", TaskSpec { run: vec!["x".repeat(limits::RUN_BYTES_MAX + 1)], ..process() }),
            ("/run/1", TaskSpec { run: vec!["x".to_owned(), "a\0b".to_owned()], ..process() }),
            ("/run/0", TaskSpec { run: vec![String::new()], ..process() }),
            ("/run", TaskSpec::new(TaskKind::Process)),
            ("/workflow", TaskSpec::new(TaskKind::Workflow)),
            ("/model", TaskSpec { model: Some(long.clone()), input: text(1), ..TaskSpec::new(TaskKind::Embed) }),
            ("/model", TaskSpec { input: text(1), ..TaskSpec::new(TaskKind::Embed) }),
            ("/files/0", file("../etc/passwd", 1)),
            ("/files/0", file(&"x".repeat(limits::PATH_BYTES_MAX + 1), 1)),
            ("/files", file("a", limits::TASK_FILES_BYTES_MAX + 1)),
            ("/requires", TaskSpec { requires: Some("gpu.vram >=".to_owned()), ..noop() }),
            ("/requires", TaskSpec { requires: Some("x".repeat(limits::REQUIREMENT_BYTES_MAX + 1)), ..noop() }),
            ("/timeout", TaskSpec { timeout: DurationMs(0), ..noop() }),
            ("/timeout", TaskSpec { timeout: DurationMs(limits::TASK_TIMEOUT_MS_MAX + 1), ..noop() }),
            ("/retry/max_attempts", retry(|policy| policy.max_attempts = 0)),
            ("/retry/max_attempts", retry(|policy| policy.max_attempts = limits::RETRY_ATTEMPTS_MAX + 1)),
            ("/retry/factor", retry(|policy| policy.factor = f64::NAN)),
            ("/retry/factor", retry(|policy| policy.factor = f64::INFINITY)),
            ("/retry/jitter", retry(|policy| policy.jitter = -0.1)),
            ("/retry/initial", retry(|policy| policy.initial = DurationMs(60_001))),
            ("/retry/max_delay", retry(|policy| policy.max_delay = DurationMs(limits::RETRY_DELAY_MS_MAX + 1))),
            ("/retry/retry_on", retry(|policy| policy.retry_on = vec!["a".to_owned(); 65])),
            ("/retry/retry_on/0", retry(|policy| policy.retry_on = vec![String::new()])),
            ("/retry/permanent_exit", retry(|policy| policy.permanent_exit = vec![1; 65])),
            ("/retry/permanent_exit/0", retry(|policy| policy.permanent_exit = vec![256])),
            ("/deadline", TaskSpec { deadline: Some(NOW), ..noop() }),
            ("/deadline", TaskSpec { not_before: Some(Wall(NOW.0 + 2)), deadline: Some(Wall(NOW.0 + 2)), ..noop() }),
            ("/deadline", TaskSpec { deadline: Some(Wall(u64::MAX)), ..noop() }),
            ("/not_before", TaskSpec { not_before: Some(Wall(limits::WALL_MS_MAX + 1)), ..noop() }),
            ("/idempotency_key", keyed("", day.0)),
            ("/idempotency_key", keyed(&long, day.0)),
            ("/idempotency_key", keyed("a\nb", day.0)),
            ("/idempotency_ttl", keyed("a", limits::IDEMPOTENCY_TTL_MS_MIN - 1)),
            ("/idempotency_ttl", keyed("a", limits::IDEMPOTENCY_TTL_MS_MAX + 1)),
            ("/idempotency_ttl", TaskSpec { idempotency_ttl: Some(day), ..noop() }),
            ("/retention", TaskSpec { retention: Some(DurationMs(limits::RETENTION_MS_MIN - 1)), ..noop() }),
            ("/retention", TaskSpec { retention: Some(DurationMs(limits::RETENTION_MS_MAX + 1)), ..noop() }),
        ]
    }

    #[test]
    fn every_field_beyond_its_range_is_refused_with_its_path_and_what_may_stand_there() {
        for (path, task) in beyond() {
            let errors = check_task(&task, NOW).expect_err(path);
            assert!(errors.iter().any(|error| error.path == path), "{path}: {errors:?}");
            assert!(errors.iter().all(|error| !error.problem.is_empty() && !error.fix.is_empty()));
            let told: usize = errors.iter().map(|error| error.to_string().len()).sum();
            assert!(told < 2_000, "an error is read by people: {told} bytes for {path}");
        }
    }

    #[test]
    fn every_field_at_the_end_of_its_range_is_accepted() {
        let longest = "x".repeat(limits::NAME_BYTES_MAX);
        let step = TaskSpec { needs: [("a".to_owned(), text(10))].into(), ..process() };
        assert_eq!(check_bound(&step), Ok(()), "a step has needs");
        for task in [
            TaskSpec { namespace: longest.clone(), ..noop() },
            labels(&[("app.kubernetes.io/name", ""), (&longest, &longest)]),
            TaskSpec { input: text(limits::PAYLOAD_INLINE_BYTES_MAX - 2), ..noop() },
            TaskSpec { run: vec!["x".repeat(limits::RUN_BYTES_MAX)], ..process() },
            TaskSpec { run: vec!["x".to_owned(); limits::RUN_ARGUMENTS_MAX], ..process() },
            file("a/b", limits::TASK_FILES_BYTES_MAX),
            TaskSpec { timeout: DurationMs(limits::TASK_TIMEOUT_MS_MAX), ..noop() },
            retry(|policy| policy.max_attempts = limits::RETRY_ATTEMPTS_MAX),
            TaskSpec { deadline: Some(Wall(NOW.0 + 1)), ..noop() },
            TaskSpec { not_before: Some(Wall(0)), ..noop() },
            TaskSpec { not_before: Some(Wall(limits::WALL_MS_MAX)), ..noop() },
            keyed(&longest, limits::IDEMPOTENCY_TTL_MS_MIN),
            keyed("ä", limits::IDEMPOTENCY_TTL_MS_MAX),
            TaskSpec { retention: Some(DurationMs(limits::RETENTION_MS_MIN)), ..noop() },
            TaskSpec { retention: Some(DurationMs(limits::RETENTION_MS_MAX)), ..noop() },
        ] {
            assert_eq!(check_task(&task, NOW), Ok(()));
        }
    }

    #[test]
    fn a_task_like_one_that_passed_is_judged_by_its_input_as_if_it_came_alone() {
        let inputs = [
            Payload::null(),
            text(1),
            text(limits::PAYLOAD_INLINE_BYTES_MAX - 2),
            text(limits::PAYLOAD_INLINE_BYTES_MAX),
        ];
        for kind in TaskKind::ALL {
            for model in [None, Some("minilm".to_owned())] {
                let with =
                    |input: &Payload| TaskSpec { input: input.clone(), model: model.clone(), ..TaskSpec::new(kind) };
                let passes = inputs.iter().any(|input| check_task(&with(input), NOW).is_ok());
                for task in inputs.iter().map(with).filter(|_| passes) {
                    assert_eq!(check_another_input(&task, NOW), check_task(&task, NOW), "{task:?}");
                }
            }
        }
        let late = TaskSpec { deadline: Some(Wall(NOW.0 + 1)), ..noop() };
        assert_eq!(check_task(&late, NOW), Ok(()));
        assert!(check_another_input(&late, Wall(NOW.0 + 1)).is_err(), "its deadline has passed meanwhile");
    }

    fn workflow(steps: Vec<StepSpec>) -> WorkflowSpec {
        let document = serde_json::json!({"name": "w", "steps": [{"name": "a", "kind": "noop"}]});
        WorkflowSpec { steps, ..crate::dag::parse_workflow(&document).unwrap() }
    }

    fn step(name: &str) -> StepSpec {
        StepSpec::new(name, TaskKind::Noop)
    }

    fn one(change: impl FnOnce(&mut StepSpec)) -> WorkflowSpec {
        let mut changed = step("a");
        change(&mut changed);
        workflow(vec![changed])
    }

    /// Two steps, of which the second needs the first.
    fn second(change: impl FnOnce(&mut StepSpec)) -> WorkflowSpec {
        let mut changed = StepSpec { needs: vec!["a".to_owned()], ..step("b") };
        change(&mut changed);
        workflow(vec![step("a"), changed])
    }

    fn whole(change: impl FnOnce(&mut WorkflowSpec)) -> WorkflowSpec {
        let mut changed = workflow(vec![step("a")]);
        change(&mut changed);
        changed
    }

    fn scheduled(change: impl FnOnce(&mut ScheduleSpec)) -> WorkflowSpec {
        let document = serde_json::json!({"cron": "@daily"});
        let mut schedule: ScheduleSpec = serde_json::from_value(document).unwrap();
        change(&mut schedule);
        whole(|workflow| workflow.schedule = Some(schedule))
    }

    fn compensated(change: impl FnOnce(&mut CompensateSpec)) -> WorkflowSpec {
        let mut compensate: CompensateSpec = serde_json::from_value(serde_json::json!({"kind": "noop"})).unwrap();
        change(&mut compensate);
        one(|step| (step.on_fail, step.compensate) = (Some(OnFail::Compensate), Some(Box::new(compensate))))
    }

    fn values<T: Clone>(len: usize, value: &T) -> BTreeMap<String, T> {
        (0..len).map(|n| (format!("v{n}"), value.clone())).collect()
    }

    /// Every field of a workflow and of its steps just beyond its range, with its path.
    fn beyond_in_workflows() -> Vec<(&'static str, WorkflowSpec)> {
        let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
        let (template, null) = (Template::default(), JsonText::of(&serde_json::Value::Null));
        let many = limits::WORKFLOW_VALUES_MAX + 1;
        let text = |text: &str| text.parse::<TextTemplate>().unwrap();
        let nested = |depth: usize| {
            (0..depth).fold(workflow(vec![step("a")]), |inner, _| {
                let child = StepSpec { workflow: Some(inner.into()), ..StepSpec::new("a", TaskKind::Workflow) };
                workflow(vec![child])
            })
        };
        let file = file("../x", 1).files;
        vec![
            ("/name", whole(|spec| spec.name = long.clone())),
            ("/name", whole(|spec| spec.name = "A b".to_owned())),
            ("/namespace", whole(|spec| spec.namespace = "A".to_owned())),
            ("/labels/a", whole(|spec| spec.labels = labels(&[("a", &long)]).labels)),
            ("/labels/a", whole(|spec| spec.labels = labels(&[("a", "${input.x}")]).labels)),
            ("/labels", whole(|spec| spec.labels = values(limits::LABELS_MAX + 1, &String::new()))),
            ("/input", whole(|spec| spec.input = values(many, &null))),
            ("/input/a b", whole(|spec| spec.input = [("a b".to_owned(), null.clone())].into())),
            ("/outputs", whole(|spec| spec.outputs = values(many, &template))),
            ("/outputs/a b", whole(|spec| spec.outputs = [("a b".to_owned(), template.clone())].into())),
            ("/schedule/cron", scheduled(|schedule| schedule.cron = "61 * * * *".to_owned())),
            ("/schedule/timezone", scheduled(|schedule| schedule.timezone = "Mars/Base".to_owned())),
            ("/schedule/catch_up", scheduled(|schedule| schedule.catch_up = limits::SCHEDULE_CATCH_UP_MAX + 1)),
            (
                "/schedule/jitter",
                scheduled(|schedule| schedule.jitter = DurationMs(limits::SCHEDULE_JITTER_MS_MAX + 1)),
            ),
            ("/steps", workflow(Vec::new())),
            ("/steps", workflow((0..=limits::WORKFLOW_STEPS_MAX).map(|n| step(&format!("s{n}"))).collect())),
            (
                "/steps/0/workflow/steps/0/workflow/steps/0/workflow/steps/0/workflow/steps/0/workflow/steps/0/workflow/steps/0/workflow/steps/0/workflow/steps/0/workflow/steps",
                nested(limits::WORKFLOW_DEPTH_MAX + 1),
            ),
            ("/steps/0/name", workflow(vec![step("A b")])),
            ("/steps/1/name", workflow(vec![step("a"), step("a")])),
            ("/steps/0/needs/0", one(|step| step.needs = vec!["b".to_owned()])),
            ("/steps/1/needs/1", second(|step| step.needs.push("a".to_owned()))),
            ("/steps/0/needs/0", one(|step| step.needs = vec!["a".to_owned()])),
            ("/steps/0/join", one(|step| step.join = Join::Any)),
            ("/steps/1/join", second(|step| step.join = Join::Count(0))),
            ("/steps/1/join", second(|step| step.join = Join::Count(2))),
            ("/steps/1/when", second(|step| step.when = Some("${steps.c.output} == 1".parse().unwrap()))),
            ("/steps/0/for_each", one(|step| step.for_each = Some(Template::parse(&"a".into()).unwrap()))),
            ("/steps/0/run", one(|step| step.run = vec![text("x")])),
            ("/steps/0/run", one(|step| step.kind = TaskKind::Process)),
            ("/steps/0/model", one(|step| step.kind = TaskKind::Embed)),
            ("/steps/0/workflow", one(|step| step.kind = TaskKind::Workflow)),
            ("/steps/0/files", one(|step| step.files.clone_from(&file))),
            (
                "/steps/0/files/0",
                one(|step| (step.kind, step.run, step.files) = (TaskKind::Process, vec![text("x")], file.clone())),
            ),
            ("/steps/0/requires", one(|step| step.requires = Some("a &&".to_owned()))),
            ("/steps/0/timeout", one(|step| step.timeout = Some(DurationMs(0)))),
            ("/steps/0/timeout", one(|step| step.timeout = Some(DurationMs(limits::TASK_TIMEOUT_MS_MAX + 1)))),
            ("/steps/0/retry/max_attempts", one(|step| step.retry.max_attempts = 0)),
            ("/steps/0/retry/factor", one(|step| step.retry.factor = f64::NAN)),
            ("/steps/0/retry/jitter", one(|step| step.retry.jitter = 1.1)),
            ("/steps/0/labels/a", one(|step| step.labels = labels(&[("a", &long)]).labels)),
            ("/steps/1/input", second(|step| step.input = Template::parse(&"${steps.c.output}".into()).unwrap())),
            ("/steps/0/compensate", one(|step| step.compensate = compensated(|_| ()).steps[0].compensate.clone())),
            ("/steps/0/compensate/timeout", compensated(|task| task.timeout = Some(DurationMs(0)))),
            ("/steps/0/compensate/run", compensated(|task| task.kind = TaskKind::Process)),
            ("/steps/0/compensate/retry/max_attempts", compensated(|task| task.retry.max_attempts = 0)),
        ]
    }

    #[test]
    fn a_workflow_that_no_file_door_has_seen_is_checked_all_the_same() {
        for (path, spec) in beyond_in_workflows() {
            let errors = check_workflow(&spec).expect_err(path);
            assert!(errors.iter().any(|error| error.path == path), "{path}: {errors:?}");
        }
        let cycle = [("a", "b"), ("b", "a")].map(|(name, need)| StepSpec { needs: vec![need.into()], ..step(name) });
        let errors = check_workflow(&workflow(cycle.to_vec())).unwrap_err();
        assert!(errors[0].problem.contains("cycle"), "{errors:?}");
        assert_eq!(check_workflow(&workflow(vec![step("a")])), Ok(()));
        assert_eq!(check_workflow(&compensated(|_| ())), Ok(()));
        assert_eq!(check_workflow(&second(|step| step.join = Join::Count(1))), Ok(()));
        assert_eq!(check_workflow(&scheduled(|schedule| schedule.catch_up = limits::SCHEDULE_CATCH_UP_MAX)), Ok(()));
    }

    /// The words of every refusal, which must say what may stand there. If they change on purpose, the failure prints what the file
    /// is to hold.
    #[test]
    fn every_refusal_says_what_may_stand_there_in_the_words_of_the_file() {
        let tasks = beyond().into_iter().map(|(path, task)| (path, check_task(&task, NOW)));
        let workflows = beyond_in_workflows().into_iter().map(|(path, spec)| (path, check_workflow(&spec)));
        let mut words = String::new();
        for (path, checked) in tasks.chain(workflows) {
            let error = checked.unwrap_err().into_iter().find(|error| error.path == path).unwrap();
            let shown = [error.problem, error.fix].map(|text| text.replace(&"x".repeat(20), "~").replace("~~", ""));
            words += &format!("{path}: {} ({})\n", shown[0], shown[1]);
        }
        assert!(words == include_str!("door_refusals.txt"), "door_refusals.txt is to hold:\n{words}");
    }
}
