//! A step that is a workflow: what may stand in it, and the workflow that its home starts for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::error::{Pointer, Problems, SpecError, instead, shown};
use super::parse::parse_workflow;
use super::spec::{StepSpec, WorkflowSpec};
use super::template::Template;
use crate::limits;
use crate::payload::JsonText;
use crate::task::TaskKind;

/// The workflow of a step, with what is wrong in it reported at its place.
pub(super) fn read(value: &Value, at: &Pointer, problems: &mut Problems) -> Option<Arc<WorkflowSpec>> {
    if let Value::String(file) = value {
        let problem = format!("the workflow {} was not read from its file", shown(file));
        problems.report(
            at,
            problem,
            "submit the file with nodectl, or write the workflow here: {name: ..., steps: [...]}",
        );
        return None;
    }
    match parse_workflow(value) {
        Ok(spec) => Some(Arc::new(spec)),
        Err(errors) => {
            problems.adopt(at, errors);
            None
        }
    }
}

/// Reports what a step of kind `workflow`, and no other, must and must not have.
pub(super) fn check(step: &StepSpec, at: &Pointer, problems: &mut Problems) {
    if problems.touch(&at.key("kind")) || problems.touch(&at.key("workflow")) {
        return;
    }
    let here = at.key("workflow");
    let Some(child) = &step.workflow else {
        if step.kind == TaskKind::Workflow {
            problems.report(
                &here,
                "a step of kind workflow needs workflow",
                "add workflow: FILE, or {name: ..., steps: [...]}",
            );
        }
        return;
    };
    if step.kind != TaskKind::Workflow {
        problems.report(&here, format!("a step of kind {} has no workflow", step.kind), "write kind: workflow");
    }
    for (key, is_there) in [
        ("timeout", step.timeout.is_some()),
        ("requires", step.requires.is_some()),
        ("concurrency_key", step.concurrency_key.is_some()),
        ("rate_key", step.rate_key.is_some()),
    ] {
        if is_there {
            problems.report(
                &at.key(key),
                format!("a step of kind workflow has no {key}"),
                "write it at the steps of its workflow",
            );
        }
    }
    if child.schedule.is_some() {
        problems.report(&here.key("schedule"), "only a workflow that is submitted has a schedule", "remove it");
    }
    if depth(child) >= limits::WORKFLOW_DEPTH_MAX {
        let problem = format!("workflows stand more than {} deep in each other", limits::WORKFLOW_DEPTH_MAX);
        problems.report(&here, problem, "make it flatter");
    }
    check_input(&step.input, child, &at.key("input"), problems);
}

/// Workflows in workflows, from 0 for one without.
fn depth(spec: &WorkflowSpec) -> usize {
    let children = spec.steps.iter().filter_map(|step| step.workflow.as_deref());
    children.map(|child| 1 + depth(child)).max().unwrap_or(0)
}

/// The keys of a mapping that stands there as written; what a reference gives is seen when it is resolved.
fn check_input(input: &Template, child: &WorkflowSpec, at: &Pointer, problems: &mut Problems) {
    let keys: Vec<String> = match input {
        Template::Mapping(entries) => entries.keys().cloned().collect(),
        Template::Verbatim(text) => match text.to_value() {
            Value::Object(entries) => entries.keys().cloned().collect(),
            Value::Null => return,
            _ => {
                return problems.report(
                    at,
                    "the input of a workflow is a mapping of its parameters",
                    "write NAME: VALUE",
                );
            }
        },
        Template::Text(text) if text.sole_reference().is_some() => return,
        Template::Text(_) | Template::List(_) => {
            return problems.report(at, "the input of a workflow is a mapping of its parameters", "write NAME: VALUE");
        }
    };
    for key in keys.iter().filter(|key| !child.input.contains_key(*key)) {
        problems.report_with(&at.key(key), || unknown_input(key, child));
    }
}

fn unknown_input(key: &str, child: &WorkflowSpec) -> (String, String) {
    let fix = match child.input.is_empty() {
        true => format!("add input: {{{key}: DEFAULT}} to the workflow {}", child.name),
        false => instead(key, child.input.keys().map(String::as_str)),
    };
    (format!("the workflow {} has no input {}", child.name, shown(key)), fix)
}

/// The workflow that a step of `parent` starts with `input`: it shares its parent's namespace, durability and home.
///
/// # Errors
/// In words, if the step is none, or `input` is no mapping of the parameters that the workflow has.
pub fn child(parent: &WorkflowSpec, step: &StepSpec, input: &JsonText) -> Result<WorkflowSpec, String> {
    let Some(spec) = step.workflow.as_deref() else { return Err(format!("step {} is no workflow", step.name)) };
    if input.as_str().len() > limits::PAYLOAD_INLINE_BYTES_MAX {
        let most = limits::PAYLOAD_INLINE_BYTES_MAX;
        return Err(format!(
            "step {}: the input of a workflow has at most {most} bytes; hand over where the data is",
            step.name
        ));
    }
    let given: BTreeMap<String, Value> = match input.to_value() {
        Value::Null => BTreeMap::new(),
        Value::Object(entries) => entries.into_iter().collect(),
        _ => return Err(format!("step {}: the input of a workflow is a mapping of its parameters", step.name)),
    };
    let mut child = spec.clone();
    for (key, value) in given {
        let Some(slot) = child.input.get_mut(&key) else {
            let (problem, fix) = unknown_input(&key, spec);
            return Err(format!("step {}: {problem} ({fix})", step.name));
        };
        *slot = JsonText::of(&value);
    }
    child.namespace.clone_from(&parent.namespace);
    child.durability = parent.durability;
    child.parent = None;
    child.tag = child.tag.or(step.tag).or(parent.tag);
    Ok(child)
}

