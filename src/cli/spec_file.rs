//! A workflow or task file: read, checked with the line of every problem, and made ready to submit.

mod included;
mod local_files;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use magpie_core::dag::{self, SpecError, WorkflowSpec};
use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::payload::BlobRef;
use magpie_core::task::{FileRef, TaskSpec};
use magpie_net::regular_file;
use serde_json::Value;

pub use local_files::LocalFile;
pub use source::Lines;

/// What a file describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecKind {
    /// It has `steps`.
    Workflow,
    Task,
}

impl SpecKind {
    /// A name without a kind is taken for a workflow whose `steps` are missing: no task has a name.
    fn of(document: &Value) -> Self {
        let has = |key: &str| document.get(key).is_some();
        if has("steps") || (has("name") && !has("kind")) { Self::Workflow } else { Self::Task }
    }
}

/// A file that holds a valid workflow or task, whose own files are found and not yet uploaded.
#[derive(Debug, Clone)]
pub struct SpecFile {
    pub document: Value,
    pub kind: SpecKind,
    pub lines: Lines,
    /// Each once, however many steps name it.
    pub files: Vec<LocalFile>,
    origin: Origin,
    lists: Vec<FileList>,
    /// Where each of `files` stands.
    places: BTreeMap<LocalFile, usize>,
}

/// Where the document came from: for messages.
#[derive(Debug, Clone)]
struct Origin {
    path: PathBuf,
    text: String,
}

/// One `files` of the document.
#[derive(Debug, Clone)]
struct FileList {
    /// A JSON pointer to the list.
    at: String,
    entries: Vec<FileEntry>,
}

#[derive(Debug, Clone)]
enum FileEntry {
    /// It names files on this machine, by their places in [`SpecFile::files`].
    Local(Vec<usize>),
    /// It is a file that has been uploaded, or something that will be refused.
    Given(Value),
}

/// A document with every file uploaded, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    pub document: Value,
    pub spec: Spec,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    Workflow(Box<WorkflowSpec>),
    Task(Box<TaskSpec>),
}

/// Everything that is wrong with a file, printed as a compiler prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecFileError {
    path: PathBuf,
    findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// The line from 1 and its text; `None`: the file as a whole.
    place: Option<(usize, String)>,
    problem: String,
    fix: String,
}

impl std::error::Error for SpecFileError {}

impl fmt::Display for SpecFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (index, finding) in self.findings.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            match &finding.place {
                None => write!(formatter, "{line_end}{path}: {}\n  = {}", finding.problem, finding.fix)?,
                Some((line, text)) => {
                    let margin = " ".repeat(line.to_string().len());
                    writeln!(formatter, "{line_end}{path}:{line}: {}", finding.problem)?;
                    write!(formatter, "  {line} | {text}\n  {margin} = {}", finding.fix)?;
                }
            }
        }
        Ok(())
    }
}

impl Origin {
    fn finding(&self, line: usize, problem: String, fix: String) -> Finding {
        const CHARS_MAX: usize = 120;
        let text = self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim_end();
        let text = text.chars().take(CHARS_MAX).map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        Finding { place: Some((line, text)), problem, fix }
    }

    fn refuse(&self, findings: Vec<Finding>) -> SpecFileError {
        SpecFileError { path: self.path.clone(), findings }
    }

    fn refuse_spec(&self, lines: &Lines, errors: Vec<SpecError>) -> SpecFileError {
        let finding = |error: SpecError| match error.path.as_str() {
            "" => Finding { place: None, problem: error.problem, fix: error.fix },
            path => self.finding(lines.line_of(path), error.problem, error.fix),
        };
        let mut findings: Vec<Finding> = errors.into_iter().map(finding).collect();
        findings.sort_by_key(|finding| finding.place.as_ref().map_or(usize::MAX, |(line, _)| *line));
        self.refuse(findings)
    }
}

