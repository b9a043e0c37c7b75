//! What a task is: its specification as a user writes it, its states, its outcome.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dag::WorkflowSpec;
use crate::ids::{ContentId, LedgerTag, TaskId};
use crate::limiter::{LimitKey, LimitKind};
pub use crate::outcome::{AttemptResult, Outcome, Used};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::{DurationMs, Wall};

/// Which executor runs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    Inference,
    Embed,
    Generate,
    Process,
    Docker,
    Wasm,
    Http,
    Tool,
    Sleep,
    Noop,
    /// A step that is a workflow: its home runs it, no worker does.
    Workflow,
    /// A person decides it, and no worker is given it.
    Approval,
}

impl TaskKind {
    /// The kinds that a task is written with: those that workers run, and at the end what a person decides.
    pub const WRITTEN: [Self; 11] = [
        Self::Inference,
        Self::Embed,
        Self::Generate,
        Self::Process,
        Self::Docker,
        Self::Wasm,
        Self::Http,
        Self::Tool,
        Self::Sleep,
        Self::Noop,
        Self::Approval,
    ];

    /// The kinds that workers run.
    pub const ALL: [Self; 10] = {
        let [at_workers @ .., _approval] = Self::WRITTEN;
        at_workers
    };

    /// Whether a worker runs it, of a node or of a caller.
    pub fn runs_at_workers(self) -> bool {
        !matches!(self, Self::Workflow | Self::Approval)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Embed => "embed",
            Self::Generate => "generate",
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Wasm => "wasm",
            Self::Http => "http",
            Self::Tool => "tool",
            Self::Sleep => "sleep",
            Self::Noop => "noop",
            Self::Workflow => "workflow",
            Self::Approval => "approval",
        }
    }

    /// Whether an attempt can be ended from outside at a given moment, as `exclusive` demands.
    pub fn can_be_exclusive(self) -> bool {
        !matches!(self, Self::Http | Self::Tool | Self::Workflow | Self::Approval)
    }

    /// Whether an attempt needs room on its worker's disk before it can begin.
    pub fn needs_room(self) -> bool {
        matches!(self, Self::Process)
    }

    /// Which of a worker's slots an attempt takes.
    pub fn pool(self) -> SlotPool {
        match self {
            Self::Inference | Self::Embed | Self::Generate => SlotPool::Device,
            Self::Process
            | Self::Docker
            | Self::Wasm
            | Self::Http
            | Self::Tool
            | Self::Sleep
            | Self::Noop
            | Self::Workflow
            | Self::Approval => SlotPool::Cpu,
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The two supplies of slots that a worker has: its own (`--slots`), and places in the batches of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotPool {
    Cpu,
    Device,
}

/// The seven tags of the seeds: where work may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tag {
    GithubApi,
    P2pEligible,
    P2pOnly,
    UnitTest,
    CodeGeneration,
    WebScraping,
    DataProcessing,
}

impl Tag {
    pub const ALL: [Self; 7] = [
        Self::GithubApi,
        Self::P2pEligible,
        Self::P2pOnly,
        Self::UnitTest,
        Self::CodeGeneration,
        Self::WebScraping,
        Self::DataProcessing,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::GithubApi => "github-api",
            Self::P2pEligible => "p2p-eligible",
            Self::P2pOnly => "p2p-only",
            Self::UnitTest => "unit-test",
            Self::CodeGeneration => "code-generation",
            Self::WebScraping => "web-scraping",
            Self::DataProcessing => "data-processing",
        }
    }

    /// Whether any node may run it; the others run only where a node's configuration names the tag.
    pub fn runs_on_the_mesh(self) -> bool {
        !matches!(self, Self::GithubApi | Self::UnitTest)
    }
}

/// A text that names none of the tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a tag (p2p-only, p2p-eligible, code-generation, web-scraping, data-processing, github-api, unit-test)"
)]
pub struct ParseTagError(String);

impl FromStr for Tag {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, ParseTagError> {
        let name = text.to_ascii_lowercase().replace('_', "-");
        let name = match name.as_str() {
            "code-gen" => "code-generation",
            "web-scrape" => "web-scraping",
            other => other,
        };
        let found = Self::ALL.into_iter().find(|tag| tag.name() == name);
        found.ok_or_else(|| ParseTagError(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Tag {
    type Error = ParseTagError;

    fn try_from(text: String) -> Result<Self, ParseTagError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.name().to_owned()
    }
}

/// How much of a crash an acknowledgement survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Lost with the process.
    Memory,
    /// With the kernel before the acknowledgement, fsynced within 100 ms.
    Async,
    /// Fsynced before the acknowledgement.
    #[default]
    Sync,
}

/// A file that stands in the empty directory a process starts in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileRef {
    /// Relative, with `/`, without `..`.
    pub path: String,
    pub cid: ContentId,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub executable: bool,
}

/// 0 runs first, 1000 last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Priority(u16);

impl Priority {
    pub const MAX: u16 = 1_000;

