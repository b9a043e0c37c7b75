//! Golden texts: what a person sees who wrote a wrong file.

use std::fs;

use serde_json::json;

use super::*;

const EMBED_BOOKS: &str = r#"name: embed-books
tag: p2p-eligible
steps:
  - name: split
    kind: process
    run: ["python3", "split.py", "books/"]
    files: [split.py, books/]
  - name: embed
    needs: [split]
    for_each: ${steps.split.output.chunks}
    kind: embed
    model: minilm
    input: ${item}
    retry: {max_attempts: 5, initial: 200ms}
  - name: index
    needs: [embed]
    kind: process
    run: ["python3", "index.py"]
    files: [index.py]
outputs:
  index: ${steps.index.output}
"#;

fn refusal(text: &str) -> String {
    SpecFile::parse(Path::new("flow.yaml"), text.to_owned()).unwrap_err().to_string()
}

fn books() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("books")).unwrap();
    for file in ["split.py", "index.py", "books/a.txt", "books/b.txt"] {
        fs::write(directory.path().join(file), file).unwrap();
    }
    fs::write(directory.path().join("flow.yaml"), EMBED_BOOKS).unwrap();
    directory
}

#[test]
fn the_example_of_the_design_is_read_with_its_files() {
    let directory = books();
    let file = SpecFile::read(&directory.path().join("flow.yaml")).unwrap();
    assert_eq!(file.kind, SpecKind::Workflow);
    let paths: Vec<&str> = file.files.iter().map(|file| file.path_in_task.as_str()).collect();
    assert_eq!(paths, ["split.py", "books/a.txt", "books/b.txt", "index.py"]);
    let blob = |file: &LocalFile| {
        let bytes = fs::read(&file.absolute).unwrap();
        BlobRef { cid: ContentId::of(&bytes), bytes: bytes.len() as u64 }
    };
    let submission = file.with_uploaded(blob).unwrap();
    let Spec::Workflow(spec) = &submission.spec else { panic!("a document with steps is a workflow") };
    assert_eq!(spec.steps[0].files.len(), 3);
    assert_eq!(spec.steps[0].files[1].cid, ContentId::of(b"books/a.txt"));
    assert_eq!(spec.steps[1].for_each.as_ref().unwrap().to_source(), "${steps.split.output.chunks}");
    assert_eq!(dag::parse_workflow(&submission.document).as_ref(), Ok(&**spec));
}

#[test]
fn an_unknown_key_is_shown_with_its_line_and_the_nearest_key() {
    let text = "name: w\nsteps:\n  - name: split\n    kind: noop\n  - name: embed\n    kind: noop\n    need: [split]\n";
    let expected = "\
flow.yaml:7: a step has no key \"need\"
  7 |     need: [split]
    = write needs";
    assert_eq!(refusal(text), expected);
}

#[test]
fn a_cycle_is_shown_where_it_closes() {
    let text = "name: w\nsteps:\n  - name: a\n    kind: noop\n    needs: [b]\n  - {name: b, kind: noop, needs: [a]}\n";
    let expected = "\
flow.yaml:6: the steps need each other in a cycle: a -> b -> a
  6 |   - {name: b, kind: noop, needs: [a]}
    = remove a from the needs of b";
    assert_eq!(refusal(text), expected);
}

#[test]
fn a_reference_that_misses_its_step_is_shown_with_what_to_add() {
    let text = "\
name: w
steps:
  - {name: split, kind: noop}
  - name: embed
    kind: embed
    model: minilm
    input:
      text: ${steps.split.output.text}
      unit: ${steps.spilt.output}
";
    let expected = "\
flow.yaml:8: embed reads the output of split and does not need split
  8 |       text: ${steps.split.output.text}
    = add split to needs
flow.yaml:9: there is no step \"spilt\"
  9 |       unit: ${steps.spilt.output}
    = write split";
    assert_eq!(refusal(text), expected);
}

#[test]
fn wrong_types_are_all_shown_in_the_order_of_the_file() {
    let text = "\
name: w
steps:
  - name: a
    kind: process
    run: python3 a.py
    timeout: soon
    retry: {max_attempts: many}
  - kind: noop
    name: 7
";
    let expected = "\
flow.yaml:5: expected a list, found the text \"python3 a.py\"
  5 |     run: python3 a.py
    = write a list: [...]
flow.yaml:6: \"soon\" is not a duration
  6 |     timeout: soon
    = write 200ms, 5s, 10m, 1h or 7d
flow.yaml:7: expected a whole number, found the text \"many\"
  7 |     retry: {max_attempts: many}
    = write a whole number without quotes
flow.yaml:9: expected a text, found the number 7
  9 |     name: 7
    = put it in quotes";
    assert_eq!(refusal(text), expected);
}

#[test]
fn a_tab_in_the_indentation_is_named() {
    let expected = "\
flow.yaml:3: a tab stands in the indentation
  3 |  - name: a
    = indent with spaces";
    assert_eq!(refusal("name: w\nsteps:\n\t- name: a\n"), expected);
}

#[test]
fn a_key_that_is_there_twice_is_shown_with_the_first() {
    let expected = "\
flow.yaml:5: the key \"kind\" is there twice, first on line 4
  5 |     kind: sleep
    = remove one of the two";
    assert_eq!(refusal("name: w\nsteps:\n  - name: a\n    kind: noop\n    kind: sleep\n"), expected);
}