impl SpecFile {
    /// Reads a file of YAML, or of JSON where its name ends in `.json` or its text is JSON.
    ///
    /// # Errors
    /// [`SpecFileError`] if it cannot be read, is not a document, is not a valid workflow or task, or names files
    /// that are not there.
    pub fn read(path: &Path) -> Result<Self, SpecFileError> {
        let text = read_text(path).map_err(|(problem, fix)| SpecFileError {
            path: path.to_owned(),
            findings: vec![Finding { place: None, problem, fix: fix.to_owned() }],
        })?;
        Self::parse(path, text)
    }

    /// As [`SpecFile::read`], of a text that is at hand: `path` gives it a name, and its directory the files.
    ///
    /// # Errors
    /// As [`SpecFile::read`].
    pub fn parse(path: &Path, text: String) -> Result<Self, SpecFileError> {
        let within: Vec<PathBuf> = path.canonicalize().into_iter().collect();
        Self::parse_within(path, text, &within)
    }

    /// `within` are the files that this one is read for, and itself.
    fn parse_within(path: &Path, text: String, within: &[PathBuf]) -> Result<Self, SpecFileError> {
        let origin = Origin { path: path.to_owned(), text };
        let (document, lines) = read_source(&origin)
            .map_err(|error| origin.refuse(vec![origin.finding(error.line, error.problem, error.fix)]))?;
        let kind = SpecKind::of(&document);
        let mut file =
            Self { document, kind, lines, files: Vec::new(), origin, lists: Vec::new(), places: BTreeMap::new() };
        let missing = file.find_files();
        file.include(within)?;
        // Checked with blobs that do not exist, so that nothing is uploaded for a document that is refused.
        let checked = file.with_uploaded(|file| BlobRef { cid: ContentId::of(b""), bytes: file.bytes });
        let mut findings = checked.err().map_or_else(Vec::new, |error| error.findings);
        findings.extend(missing);
        findings.sort_by_key(|finding| finding.place.as_ref().map_or(usize::MAX, |(line, _)| *line));
        if findings.is_empty() { Ok(file) } else { Err(file.origin.refuse(findings)) }
    }

    /// Finds the files that the document names, and returns what is wrong with the others.
    fn find_files(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for at in file_lists(&self.document) {
            let Some(Value::Array(entries)) = self.document.pointer(&at).cloned() else { continue };
            let mut list = FileList { at, entries: Vec::new() };
            let mut in_list = BTreeSet::new();
            for (index, entry) in entries.into_iter().enumerate() {
                let found = match entry {
                    Value::String(name) => local_files::find(self.directory(), &name),
                    given => {
                        list.entries.push(FileEntry::Given(given));
                        continue;
                    }
                };
                match found {
                    Ok(found) => {
                        let found = found.into_iter().map(|file| self.place_of(&file));
                        list.entries.push(FileEntry::Local(found.filter(|place| in_list.insert(*place)).collect()));
                    }
                    Err(_) if findings.len() == limits::SPEC_ERRORS_MAX => return findings,
                    Err(error) => {
                        let line = self.lines.line_of(&format!("{}/{index}", list.at));
                        findings.push(self.origin.finding(line, error.problem, error.fix));
                    }
                }
            }
            self.lists.push(list);
        }
        findings
    }