    pub fn get(self) -> u16 {
        self.0
    }

    /// From the scale of seeds 001 and 004: 1..=10, 10 most urgent.
    pub fn from_seed_scale(urgency: u8) -> Self {
        Self((10 - u16::from(urgency.clamp(1, 10))) * 111)
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(500)
    }
}

/// A priority above 1000.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("priority {0} is above 1000 (0 runs first, 1000 last)")]
pub struct PriorityError(u16);

impl TryFrom<u16> for Priority {
    type Error = PriorityError;

    fn try_from(value: u16) -> Result<Self, PriorityError> {
        if value > Self::MAX { Err(PriorityError(value)) } else { Ok(Self(value)) }
    }
}

impl From<Priority> for u16 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// A task as a user submits it. Every field but `kind` has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub kind: TaskKind,
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub input: Payload,
    /// Outputs of the steps that this one needs, by step name; set by the home.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<String, Payload>,
    /// `process`: the command and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
    /// `embed`, `inference`, `generate`: the model's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRef>,
    /// A capability expression, as `gpu.vram >= 16GiB && model:minilm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Covers execution only.
    #[serde(default = "default_timeout", skip_serializing_if = "is_default_timeout")]
    pub timeout: DurationMs,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: RetryPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Wall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Wall>,
    #[serde(default = "default_namespace", skip_serializing_if = "is_default_namespace")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// How long the key names this task and no other; a day unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_ttl: Option<DurationMs>,
    /// How long it is kept when it has ended; as its home is configured unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<DurationMs>,
    /// Tasks of one key run at most as many at a time as its limit says; without one, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<LimitKey>,
    /// Tasks of one key start at most as often as its limit says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_key: Option<LimitKey>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub durability: Durability,
    /// It never runs twice at a time, at the price of being killed when its worker cannot reach its home.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exclusive: bool,
    /// The task whose running attempt submits it: both are cancelled together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// `workflow`: what it runs, with its parameters; set by the home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Arc<WorkflowSpec>>,
}

impl TaskSpec {
    /// The task with every default, of one kind.
    pub fn new(kind: TaskKind) -> Self {
        Self {
            kind,
            input: Payload::null(),
            needs: BTreeMap::new(),
            run: Vec::new(),
            model: None,
            files: Vec::new(),
            requires: None,
            priority: Priority::default(),
            tag: None,
            timeout: default_timeout(),
            retry: RetryPolicy::default(),
            not_before: None,
            deadline: None,
            namespace: default_namespace(),
            labels: BTreeMap::new(),
            idempotency_key: None,
            idempotency_ttl: None,
            retention: None,
            concurrency_key: None,
            rate_key: None,
            durability: Durability::default(),
            exclusive: false,
            parent: None,
            workflow: None,
        }
    }
}

impl TaskSpec {
    /// The limit of a kind that the task counts under, as its home `own` sees it: without a tag where that home holds it
    /// and takes from it for itself. A task with both keys borrows its start, if need be from its own home, and so can
    /// keep it until there is a place: all homes take starts before places, and none waits for another in a circle.
    pub fn limit(&self, kind: LimitKind, own: LedgerTag) -> Option<LimitKey> {
        match kind {
            LimitKind::Concurrency => Some(self.concurrency_key.as_ref()?.seen_from(own)),
            LimitKind::Rate if self.concurrency_key.is_some() => {
                let LimitKey { name, home } = self.rate_key.clone()?;
                Some(LimitKey { name, home: home.or(Some(own)) })
            }
            LimitKind::Rate => Some(self.rate_key.as_ref()?.seen_from(own)),
        }
    }

