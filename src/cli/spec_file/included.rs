//! Steps whose workflow stands in a file of its own: read, checked there, and put in its place.

use std::path::{Path, PathBuf};

use magpie_core::limits;
use serde_json::Value;

use super::{FileEntry, FileList, Finding, SpecFile, SpecFileError, SpecKind, read_text};

/// Pointers to the workflows of steps, those in workflows of steps included.
pub(super) fn children(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(document, "", &mut found);
    found
}

fn collect(workflow: &Value, at: &str, found: &mut Vec<String>) {
    for (index, step) in workflow.get("steps").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let Some(child) = step.get("workflow") else { continue };
        let at = format!("{at}/steps/{index}/workflow");
        collect(child, &at, found);
        found.push(at);
    }
}

impl SpecFile {
    /// Replaces each `workflow: FILE` by what stands in the file. `within` are the files that this one is read for.
    pub(super) fn include(&mut self, within: &[PathBuf]) -> Result<(), SpecFileError> {
        for at in children(&self.document) {
            let Some(Value::String(name)) = self.document.pointer(&at).cloned() else { continue };
            let child = self.read_child(&at, &name, within)?;
            self.adopt(&at, child);
        }
        Ok(())
    }

    fn read_child(&self, at: &str, name: &str, within: &[PathBuf]) -> Result<Self, SpecFileError> {
        let refuse = |problem: String, fix: &str| {
            let finding: Finding = self.origin.finding(self.lines.line_of(at), problem, fix.to_owned());
            self.origin.refuse(vec![finding])
        };
        let path = self.directory().join(name);
        let (text, real) = match (read_text(&path), path.canonicalize()) {
            (Ok(text), Ok(real)) => (text, real),
            (Err((problem, _)), _) => {
                return Err(refuse(format!("{name}: {problem}"), "write a path relative to this file's directory"));
            }
            (Ok(_), Err(error)) => return Err(refuse(format!("{name}: {error}"), "name a file that you may read")),
        };
        if let Some(first) = within.iter().position(|file| *file == real) {
            let names = within[first..].iter().chain([&real]).map(|file| file_name(file));
            let cycle: Vec<String> = names.collect();
            let problem = format!("the files need each other in a cycle: {}", cycle.join(" -> "));
            return Err(refuse(problem, "let a workflow not start itself"));
        }
        if within.len() > limits::WORKFLOW_DEPTH_MAX {
            let problem = format!("workflows stand more than {} deep in each other", limits::WORKFLOW_DEPTH_MAX);
            return Err(refuse(problem, "make it flatter"));
        }
        let child = Self::parse_within(&path, text, &[within, &[real]].concat())?;
        match child.kind {
            SpecKind::Workflow => Ok(child),
            SpecKind::Task => {
                Err(refuse(format!("{name} is a task"), "name a workflow file, or write the task as a step"))
            }
        }
    }

    /// Its files are uploaded with this one's.
    fn adopt(&mut self, at: &str, child: Self) {
        for FileList { at: list, entries } in child.lists {
            let entries = entries.into_iter().map(|entry| match entry {
                FileEntry::Local(places) => {
                    FileEntry::Local(places.into_iter().map(|place| self.place_of(&child.files[place])).collect())
                }
                given @ FileEntry::Given(_) => given,
            });
            let entries = entries.collect();
            self.lists.push(FileList { at: format!("{at}{list}"), entries });
        }
        if let Some(place) = self.document.pointer_mut(at) {
            *place = child.document;
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::spec_file::Spec;
    use magpie_core::ids::ContentId;
    use magpie_core::payload::BlobRef;

    const STEP: &str = "steps:\n  - {name: sub, kind: workflow, workflow: ";

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn refusal(directory: &tempfile::TempDir, name: &str) -> String {
        let error = SpecFile::read(&directory.path().join(name)).unwrap_err().to_string();
        error.replace(&format!("{}/", directory.path().display()), "")
    }

    #[test]
    fn a_workflow_in_a_file_brings_its_own_files_along() {
        let inner = "name: inner\nsteps:\n  - {name: a, kind: process, run: [sh, a.sh], files: [a.sh]}\n";
        let outer = format!(
            "name: outer\n{STEP}lib/inner.yaml}}\n  - {{name: b, kind: process, run: [sh, a.sh], files: [a.sh]}}\n"
        );
        let directory = directory(&[
            ("outer.yaml", outer.as_str()),
            ("lib/inner.yaml", inner),
            ("lib/a.sh", "inner"),
            ("a.sh", "outermost"),
        ]);
        let file = SpecFile::read(&directory.path().join("outer.yaml")).unwrap();
        let mut bytes: Vec<u64> = file.files.iter().map(|file| file.bytes).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, [5, 9]);
        let made = file.with_uploaded(|file| BlobRef { cid: ContentId::of(b""), bytes: file.bytes }).unwrap();
        let Spec::Workflow(spec) = made.spec else { panic!("it is a workflow") };
        let child = spec.steps[0].workflow.as_ref().unwrap();
        assert_eq!((child.steps[0].files[0].bytes, spec.steps[1].files[0].bytes), (5, 9));
    }

    #[test]
    fn a_workflow_written_in_its_step_finds_its_files_beside_the_document() {
        let text = "name: outer\nsteps:\n  - name: sub\n    kind: workflow\n    workflow:\n      name: inner\n      steps:\n        - {name: a, kind: process, run: [sh, a.sh], files: [a.sh, b.sh]}\n";
        let directory = directory(&[("outer.yaml", text), ("a.sh", "x")]);
        assert!(refusal(&directory, "outer.yaml").starts_with("outer.yaml:8: there is no file \"b.sh\""));
        fs::write(directory.path().join("b.sh"), "y").unwrap();
        assert_eq!(SpecFile::read(&directory.path().join("outer.yaml")).unwrap().files.len(), 2);
    }

    #[test]
    fn what_is_wrong_in_the_other_file_is_told_with_its_line_there() {
        let outer = format!("name: outer\n{STEP}inner.yaml}}\n");
        let inner = "name: inner\nsteps:\n  - {name: a, kind: nop}\n";
        let told = refusal(&directory(&[("outer.yaml", &outer), ("inner.yaml", inner)]), "outer.yaml");
        assert!(told.starts_with("inner.yaml:3: \"nop\" is not a kind of task"), "{told}");
        let told = refusal(&directory(&[("outer.yaml", &outer)]), "outer.yaml");
        assert!(told.starts_with("outer.yaml:3: inner.yaml: there is no such file"), "{told}");
        let told = refusal(&directory(&[("outer.yaml", &outer), ("inner.yaml", "kind: noop\n")]), "outer.yaml");
        assert!(told.starts_with("outer.yaml:3: inner.yaml is a task"), "{told}");
    }

    #[test]
    fn files_that_need_each_other_and_files_nine_deep_are_refused() {
        let a = format!("name: a\n{STEP}b.yaml}}\n");
        let b = format!("name: b\n{STEP}a.yaml}}\n");
        let told = refusal(&directory(&[("a.yaml", &a), ("b.yaml", &b)]), "a.yaml");
        assert!(
            told.starts_with("b.yaml:3: the files need each other in a cycle: a.yaml -> b.yaml -> a.yaml"),
            "{told}"
        );
        let texts: Vec<(String, String)> =
            (0..10).map(|n| (format!("{n}.yaml"), format!("name: w\n{STEP}{}.yaml}}\n", n + 1))).collect();
        let files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert!(refusal(&directory(&files), "0.yaml").contains("workflows stand more than 8 deep in each other"));
    }
}
