//! What holds for a task and for a step alike: the rules of its kind, and sane numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::door::check_text;
use super::error::{Pointer, Problems, shown};
use crate::limits;
use crate::retry::RetryPolicy;
use crate::task::{FileRef, TaskKind};
use crate::time::DurationMs;

/// The part that a task and a step have in common.
pub(super) struct Body<'a> {
    pub kind: TaskKind,
    pub has_input: bool,
    pub run_len: usize,
    pub has_command: bool,
    pub model: Option<&'a str>,
    pub files: &'a [FileRef],
    pub timeout: Option<DurationMs>,
    pub retry: &'a RetryPolicy,
    pub labels: &'a BTreeMap<String, String>,
    pub exclusive: bool,
}

/// Reports what is wrong with the body that stands at `at`; what is known to be wrong is not reported twice.
pub(super) fn check(body: &Body<'_>, at: &Pointer, problems: &mut Problems) {
    if !problems.touch(&at.key("kind")) {
        check_kind(body, at, problems);
        check_exclusive(body, at, problems);
    }
    check_numbers(body, at, problems);
    check_retry(body.retry, &at.key("retry"), problems);
    check_labels(body.labels, &at.key("labels"), problems);
    check_files(body.files, &at.key("files"), problems);
}

/// Whether a kind needs, may have or refuses a field.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Needed,
    Allowed,
    Refused,
}

fn rule_of_run(kind: TaskKind) -> Rule {
    match kind {
        TaskKind::Process => Rule::Needed,
        TaskKind::Docker => Rule::Allowed,
        _ => Rule::Refused,
    }
}

fn rule_of_model(kind: TaskKind) -> Rule {
    match kind {
        TaskKind::Embed | TaskKind::Inference | TaskKind::Generate => Rule::Needed,
        _ => Rule::Refused,
    }
}

fn rule_of_input(kind: TaskKind) -> Rule {
    if rule_of_model(kind) == Rule::Needed { Rule::Needed } else { Rule::Allowed }
}

fn rule_of_files(kind: TaskKind) -> Rule {
    match kind {
        TaskKind::Process | TaskKind::Docker | TaskKind::Wasm => Rule::Allowed,
        _ => Rule::Refused,
    }
}

pub(super) fn check_kind(body: &Body<'_>, at: &Pointer, problems: &mut Problems) {
    let kind = body.kind;
    for (key, rule, is_there, example) in [
        ("run", rule_of_run(kind), body.run_len > 0, "run: [COMMAND, ARGUMENT, ...]"),
        ("model", rule_of_model(kind), body.model.is_some(), "model: minilm"),
        ("input", rule_of_input(kind), body.has_input, "input: ..."),
        ("files", rule_of_files(kind), !body.files.is_empty(), "files: [...]"),
    ] {
        let at = at.key(key);
        match (rule, is_there) {
            _ if problems.touch(&at) => {}
            (Rule::Needed, false) => {
                problems.report(&at, format!("a task of kind {kind} needs {key}"), format!("add {example}"));
            }
            (Rule::Refused, true) => {
                problems.report(&at, format!("a task of kind {kind} has no {key}"), format!("remove {key}"));
            }
            (Rule::Needed | Rule::Allowed | Rule::Refused, _) => {}
        }
    }
}

fn check_exclusive(body: &Body<'_>, at: &Pointer, problems: &mut Problems) {
    if body.exclusive && !body.kind.can_be_exclusive() {
        let problem = format!("a task of kind {} cannot be ended from outside, so it cannot be exclusive", body.kind);
        problems.report(&at.key("exclusive"), problem, "remove exclusive, and send MAGPIE_EPOCH along as a fence");
    }
}

fn check_numbers(body: &Body<'_>, at: &Pointer, problems: &mut Problems) {
    let run = at.key("run");
    if body.run_len > limits::RUN_ARGUMENTS_MAX {
        let problem = format!("{} arguments, and a command has at most {}", body.run_len, limits::RUN_ARGUMENTS_MAX);
        problems.report(&run, problem, "hand them over in input");
    } else if body.run_len > 0 && !body.has_command && !problems.touch(&run) {
        problems.report(&run.index(0), "the command is empty", "write the program's name");
    }
    if let Some(model) = body.model {
        check_text(model, "model's name", &at.key("model"), problems);
    }
    let longest = DurationMs(limits::TASK_TIMEOUT_MS_MAX);
    if let Some(timeout) = body.timeout.filter(|timeout| timeout.0 == 0 || *timeout > longest) {
        problems.report(&at.key("timeout"), format!("a timeout of {timeout}"), format!("write 1ms to {longest}"));
    }
}