    pub fn is_same_but_for_input(&self, other: &Self) -> bool {
        let Self {
            kind,
            input: _,
            needs,
            run,
            model,
            files,
            requires,
            priority,
            tag,
            timeout,
            retry,
            not_before,
            deadline,
            namespace,
            labels,
            idempotency_key,
            idempotency_ttl,
            retention,
            concurrency_key,
            rate_key,
            durability,
            exclusive,
            parent,
            workflow,
        } = self;
        kind == &other.kind
            && needs == &other.needs
            && run == &other.run
            && model == &other.model
            && files == &other.files
            && requires == &other.requires
            && priority == &other.priority
            && tag == &other.tag
            && timeout == &other.timeout
            && retry == &other.retry
            && not_before == &other.not_before
            && deadline == &other.deadline
            && namespace == &other.namespace
            && labels == &other.labels
            && idempotency_key == &other.idempotency_key
            && idempotency_ttl == &other.idempotency_ttl
            && retention == &other.retention
            && concurrency_key == &other.concurrency_key
            && rate_key == &other.rate_key
            && durability == &other.durability
            && exclusive == &other.exclusive
            && parent == &other.parent
            && workflow == &other.workflow
    }

    /// Bytes of the blobs that a worker must have before it starts.
    pub fn blob_bytes(&self) -> u64 {
        let values = self.needs.values().chain([&self.input]).filter_map(Payload::blob).map(|blob| blob.bytes);
        values.chain(self.files.iter().map(|file| file.bytes)).fold(0, u64::saturating_add)
    }

    /// The content that the specification names and does not hold.
    pub fn blobs(&self) -> impl Iterator<Item = ContentId> {
        let values = self.needs.values().chain([&self.input]).filter_map(Payload::blob).map(|blob| blob.cid);
        let of_child = self.workflow.iter().flat_map(|child| child.blobs());
        values.chain(self.files.iter().map(|file| file.cid)).chain(of_child)
    }

    /// Whether a home needs content for it that the specification does not hold.
    pub fn names_blobs(&self) -> bool {
        self.blobs().next().is_some()
    }
}

fn default_timeout() -> DurationMs {
    DurationMs(3_600_000)
}

fn is_default_timeout(timeout: &DurationMs) -> bool {
    *timeout == default_timeout()
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn is_default_namespace(namespace: &str) -> bool {
    namespace == "default"
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where a task stands. The last five never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for the steps it needs.
    Blocked,
    /// Waits for its time: `not_before` or a back-off.
    Delayed,
    Ready,
    /// Granted to a worker that has not said it started.
    Leased,
    Running,
    Succeeded,
    Failed,
    /// Its attempts are spent: it stands in the dead-letter queue.
    Dead,
    Cancelled,
    /// A step whose dependencies ended so that it does not run.
    Skipped,
}

impl TaskState {
    pub const ALL: [Self; 10] = [
        Self::Blocked,
        Self::Delayed,
        Self::Ready,
        Self::Leased,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Skipped,
    ];

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Dead | Self::Cancelled | Self::Skipped)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Delayed => "delayed",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for TaskState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| format!("{text:?} is not a state ({})", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Why an attempt, or a task, did not succeed: a stable code for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// Lower case with `_`: `exit_status`, `timeout`, `lease_expired`, `unknown_model`, ...
    pub code: String,
    pub message: String,
}

impl TaskError {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_kind_is_a_task_and_defaults_are_not_written() {
        let spec: TaskSpec = serde_json::from_str(r#"{"kind": "noop"}"#).unwrap();
        assert_eq!(spec, TaskSpec::new(TaskKind::Noop));
        assert_eq!(serde_json::to_string(&spec).unwrap(), r#"{"kind":"noop"}"#);
        assert!(rmp_serde::to_vec_named(&spec).unwrap().len() < 16);
    }

    #[test]
    fn tags_parse_in_both_spellings() {
        for (text, tag) in
            [("p2p_only", Tag::P2pOnly), ("code_gen", Tag::CodeGeneration), ("WEB_SCRAPE", Tag::WebScraping)]
        {
            assert_eq!(text.parse(), Ok(tag));
        }
        assert!("p2p".parse::<Tag>().unwrap_err().to_string().contains("p2p-eligible"));
    }

    #[test]
    fn seed_priorities_turn_around() {
        assert_eq!(Priority::from_seed_scale(10).get(), 0);
        assert_eq!(Priority::from_seed_scale(1).get(), 999);
        assert!(serde_json::from_str::<Priority>("1001").is_err());
    }

    #[test]
    fn states_have_one_name_each_way() {
        for state in TaskState::ALL {
            assert_eq!(state.name().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        assert_eq!(TaskState::ALL.iter().filter(|state| state.is_terminal()).count(), 5);
    }
}
