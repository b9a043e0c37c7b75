//! A workflow as it was accepted: steps, what each needs, and the templates that join them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::policy::{Join, OnFail};
use super::reference::{Reference, Root};
use super::schedule::ScheduleSpec;
use super::template::{Template, TextTemplate};
use crate::ids::{ContentId, TaskId};
use crate::limiter::LimitKey;
use crate::payload::JsonText;
use crate::retry::RetryPolicy;
use crate::task::{Durability, FileRef, Priority, Tag, TaskKind, TaskSpec, is_default};
use crate::time::DurationMs;

/// A directed acyclic graph of steps. [`super::parse_workflow`] makes valid ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowSpec {
    /// Lower-case letters, digits, `-` and `_`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub durability: Durability,
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// Submitting it makes a schedule, which starts a run at each of its times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// The task whose running attempt submits it: both are cancelled together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The parameters with their defaults: `${input.NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input: BTreeMap<String, JsonText>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the failure of a step means, unless the step says it itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_fail: OnFail,
    pub steps: Vec<StepSpec>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Template>,
}

/// One node of the graph: a task, or with `for_each` one task per item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Lower-case letters, digits, `-` and `_`; unique in the workflow.
    pub name: String,
    /// Steps that succeed before this one starts: all of them, or as many as `join` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub join: Join,
    /// Decided when the join is met; if it does not hold, the step is skipped. With `${item}`, decided item by item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// Unless given, the workflow's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_fail: Option<OnFail>,
    /// What a step of kind `workflow` runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Arc<WorkflowSpec>>,
    /// One reference to a list, or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<Template>,
    pub kind: TaskKind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<TextTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Template::is_null")]
    pub input: Template,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    /// Unless given, the workflow's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Unless given, the workflow's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Unless given, that of any task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationMs>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: RetryPolicy,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub exclusive: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<LimitKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_key: Option<LimitKey>,
    /// The task that undoes what the step did, if it succeeded and another step fails with `on_fail: compensate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Box<CompensateSpec>>,
}

/// A task that undoes a step. It may read the output of the step, and whatever the step may read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensateSpec {
    pub kind: TaskKind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<TextTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Template::is_null")]
    pub input: Template,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    /// Unless given, that of any task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationMs>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: RetryPolicy,
}

pub(super) fn default_namespace() -> String {
    TaskSpec::new(TaskKind::Noop).namespace
}

impl WorkflowSpec {
    pub fn step(&self, name: &str) -> Option<&StepSpec> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// A task of `step` without what [`super::bind_window`] fills in: input, command and needs.
    pub fn task(&self, step: &StepSpec) -> TaskSpec {
        let mut task = TaskSpec::new(step.kind);
        task.timeout = step.timeout.unwrap_or(task.timeout);
        let labels = self.labels.iter().chain(&step.labels);
        TaskSpec {
            model: step.model.clone(),
            files: step.files.clone(),
            requires: step.requires.clone(),
            priority: step.priority.unwrap_or(self.priority),
            tag: step.tag.or(self.tag),
            retry: step.retry.clone(),
            namespace: self.namespace.clone(),
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
            durability: self.durability,
            exclusive: step.exclusive,
            concurrency_key: step.concurrency_key.clone(),
            rate_key: step.rate_key.clone(),
            workflow: step.workflow.clone(),
            ..task
        }
    }

    /// What the failure of `step` means.
    pub fn on_fail(&self, step: &StepSpec) -> OnFail {
        step.on_fail.unwrap_or(self.on_fail)
    }

    /// Whether a home needs content for it that the specification does not hold.
    pub fn names_blobs(&self) -> bool {
        !self.blobs().is_empty()
    }

    /// The content that it and the workflows in it name and do not hold.
    pub fn blobs(&self) -> Vec<ContentId> {
        let of_step = |step: &StepSpec| {
            let undo = step.compensate.iter().flat_map(|undo| &undo.files);
            let own = step.files.iter().chain(undo).map(|file| file.cid);
            own.chain(step.workflow.iter().flat_map(|child| child.blobs())).collect::<Vec<_>>()
        };
        self.steps.iter().flat_map(of_step).collect()
    }

    /// The steps that the workflow's outputs are made of.
    pub fn output_steps(&self) -> ReadSteps<'_> {
        ReadSteps::of(self.outputs.values().flat_map(Template::references))
    }
}