fn check_retry(retry: &RetryPolicy, at: &Pointer, problems: &mut Problems) {
    let longest = DurationMs(limits::TASK_TIMEOUT_MS_MAX);
    if !(1..=limits::RETRY_ATTEMPTS_MAX).contains(&retry.max_attempts) {
        let fix = format!("write 1 to {}; 1 means no retry", limits::RETRY_ATTEMPTS_MAX);
        problems.report(&at.key("max_attempts"), format!("{} attempts", retry.max_attempts), fix);
    }
    if !(1.0..=100.0).contains(&retry.factor) {
        problems.report(&at.key("factor"), format!("a factor of {}", retry.factor), "write 1 to 100");
    }
    if !(0.0..=1.0).contains(&retry.jitter) {
        problems.report(&at.key("jitter"), format!("a jitter of {}", retry.jitter), "write 0 to 1");
    }
    if retry.max_delay > longest {
        let problem = format!("a delay of {}", retry.max_delay);
        problems.report(&at.key("max_delay"), problem, format!("write at most {longest}"));
    } else if retry.initial > retry.max_delay {
        let problem = format!("the first delay, {}, is longer than the longest, {}", retry.initial, retry.max_delay);
        problems.report(&at.key("initial"), problem, "lower initial or raise max_delay");
    }
    for (index, code) in retry.permanent_exit.iter().enumerate().filter(|(_, code)| !(1..=255).contains(*code)) {
        let at = at.key("permanent_exit").index(index);
        problems.report(&at, format!("{code} is not the exit code of a failure"), "write 1 to 255");
    }
    for (key, len) in [("retry_on", retry.retry_on.len()), ("permanent_exit", retry.permanent_exit.len())] {
        if len > limits::RETRY_CODES_LEN_MAX {
            let fix = format!("write at most {}", limits::RETRY_CODES_LEN_MAX);
            problems.report(&at.key(key), format!("{len} codes"), fix);
        }
    }
    for (index, code) in retry.retry_on.iter().enumerate().take(limits::RETRY_CODES_LEN_MAX) {
        check_text(code, "code", &at.key("retry_on").index(index), problems);
    }
}

pub(super) fn check_labels(labels: &BTreeMap<String, String>, at: &Pointer, problems: &mut Problems) {
    if labels.len() > limits::LABELS_MAX {
        problems.report(at, format!("{} labels", labels.len()), format!("write at most {}", limits::LABELS_MAX));
    }
    for (key, value) in labels.iter().take(limits::LABELS_MAX) {
        let at = at.key(key);
        check_text(key, "label's name", &at, problems);
        if key.contains('=') {
            problems.report(&at, format!("the label's name {} has a =", shown(key)), "write NAME: VALUE");
        }
        if !value.is_empty() {
            check_text(value, "label's value", &at, problems);
        }
    }
}

/// What a command may be made of; how many arguments, and whether there is one, is checked with the rest.
pub(super) fn check_run(run: &[String], at: &Pointer, problems: &mut Problems) {
    let bytes: usize = run.iter().map(String::len).sum();
    if bytes > limits::RUN_BYTES_MAX {
        let fix = format!("write at most {}, and hand over the rest in input", limits::RUN_BYTES_MAX);
        return problems.report(at, format!("a command of {bytes} bytes"), fix);
    }
    for (index, _) in run.iter().enumerate().filter(|(_, argument)| argument.contains('\0')) {
        problems.report(&at.index(index), "an argument has a NUL character", "remove it");
    }
}

fn check_files(files: &[FileRef], at: &Pointer, problems: &mut Problems) {
    if files.len() > limits::TASK_FILES_MAX {
        let problem = format!("{} files, and a task has at most {}", files.len(), limits::TASK_FILES_MAX);
        return problems.report(at, problem, "pack them into an archive");
    }
    let bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
    if bytes > limits::TASK_FILES_BYTES_MAX {
        let problem = format!("{bytes} bytes of files, and a task has at most {}", limits::TASK_FILES_BYTES_MAX);
        problems.report(at, problem, "leave out what the task does not read");
    }
    let mut paths = BTreeSet::new();
    for (index, file) in files.iter().enumerate() {
        let at = at.index(index);
        if !is_relative(&file.path) {
            let problem = format!("{} is not a path inside the task's directory", shown(&file.path));
            problems.report(&at, problem, "write it relative, without . or ..");
        } else if !paths.insert(file.path.as_str()) {
            problems.report(&at, format!("{} is there twice", shown(&file.path)), "name each file once");
        }
    }
    for (index, file) in files.iter().enumerate() {
        let mut directories = file.path.match_indices('/').map(|(end, _)| &file.path[..end]);
        if let Some(directory) = directories.find(|directory| paths.contains(directory)) {
            let problem = format!("{} is a file and a directory", shown(directory));
            problems.report(&at.index(index), problem, "rename one of the two");
        }
    }
}

/// Whether `path` stays inside the directory it is taken from.
pub fn is_relative(path: &str) -> bool {
    let parts_ok = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    parts_ok && path.len() <= limits::PATH_BYTES_MAX && !path.contains('\0')
}