impl Problems {
    /// Takes over what is wrong with a document that stands at `at` in this one.
    pub(super) fn adopt(&mut self, at: &Pointer, errors: Vec<SpecError>) {
        for SpecError { path, problem, fix } in errors {
            self.report(&at.raw(path), problem, fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::parse::tests::refusal;
    use serde_json::json;

    fn with_step(step: Value) -> Value {
        json!({"name": "outer", "namespace": "books", "durability": "async", "tag": "p2p-only", "steps": [step]})
    }

    fn inner() -> Value {
        json!({"name": "inner", "input": {"n": 1}, "steps": [{"name": "a", "kind": "noop", "input": "${input.n}"}]})
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(
            inner(),
            |inside, _| json!({"name": "w", "steps": [{"name": "a", "kind": "workflow", "workflow": inside}]}),
        )
    }

    #[test]
    fn a_step_may_be_a_workflow_and_survives_both_encodings() {
        let document = with_step(json!({"name": "sub", "kind": "workflow", "workflow": inner(), "input": {"n": 2}}));
        let spec = parse_workflow(&document).unwrap();
        assert_eq!(spec.steps[0].workflow.as_ref().unwrap().steps.len(), 1);
        assert_eq!(parse_workflow(&serde_json::to_value(&spec).unwrap()).unwrap(), spec);
        let packed = rmp_serde::to_vec_named(&spec).unwrap();
        assert_eq!(rmp_serde::from_slice::<WorkflowSpec>(&packed).unwrap(), spec);
    }

    #[test]
    fn the_child_has_its_parents_namespace_durability_and_tag_and_the_steps_input() {
        let step = json!({"name": "sub", "kind": "workflow", "workflow": inner()});
        let parent = parse_workflow(&with_step(step)).unwrap();
        let made = child(&parent, &parent.steps[0], &JsonText::of(&json!({"n": [1, 2]}))).unwrap();
        assert_eq!((made.namespace.as_str(), made.durability), ("books", crate::task::Durability::Async));
        assert_eq!((made.tag, made.input["n"].as_str()), (parent.tag, "[1,2]"));
        let made = child(&parent, &parent.steps[0], &JsonText::null()).unwrap();
        assert_eq!(made.input["n"].as_str(), "1");
        for (input, problem) in
            [(json!({"m": 1}), "has no input \"m\""), (json!([1]), "is a mapping of its parameters")]
        {
            let error = child(&parent, &parent.steps[0], &JsonText::of(&input)).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let long = JsonText::of(&json!({"n": "x".repeat(limits::PAYLOAD_INLINE_BYTES_MAX)}));
        assert!(child(&parent, &parent.steps[0], &long).unwrap_err().contains("at most 65536 bytes"));
    }

    #[test]
    fn what_is_wrong_inside_is_said_at_its_place_inside() {
        let mut wrong = inner();
        wrong["steps"][0]["needs"] = json!(["b"]);
        let document = with_step(json!({"name": "sub", "kind": "workflow", "workflow": wrong}));
        assert_eq!(refusal(&document), "/steps/0/workflow/steps/0/needs/0: there is no step \"b\" (write a)");
    }

    #[test]
    fn what_does_not_fit_a_workflow_is_refused() {
        let mut scheduled = inner();
        scheduled["schedule"] = json!({"cron": "@daily"});
        for (step, expected) in [
            (json!({"kind": "workflow"}), "/steps/0/workflow: a step of kind workflow needs workflow"),
            (json!({"kind": "noop", "workflow": inner()}), "/steps/0/workflow: a step of kind noop has no workflow"),
            (
                json!({"kind": "workflow", "workflow": "x.yaml"}),
                "/steps/0/workflow: the workflow \"x.yaml\" was not read",
            ),
            (
                json!({"kind": "workflow", "workflow": inner(), "timeout": "1s"}),
                "/steps/0/timeout: a step of kind workflow has no timeout",
            ),
            (
                json!({"kind": "workflow", "workflow": inner(), "concurrency_key": "gpu"}),
                "/steps/0/concurrency_key: a step of kind workflow has no concurrency_key",
            ),
            (
                json!({"kind": "workflow", "workflow": inner(), "input": {"m": 1}}),
                "/steps/0/input/m: the workflow inner has no input \"m\" (write n)",
            ),
            (
                json!({"kind": "workflow", "workflow": inner(), "input": [1]}),
                "/steps/0/input: the input of a workflow is a mapping",
            ),
            (
                json!({"kind": "workflow", "workflow": inner(), "run": ["x"]}),
                "/steps/0/run: a task of kind workflow has no run",
            ),
            (
                json!({"kind": "workflow", "workflow": scheduled}),
                "/steps/0/workflow/schedule: only a workflow that is submitted",
            ),
        ] {
            let mut step = step;
            step["name"] = json!("sub");
            assert!(
                refusal(&with_step(step.clone())).starts_with(expected),
                "{step}: {}",
                refusal(&with_step(step.clone()))
            );
        }
        let task = crate::dag::parse_task(&json!({"kind": "workflow"})).unwrap_err();
        assert_eq!(task[0].path, "/kind");
    }

    #[test]
    fn workflows_stand_at_most_eight_deep() {
        assert!(parse_workflow(&nested(limits::WORKFLOW_DEPTH_MAX)).is_ok());
        assert!(refusal(&nested(limits::WORKFLOW_DEPTH_MAX + 1)).contains("workflows stand more than 8 deep"));
    }
}
