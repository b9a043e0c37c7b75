//! From a JSON document to a specification, with every problem at its place.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check;
use super::child;
use super::condition::Condition;
use super::error::{Pointer, Problems, SpecError, instead, one_of, shown};
use super::fields::{Fields, Shape, typed};
use super::reference::TemplateError;
use super::schedule;
use super::spec::{CompensateSpec, StepSpec, WorkflowSpec, default_namespace};
use super::template::{Template, TextTemplate};
use crate::limits;
use crate::payload::JsonText;
use crate::retry::RetryPolicy;
use crate::task::{Durability, FileRef, Tag, TaskKind, TaskSpec};

const WORKFLOW_KEYS: &[&str] = &[
    "name",
    "tag",
    "namespace",
    "durability",
    "priority",
    "schedule",
    "input",
    "labels",
    "on_fail",
    "steps",
    "outputs",
];
#[rustfmt::skip]
const STEP_KEYS: &[&str] = &[
    "name", "needs", "join", "when", "for_each", "kind", "workflow", "run", "model", "input", "files", "requires",
    "priority", "tag", "timeout", "retry", "on_fail", "labels", "concurrency_key", "rate_key", "exclusive", "compensate",
];
const COMPENSATE_KEYS: &[&str] = &["kind", "run", "model", "input", "files", "requires", "timeout", "retry"];
#[rustfmt::skip]
const TASK_KEYS: &[&str] = &[
    "kind", "input", "run", "model", "files", "requires", "priority", "tag", "timeout", "retry", "not_before",
    "deadline", "namespace", "labels", "idempotency_key", "idempotency_ttl", "concurrency_key", "rate_key", "retention",
    "durability", "exclusive",
];
const RETRY_KEYS: &[&str] = &["max_attempts", "initial", "factor", "max_delay", "jitter", "retry_on", "permanent_exit"];
/// Keys of the design that this version does not act on: to accept one would be to promise it.
#[rustfmt::skip]
const LATER_KEYS: &[&str] = &[
    "retention", "not_before", "deadline", "idempotency_key", "idempotency_ttl",
];

const WORKFLOW: Shape = Shape { name: "a workflow", keys: WORKFLOW_KEYS, elsewhere: outside_a_workflow };
const STEP: Shape = Shape { name: "a step", keys: STEP_KEYS, elsewhere: outside_a_step };
const TASK: Shape = Shape { name: "a task", keys: TASK_KEYS, elsewhere: outside_a_task };
const COMPENSATE: Shape = Shape { name: "compensate", keys: COMPENSATE_KEYS, elsewhere: |_| None };
const RETRY: Shape = Shape { name: "retry", keys: RETRY_KEYS, elsewhere: |_| None };

fn outside_a_workflow(key: &str) -> Option<(String, String)> {
    let of_a_step = || (format!("{key} belongs to a step, not to the workflow"), "move it into a step".to_owned());
    later(key).or_else(|| STEP_KEYS.contains(&key).then(of_a_step))
}

fn outside_a_step(key: &str) -> Option<(String, String)> {
    let of_the_workflow =
        || (format!("{key} belongs to the workflow, not to a step"), "move it out of steps".to_owned());
    later(key).or_else(|| WORKFLOW_KEYS.contains(&key).then(of_the_workflow))
}

fn outside_a_task(key: &str) -> Option<(String, String)> {
    let of_a_workflow = || (format!("{key} belongs to a workflow"), "write a workflow with steps".to_owned());
    later(key).or_else(|| {
        matches!(key, "needs" | "for_each" | "when" | "join" | "on_fail" | "compensate" | "steps" | "outputs")
            .then(of_a_workflow)
    })
}

fn later(key: &str) -> Option<(String, String)> {
    LATER_KEYS.contains(&key).then(|| (format!("this version does not support {key} yet"), "remove it".to_owned()))
}

/// Reads and checks a workflow. `requires` expressions are taken as they stand.
///
/// # Errors
/// Every problem of the document, at most [`limits::SPEC_ERRORS_MAX`] and a count of the others.
pub fn parse_workflow(document: &Value) -> Result<WorkflowSpec, Vec<SpecError>> {
    let mut problems = Problems::default();
    let spec = read_workflow(document, &mut problems);
    if let Some(spec) = &spec {
        check::workflow(spec, &mut problems);
    }
    problems.into_result(spec)
}