impl StepSpec {
    /// The step with every default.
    pub fn new(name: &str, kind: TaskKind) -> Self {
        Self {
            name: name.to_owned(),
            needs: Vec::new(),
            join: Join::All,
            when: None,
            on_fail: None,
            workflow: None,
            for_each: None,
            kind,
            run: Vec::new(),
            model: None,
            input: Template::default(),
            files: Vec::new(),
            requires: None,
            priority: None,
            tag: None,
            timeout: None,
            retry: RetryPolicy::default(),
            labels: BTreeMap::new(),
            exclusive: false,
            concurrency_key: None,
            rate_key: None,
            compensate: None,
        }
    }

    /// Every reference of the step's templates; those of `when` aside.
    pub fn references(&self) -> Vec<&Reference> {
        let list = self.for_each.iter().flat_map(Template::references);
        list.chain(self.input.references()).chain(self.run.iter().flat_map(TextTemplate::references)).collect()
    }

    /// The steps that must be at hand to bind this one; the outputs of others need not be loaded.
    pub fn bound_steps(&self) -> ReadSteps<'_> {
        let conditions = self.when.iter().flat_map(Condition::references);
        let mut steps = ReadSteps::of(self.references().into_iter().chain(conditions));
        steps.outputs.extend(self.needs.iter().filter(|_| self.takes_needs()).map(String::as_str));
        steps
    }

    /// Whether its task is handed the outputs of the steps it needs.
    ///
    /// Only a process reads them; and not each task of a `for_each`, or every item would carry the whole list.
    pub fn takes_needs(&self) -> bool {
        self.kind == TaskKind::Process && self.for_each.is_none()
    }
}

impl CompensateSpec {
    /// A step that runs as the compensation of `step`, so that both are bound and checked in one way.
    pub fn as_step(&self, step: &StepSpec) -> StepSpec {
        StepSpec {
            run: self.run.clone(),
            model: self.model.clone(),
            input: self.input.clone(),
            files: self.files.clone(),
            requires: self.requires.clone(),
            priority: step.priority,
            tag: step.tag,
            timeout: self.timeout,
            retry: self.retry.clone(),
            labels: step.labels.clone(),
            ..StepSpec::new(&step.name, self.kind)
        }
    }
}

/// Of which steps something is read: their outputs, or only how they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSteps<'a> {
    pub outputs: BTreeSet<&'a str>,
    /// Their states and errors.
    pub ends: BTreeSet<&'a str>,
}

impl<'a> ReadSteps<'a> {
    fn of(references: impl Iterator<Item = &'a Reference>) -> Self {
        let mut steps = Self::default();
        for reference in references {
            match &reference.root {
                Root::Output(step) => steps.outputs.insert(step),
                Root::State(step) | Root::Error(step) => steps.ends.insert(step),
                Root::Input(_) | Root::Item | Root::ItemIndex => false,
            };
        }
        steps
    }

    /// Each step once.
    pub fn names(&self) -> BTreeSet<&'a str> {
        self.outputs.union(&self.ends).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_a_step_takes_the_workflows_settings_where_the_step_has_none() {
        let mut step = StepSpec::new("embed", TaskKind::Embed);
        step.labels = BTreeMap::from([("a".into(), "step".into())]);
        step.priority = Some(Priority::try_from(7).unwrap());
        let workflow = WorkflowSpec {
            name: "w".into(),
            tag: Some(Tag::P2pOnly),
            namespace: "books".into(),
            durability: Durability::Memory,
            priority: Priority::default(),
            schedule: None,
            parent: None,
            input: BTreeMap::new(),
            labels: BTreeMap::from([("a".into(), "workflow".into()), ("b".into(), "workflow".into())]),
            on_fail: OnFail::FailFast,
            steps: vec![step],
            outputs: BTreeMap::new(),
        };
        let task = workflow.task(&workflow.steps[0]);
        assert_eq!((task.tag, task.namespace.as_str()), (Some(Tag::P2pOnly), "books"));
        assert_eq!((task.priority.get(), task.durability), (7, Durability::Memory));
        assert_eq!((task.labels["a"].as_str(), task.labels["b"].as_str()), ("step", "workflow"));
        assert_eq!(task.timeout, TaskSpec::new(TaskKind::Embed).timeout);
    }
}