    fn directory(&self) -> &Path {
        match self.origin.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    fn place_of(&mut self, file: &LocalFile) -> usize {
        *self.places.entry(file.clone()).or_insert_with(|| {
            self.files.push(file.clone());
            self.files.len() - 1
        })
    }

    /// The document with `files` as content ids, and what it says. `uploaded` gives the blob of each of
    /// [`SpecFile::files`].
    ///
    /// # Errors
    /// [`SpecFileError`] if the document, changed since it was read, is not valid any more.
    pub fn with_uploaded(&self, mut uploaded: impl FnMut(&LocalFile) -> BlobRef) -> Result<Submission, SpecFileError> {
        let refs: Vec<FileRef> = self.files.iter().map(|file| file_ref(file, uploaded(file))).collect();
        let mut document = self.document.clone();
        for list in &self.lists {
            let entries = list.entries.iter().flat_map(|entry| match entry {
                FileEntry::Given(value) => vec![value.clone()],
                FileEntry::Local(places) => places.iter().map(|place| file_value(&refs[*place])).collect(),
            });
            if let Some(place) = document.pointer_mut(&list.at) {
                *place = entries.collect();
            }
        }
        let spec = match self.kind {
            SpecKind::Workflow => dag::parse_workflow(&document).map(|workflow| Spec::Workflow(Box::new(workflow))),
            SpecKind::Task => dag::parse_task(&document).map(|task| Spec::Task(Box::new(task))),
        };
        let spec = spec.map_err(|errors| self.origin.refuse_spec(&self.lines, errors))?;
        Ok(Submission { document, spec })
    }
}

fn file_ref(file: &LocalFile, blob: BlobRef) -> FileRef {
    FileRef { path: file.path_in_task.clone(), cid: blob.cid, bytes: blob.bytes, executable: file.executable }
}

fn file_value(file: &FileRef) -> Value {
    serde_json::to_value(file).expect("a file reference has only string keys")
}

/// Pointers to the `files` of a task, or of each step and of what undoes it, those of workflows in steps included.
fn file_lists(document: &Value) -> Vec<String> {
    let workflows = included::children(document).into_iter().chain([String::new()]);
    let of_steps = workflows.flat_map(|at| {
        let steps = document.pointer(&format!("{at}/steps")).and_then(Value::as_array).map_or(0, Vec::len);
        let of_step =
            move |index| [format!("{at}/steps/{index}/files"), format!("{at}/steps/{index}/compensate/files")];
        (0..steps).flat_map(of_step)
    });
    let pointers = of_steps.chain(["/files".to_owned()]);
    pointers.filter(|at| document.pointer(at).is_some()).collect()
}

fn read_text(path: &Path) -> Result<String, (String, &'static str)> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ("there is no such file".to_owned(), "name a workflow or task file"),
        std::io::ErrorKind::InvalidInput => {
            (format!("the file cannot be read: {error}"), "name a regular file, or - for standard input")
        }
        _ => (format!("the file cannot be read: {error}"), "name a file that you may read"),
    };
    let mut bytes = Vec::new();
    let file = regular_file::open(path).map_err(unreadable)?;
    file.take(limits::SPEC_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > limits::SPEC_BYTES_MAX {
        let problem = format!("the file has more than {} bytes", limits::SPEC_BYTES_MAX);
        return Err((problem, "let a step read the data from a file of its own"));
    }
    String::from_utf8(bytes).map_err(|error| {
        (format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1), "save the file as UTF-8")
    })
}

fn read_source(origin: &Origin) -> Result<(Value, Lines), source::SourceError> {
    let text = origin.text.strip_prefix('\u{feff}').unwrap_or(&origin.text);
    if origin.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        return source::read_json(text);
    }
    let is_json = || serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    if text.trim_start().starts_with('{') && is_json() { source::read_json(text) } else { source::read_yaml(text) }
}

/// An `--input K=V` that the document has no place for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetInputError {
    #[error("there is no input {key:?}; the file has {}", known.join(", "))]
    Unknown { key: String, known: Vec<String> },
    #[error("there is no input {key:?}; the file has none: add input: {{{key}: DEFAULT}}")]
    NoInputs { key: String },
}

/// Sets parameters of a document: each value is JSON if it parses, else text. Nothing is changed on an error.
///
/// # Errors
/// [`SetInputError`] if the document's `input` has no such key.
pub fn set_inputs(document: &mut Value, inputs: &[(String, String)]) -> Result<(), SetInputError> {
    let Some(entries) = document.get_mut("input").and_then(Value::as_object_mut) else {
        let first = inputs.first();
        return first.map_or(Ok(()), |(key, _)| Err(SetInputError::NoInputs { key: key.clone() }));
    };
    if let Some((key, _)) = inputs.iter().find(|(key, _)| !entries.contains_key(key)) {
        let known: Vec<String> = entries.keys().cloned().collect();
        return Err(match known.is_empty() {
            true => SetInputError::NoInputs { key: key.clone() },
            false => SetInputError::Unknown { key: key.clone(), known },
        });
    }
    for (key, text) in inputs {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()));
        entries.insert(key.clone(), value);
    }
    Ok(())
}