/// Reads and checks a task that belongs to no workflow. `requires` expressions are taken as they stand.
///
/// # Errors
/// Every problem of the document, at most [`limits::SPEC_ERRORS_MAX`] and a count of the others.
pub fn parse_task(document: &Value) -> Result<TaskSpec, Vec<SpecError>> {
    let mut problems = Problems::default();
    let spec = read_task(document, &mut problems);
    if let Some(spec) = &spec {
        check::task(spec, &mut problems);
    }
    problems.into_result(spec)
}

fn open<'a>(document: &'a Value, shape: &Shape, problems: &mut Problems) -> Option<Fields<'a>> {
    let root = Pointer::default();
    if is_deeper(document, limits::DEPTH_MAX) {
        let problem = format!("lists and mappings stand more than {} deep in each other", limits::DEPTH_MAX);
        problems.report(&root, problem, "make it flatter");
        return None;
    }
    Fields::open(document, root, shape, problems)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(entries) => levels == 0 || entries.values().any(|entry| is_deeper(entry, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn read_workflow(document: &Value, problems: &mut Problems) -> Option<WorkflowSpec> {
    let fields = open(document, &WORKFLOW, problems)?;
    Some(WorkflowSpec {
        name: required(&fields, "name", problems).unwrap_or_default(),
        tag: read_tag(&fields, problems),
        namespace: fields.read("namespace", problems).unwrap_or_else(default_namespace),
        durability: read_durability(&fields, problems),
        priority: fields.read("priority", problems).unwrap_or_default(),
        parent: None,
        schedule: fields.value("schedule").and_then(|value| schedule::read(value, fields.at.key("schedule"), problems)),
        input: fields.mapping("input", problems).map(|(name, _, value)| (name.clone(), JsonText::of(value))).collect(),
        labels: read_labels(&fields, problems),
        on_fail: fields.read("on_fail", problems).unwrap_or_default(),
        steps: read_steps(&fields, problems),
        outputs: read_outputs(&fields, problems),
    })
}

fn read_steps(fields: &Fields<'_>, problems: &mut Problems) -> Vec<StepSpec> {
    let steps: Vec<(Pointer, &Value)> = fields.list("steps", problems).collect();
    let at = fields.at.key("steps");
    if steps.len() > limits::WORKFLOW_STEPS_MAX {
        let problem = format!("{} steps, and a workflow has at most {}", steps.len(), limits::WORKFLOW_STEPS_MAX);
        problems.report(&at, problem, "use for_each, or several workflows");
        return Vec::new();
    }
    if steps.is_empty() && !problems.touch(&at) {
        problems.report(&at, "a workflow has at least one step", "add steps: [{name: ..., kind: ...}]");
    }
    steps.into_iter().map(|(at, step)| read_step(step, at, problems)).collect()
}

/// A step that is wrong is read as far as it goes: the checks of the others need its name.
fn read_step(value: &Value, at: Pointer, problems: &mut Problems) -> StepSpec {
    let Some(fields) = Fields::open(value, at, &STEP, problems) else {
        return StepSpec::new("", TaskKind::Noop);
    };
    StepSpec {
        name: required(&fields, "name", problems).unwrap_or_default(),
        needs: read_list(&fields, "needs", problems),
        join: fields.read("join", problems).unwrap_or_default(),
        when: read_condition(&fields, problems),
        on_fail: fields.read("on_fail", problems),
        for_each: fields.value("for_each").map(|value| read_template(value, &fields.at.key("for_each"), problems)),
        workflow: fields.value("workflow").and_then(|value| child::read(value, &fields.at.key("workflow"), problems)),
        kind: read_step_kind(&fields, problems),
        run: read_run(&fields, problems),
        model: fields.read("model", problems),
        input: read_input(&fields, problems),
        files: read_files(&fields, problems),
        requires: fields.read("requires", problems),
        priority: fields.read("priority", problems),
        tag: read_tag(&fields, problems),
        timeout: fields.read("timeout", problems),
        retry: read_retry(&fields, problems),
        labels: read_labels(&fields, problems),
        concurrency_key: fields.read("concurrency_key", problems),
        rate_key: fields.read("rate_key", problems),
        exclusive: fields.read("exclusive", problems).unwrap_or_default(),
        compensate: read_compensate(&fields, problems),
    }
}

fn read_compensate(fields: &Fields<'_>, problems: &mut Problems) -> Option<Box<CompensateSpec>> {
    let fields = Fields::open(fields.value("compensate")?, fields.at.key("compensate"), &COMPENSATE, problems)?;
    Some(Box::new(CompensateSpec {
        kind: read_kind(&fields, problems),
        run: read_run(&fields, problems),
        model: fields.read("model", problems),
        input: read_input(&fields, problems),
        files: read_files(&fields, problems),
        requires: fields.read("requires", problems),
        timeout: fields.read("timeout", problems),
        retry: read_retry(&fields, problems),
    }))
}

fn read_condition(fields: &Fields<'_>, problems: &mut Problems) -> Option<Condition> {
    let source: String = fields.read("when", problems)?;
    source.parse().map_err(|error| report_template(&fields.at.key("when"), error, problems)).ok()
}

fn read_input(fields: &Fields<'_>, problems: &mut Problems) -> Template {
    let value = fields.value("input");
    value.map_or_else(Template::default, |value| read_template(value, &fields.at.key("input"), problems))
}

fn read_task(document: &Value, problems: &mut Problems) -> Option<TaskSpec> {
    let fields = open(document, &TASK, problems)?;
    let task = TaskSpec::new(read_kind(&fields, problems));
    if task.kind == TaskKind::Approval && fields.value("timeout").is_some() {
        problems.report(
            &fields.at.key("timeout"),
            "an approval runs nowhere, and has no timeout",
            "write deadline: TIME",
        );
    }
    Some(TaskSpec {
        input: fields.read("input", problems).unwrap_or_default(),
        run: read_list(&fields, "run", problems),
        model: fields.read("model", problems),
        files: read_files(&fields, problems),
        requires: fields.read("requires", problems),
        priority: fields.read("priority", problems).unwrap_or_default(),
        tag: read_tag(&fields, problems),
        timeout: fields.read("timeout", problems).unwrap_or(task.timeout),
        retry: read_retry(&fields, problems),
        not_before: fields.read("not_before", problems),
        deadline: fields.read("deadline", problems),
        namespace: fields.read("namespace", problems).unwrap_or_else(default_namespace),
        labels: read_labels(&fields, problems),
        idempotency_key: fields.read("idempotency_key", problems),
        idempotency_ttl: fields.read("idempotency_ttl", problems),
        retention: fields.read("retention", problems),
        concurrency_key: fields.read("concurrency_key", problems),
        rate_key: fields.read("rate_key", problems),
        durability: read_durability(&fields, problems),
        exclusive: fields.read("exclusive", problems).unwrap_or_default(),
        ..task
    })
}

fn required<T: DeserializeOwned>(fields: &Fields<'_>, key: &str, problems: &mut Problems) -> Option<T> {
    if fields.value(key).is_none() {
        problems.report(&fields.at.key(key), format!("{key} is missing"), format!("add {key}: ..."));
    }
    fields.read(key, problems)
}

fn read_list<T: DeserializeOwned>(fields: &Fields<'_>, key: &str, problems: &mut Problems) -> Vec<T> {
    let items: Vec<(Pointer, &Value)> = fields.list(key, problems).collect();
    items.into_iter().filter_map(|(at, item)| typed(item, &at, problems)).collect()
}

fn read_kind(fields: &Fields<'_>, problems: &mut Problems) -> TaskKind {
    let names = TaskKind::WRITTEN.map(TaskKind::name);
    let at = fields.at.key("kind");
    if fields.value("kind").is_none() {
        problems.report(&at, "kind is missing", format!("add kind: {}", one_of(names)));
    }
    let written: Option<String> = fields.read("kind", problems);
    let known = |name: &String| TaskKind::WRITTEN.into_iter().find(|kind| kind.name() == name);
    if let Some(written) = written.as_ref().filter(|name| known(name).is_none()) {
        problems.report(&at, format!("{} is not a kind of task", shown(written)), instead(written, names));
    }
    written.as_ref().and_then(known).unwrap_or(TaskKind::Noop)
}

/// A step may also be a workflow.
fn read_step_kind(fields: &Fields<'_>, problems: &mut Problems) -> TaskKind {
    if fields.value("kind").is_some_and(|kind| kind == TaskKind::Workflow.name()) {
        return TaskKind::Workflow;
    }
    read_kind(fields, problems)
}

fn read_tag(fields: &Fields<'_>, problems: &mut Problems) -> Option<Tag> {
    let written: String = fields.read("tag", problems)?;
    let tag = written.parse();
    if tag.is_err() {
        let problem = format!("{} is not a tag", shown(&written));
        problems.report(&fields.at.key("tag"), problem, instead(&written, Tag::ALL.map(Tag::name)));
    }
    tag.ok()
}

fn read_durability(fields: &Fields<'_>, problems: &mut Problems) -> Durability {
    if fields.value("durability").is_some_and(|value| value == "replicated") {
        let at = fields.at.key("durability");
        problems.report(&at, "this version does not support durability replicated yet", "write sync");
        return Durability::default();
    }
    fields.read("durability", problems).unwrap_or_default()
}

fn read_labels(fields: &Fields<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let entries: Vec<_> = fields.mapping("labels", problems).collect();
    let read = |(name, at, value): (&String, Pointer, &Value)| Some((name.clone(), typed(value, &at, problems)?));
    entries.into_iter().filter_map(read).collect()
}

fn read_files(fields: &Fields<'_>, problems: &mut Problems) -> Vec<FileRef> {
    read_list(fields, "files", problems)
}

fn read_retry(fields: &Fields<'_>, problems: &mut Problems) -> RetryPolicy {
    let default = RetryPolicy::default();
    let value = fields.value("retry");
    let Some(fields) = value.and_then(|value| Fields::open(value, fields.at.key("retry"), &RETRY, problems)) else {
        return default;
    };
    RetryPolicy {
        max_attempts: fields.read("max_attempts", problems).unwrap_or(default.max_attempts),
        initial: fields.read("initial", problems).unwrap_or(default.initial),
        factor: fields.read("factor", problems).unwrap_or(default.factor),
        max_delay: fields.read("max_delay", problems).unwrap_or(default.max_delay),
        jitter: fields.read("jitter", problems).unwrap_or(default.jitter),
        retry_on: read_list(&fields, "retry_on", problems),
        permanent_exit: read_list(&fields, "permanent_exit", problems),
    }
}

fn read_run(fields: &Fields<'_>, problems: &mut Problems) -> Vec<TextTemplate> {
    let items: Vec<(Pointer, &Value)> = fields.list("run", problems).collect();
    let read = |(at, item): (Pointer, &Value)| {
        let text: String = typed(item, &at, problems)?;
        text.parse().map_err(|error| report_template(&at, error, problems)).ok()
    };
    items.into_iter().filter_map(read).collect()
}

fn read_template(value: &Value, at: &Pointer, problems: &mut Problems) -> Template {
    Template::read(value, at, &mut |at, error| report_template(at, error, problems))
}

fn report_template(at: &Pointer, error: TemplateError, problems: &mut Problems) {
    problems.report(at, format!("column {}: {}", error.column, error.problem), error.fix);
}

fn read_outputs(fields: &Fields<'_>, problems: &mut Problems) -> BTreeMap<String, Template> {
    let entries: Vec<_> = fields.mapping("outputs", problems).collect();
    entries.into_iter().map(|(name, at, value)| (name.clone(), read_template(value, &at, problems))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// The problems of a workflow, one a line, as a person would read them.
    pub fn refusal(document: &Value) -> String {
        let errors = parse_workflow(document).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn embed_books() -> Value {
        json!({
            "name": "embed-books",
            "tag": "p2p-eligible",
            "steps": [
                {"name": "split", "kind": "process", "run": ["python3", "split.py", "books/"]},
                {"name": "embed", "needs": ["split"], "for_each": "${steps.split.output.chunks}", "kind": "embed",
                 "model": "minilm", "input": "${item}", "retry": {"max_attempts": 5, "initial": "200ms"}},
                {"name": "index", "needs": ["embed"], "kind": "process", "run": ["python3", "index.py"]},
            ],
            "outputs": {"index": "${steps.index.output}"},
        })
    }

    #[test]
    fn the_example_of_the_design_parses_and_survives_both_encodings() {
        let spec = parse_workflow(&embed_books()).unwrap();
        assert_eq!(spec.steps.len(), 3);
        assert_eq!(spec.step("embed").unwrap().retry.initial.0, 200);
        assert_eq!(spec.output_steps().names().into_iter().collect::<Vec<_>>(), ["index"]);
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(parse_workflow(&json).unwrap(), spec);
        let packed = rmp_serde::to_vec_named(&spec).unwrap();
        assert_eq!(rmp_serde::from_slice::<WorkflowSpec>(&packed).unwrap(), spec);
    }

    #[test]
    fn one_wrong_value_hides_no_other() {
        let document = json!({
            "name": 5,
            "tags": "p2p-only",
            "steps": [
                {"name": "a", "kind": "proces", "need": ["b"], "run": ["x"]},
                {"name": "b", "kind": "noop", "timeout": "soon", "priority": 2_000, "needs": "a"},
                7,
            ],
        });
        let expected = r#"/tags: a workflow has no key "tags" (write tag)
/name: expected a text, found the number 5 (put it in quotes)
/steps/0/need: a step has no key "need" (write needs)
/steps/0/kind: "proces" is not a kind of task (write process)
/steps/1/needs: expected a list, found the text "a" (write a list: [...])
/steps/1/priority: priority 2000 is above 1000 (0 runs first, 1000 last)
/steps/1/timeout: "soon" is not a duration (write 200ms, 5s, 10m, 1h or 7d)
/steps/2: a step is a mapping of keys to values, not the number 7 (write its keys, as name: ...)"#;
        assert_eq!(refusal(&document), expected);
    }

    #[test]
    fn keys_in_the_wrong_place_are_told_where_they_belong() {
        let document = json!({
            "name": "w",
            "run": ["x"],
            "retention": "x",
            "durability": "replicated",
            "steps": [{"name": "a", "kind": "noop", "durability": "sync", "compensate": {"kind": "noop", "tag": "p2p-only"}}],
        });
        let expected = "\
/retention: this version does not support retention yet (remove it)
/run: run belongs to a step, not to the workflow (move it into a step)
/durability: this version does not support durability replicated yet (write sync)
/steps/0/durability: durability belongs to the workflow, not to a step (move it out of steps)
/steps/0/compensate/tag: compensate has no key \"tag\" (write kind, run, model, input, files, requires, timeout or retry)
/steps/0/compensate: no failure leads to it (add on_fail: compensate to the workflow or to a step)";
        assert_eq!(refusal(&document), expected);
    }

    #[test]
    fn what_must_be_there_is_asked_for() {
        assert_eq!(
            refusal(&json!([])),
            "/: a workflow is a mapping of keys to values, not a list (write its keys, as name: ...)"
        );
        let expected = "\
/name: name is missing (add name: ...)
/steps: a workflow has at least one step (add steps: [{name: ..., kind: ...}])";
        assert_eq!(refusal(&json!({"steps": null})), expected);
        assert!(
            refusal(&json!({"name": "w", "steps": [{}]}))
                .contains("/steps/0/kind: kind is missing (add kind: inference,")
        );
    }

    #[test]
    fn malformed_references_are_refused_with_their_column() {
        let document = json!({
            "name": "w",
            "steps": [{"name": "a", "kind": "process", "run": ["sh", "-c", "echo ${HOME}"], "input": {"x": ["${item"]}}],
        });
        let expected = "\
/steps/0/run/2: column 8: \"HOME\" is not a place to take a value from (start with steps.NAME.output, input.NAME, item \
            or item_index, or write $${ for the two characters ${)
/steps/0/input/x/0: column 1: ${ is never closed (close it with }, or write $${ for the two characters ${)";
        assert_eq!(refusal(&document), expected);
    }

    #[test]
    fn a_task_parses_with_its_defaults_and_refuses_what_is_a_workflows() {
        assert_eq!(parse_task(&json!({"kind": "noop"})).unwrap(), TaskSpec::new(TaskKind::Noop));
        let errors = parse_task(&json!({"kind": "noop", "needs": {"a": 1}, "exclusive": 1})).unwrap_err();
        assert_eq!(errors[0].problem, "needs belongs to a workflow");
        assert_eq!(errors[1].path, "/exclusive");
        let errors = parse_task(&json!({"kind": "approval", "timeout": "1h"})).unwrap_err();
        assert_eq!((errors[0].path.as_str(), errors[0].fix.as_str()), ("/timeout", "write deadline: TIME"));
        let file = json!({"kind": "process", "run": ["a", 1], "files": ["split.py"]});
        let errors = parse_task(&file).unwrap_err();
        assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["/run/1", "/files/0"]);
    }

    #[test]
    fn too_many_steps_and_too_deep_documents_are_refused_whole() {
        let steps: Vec<Value> = (0..=limits::WORKFLOW_STEPS_MAX).map(|_| json!({})).collect();
        assert!(
            refusal(&json!({"name": "w", "steps": steps}))
                .starts_with("/steps: 10001 steps, and a workflow has at most 10000")
        );
        let mut deep = json!(1);
        for _ in 0..=limits::DEPTH_MAX {
            deep = json!([deep]);
        }
        assert!(refusal(&deep).starts_with("/: lists and mappings stand more than 64 deep"));
    }

    #[test]
    fn a_document_with_problems_everywhere_is_refused_with_the_first_and_a_count() {
        let unknown: serde_json::Map<String, Value> =
            (0..200_000).map(|key| (format!("key-{key}"), json!(1))).collect();
        let needs: Vec<String> = (0..200_000).map(|step| format!("step-{step}")).collect();
        assert!(refusal(&Value::Object(unknown)).ends_with("more problems (correct those above first)"));
        assert!(
            refusal(&json!({"name": "w", "steps": [{"name": "a", "kind": "noop", "needs": needs}]}))
                .contains("199950 more")
        );
    }

    #[test]
    fn a_large_document_costs_no_more_than_its_size() {
        let wide = json!({"k".repeat(1 << 20): vec!["${input.k}"; 100_000], "text": "${input.k}".repeat(100_000)});
        let document = json!({"name": "w", "input": {"k": 1}, "steps": [{"name": "a", "kind": "noop", "input": wide}]});
        assert_eq!(parse_workflow(&document).unwrap().steps[0].references().len(), 200_000);
    }

    /// Documents near a workflow: the known keys with values of any type.
    fn any_document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(vec![
                "a",
                "b",
                "process",
                "embed",
                "${item}",
                "${steps.a.output.x}",
                "${steps.a.state} == 'failed'",
                "any",
                "skip_children",
                "${",
                "5s",
                "[",
                ""
            ])
            .prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        let keys: Vec<&str> = [WORKFLOW_KEYS, STEP_KEYS, TASK_KEYS, RETRY_KEYS, LATER_KEYS, &["x"]].concat();
        leaf.prop_recursive(5, 64, 6, move |inner| {
            let key = prop::sample::select(keys.clone()).prop_map(str::to_owned);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..8).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_document_is_accepted_or_refused_with_a_problem_and_a_fix(document in any_document(), steps in prop::collection::vec(any_document(), 0..4)) {
            for document in [document, json!({"name": "w", "steps": steps})] {
                let refused = parse_workflow(&document).err().into_iter().chain(parse_task(&document).err());
                for errors in refused {
                    prop_assert!(!errors.is_empty());
                    prop_assert!(errors.iter().all(|error| !error.problem.is_empty() && !error.fix.is_empty()), "{errors:?}");
                    prop_assert!(errors.iter().all(|error| error.path.is_empty() || error.path.starts_with('/')));
                }
            }
        }
    }
}