#[test]
fn a_file_that_is_not_there_is_shown_beside_other_problems() {
    let directory = books();
    let path = directory.path().join("flow.yaml");
    let text = EMBED_BOOKS.replace("[split.py, books/]", "[split.py, ../x, bocks/]").replace("minilm", "7");
    let error = SpecFile::parse(&path, text).unwrap_err().to_string();
    let expected = "\
flow.yaml:7: \"../x\" leads out of this file's directory
  7 |     files: [split.py, ../x, bocks/]
    = write a relative path without ..
flow.yaml:7: there is no file \"bocks\"
  7 |     files: [split.py, ../x, bocks/]
    = write a path relative to this file's directory
flow.yaml:12: expected a text, found the number 7
  12 |     model: 7
     = put it in quotes";
    assert_eq!(error.replace(&format!("{}/", directory.path().display()), ""), expected);
}

#[test]
fn a_file_that_cannot_be_read_at_all_is_refused_in_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let write = |bytes: &[u8]| {
        let path = directory.path().join("flow.yaml");
        fs::write(&path, bytes).unwrap();
        let error = SpecFile::read(&path).unwrap_err().to_string();
        error.replace(&format!("{}/", directory.path().display()), "")
    };
    assert_eq!(write(b"a: \xff"), "flow.yaml: byte 4 is not UTF-8\n  = save the file as UTF-8");
    assert!(
        write(&vec![b'#'; limits::SPEC_BYTES_MAX + 1]).starts_with("flow.yaml: the file has more than 4194304 bytes")
    );
    let absent = SpecFile::read(&directory.path().join("absent.yaml")).unwrap_err().to_string();
    assert!(absent.ends_with("absent.yaml: there is no such file\n  = name a workflow or task file"), "{absent}");
    assert!(SpecFile::read(directory.path()).unwrap_err().to_string().contains("the file cannot be read"));
}

#[test]
fn a_document_without_steps_is_a_task_in_yaml_or_json() {
    for (path, text) in [
        ("t.yaml", "kind: sleep\ninput: 1s\n"),
        ("t.json", "{\"kind\": \"sleep\", \"input\": \"1s\"}"),
        ("-", "{\"kind\":\"sleep\",\t\"input\":\"1s\"}"),
    ] {
        let file = SpecFile::parse(Path::new(path), text.to_owned()).unwrap();
        assert_eq!(file.kind, SpecKind::Task);
        let Spec::Task(task) = file.with_uploaded(|_| unreachable!("it names no files")).unwrap().spec else {
            panic!()
        };
        assert_eq!(task.kind.name(), "sleep");
    }
    let error = SpecFile::parse(Path::new("t.json"), "{\n  \"kind\": \"slep\"\n}".to_owned()).unwrap_err().to_string();
    assert_eq!(error, "t.json:2: \"slep\" is not a kind of task\n  2 |   \"kind\": \"slep\"\n    = write sleep");
}

#[test]
fn a_workflow_whose_steps_are_misspelt_is_not_taken_for_a_task() {
    let expected = "\
flow.yaml:1: a workflow has at least one step
  1 | name: w
    = add steps: [{name: ..., kind: ...}]
flow.yaml:2: a workflow has no key \"step\"
  2 | step:
    = write steps";
    assert_eq!(refusal("name: w\nstep:\n  - {name: a, kind: noop}\n"), expected);
}

#[test]
fn inputs_replace_parameters_that_are_there() {
    let mut document = json!({"input": {"texts": "/usr", "count": 1, "deep": null}});
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    set_inputs(&mut document, &[pair("texts", "/srv/my texts"), pair("count", "[1, 2]"), pair("deep", "\"5\"")])
        .unwrap();
    assert_eq!(document["input"], json!({"texts": "/srv/my texts", "count": [1, 2], "deep": "5"}));
    let before = document.clone();
    let error = set_inputs(&mut document, &[pair("count", "7"), pair("text", "x")]).unwrap_err();
    assert_eq!(error.to_string(), "there is no input \"text\"; the file has count, deep, texts");
    assert_eq!(document, before);
    let error = set_inputs(&mut json!({}), &[pair("k", "1")]).unwrap_err();
    assert_eq!(error.to_string(), "there is no input \"k\"; the file has none: add input: {k: DEFAULT}");
    assert_eq!(set_inputs(&mut json!({}), &[]), Ok(()));
}

#[test]
fn a_file_that_two_steps_name_is_uploaded_once() {
    let directory = books();
    let path = directory.path().join("flow.yaml");
    let text = EMBED_BOOKS.replace("files: [index.py]", "files: [index.py, books/a.txt, ./books, books/a.txt]");
    let file = SpecFile::parse(&path, text).unwrap();
    assert_eq!(file.files.len(), 4);
    let blob = |file: &LocalFile| BlobRef { cid: ContentId::of(b""), bytes: file.bytes };
    let Spec::Workflow(spec) = file.with_uploaded(blob).unwrap().spec else { panic!("it has steps") };
    let paths: Vec<&str> = spec.steps[2].files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["index.py", "books/a.txt", "books/b.txt"]);
}
