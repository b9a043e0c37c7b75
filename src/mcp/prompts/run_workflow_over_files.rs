//! Running one program over many files.

use serde_json::{Value, json};

use super::{ArgumentEntry, Given, Part, PromptEntry, text};
use crate::mcp::completion::Source;

pub const PROMPT: PromptEntry = PromptEntry {
    name: "run_workflow_over_files",
    title: "Run a workflow over files",
    description: "Submits a workflow with one step per file and a step that joins the results, and follows it to its end.",
    arguments: &[
        ArgumentEntry {
            name: "files",
            description: "names of the files, with commas between them",
            required: true,
            source: Source::Free,
        },
        ArgumentEntry {
            name: "goal",
            description: "what is to be done with each file, in words; without it its words are counted",
            required: false,
            source: Source::Free,
        },
    ],
    write,
};

/// Files that the example names; others go the same way.
const FILES_SHOWN_MAX: usize = 20;

const EACH: &str = "import json, sys\n\
    name = json.load(sys.stdin)['input']\n\
    words = len(open(name).read().split())\n\
    print(json.dumps({'file': name, 'words': words}))\n";
const JOIN: &str = "import json, sys\n\
    results = json.load(sys.stdin)['needs']['each']\n\
    print(json.dumps({'files': len(results), 'words': sum(result['words'] for result in results)}))\n";

fn write(given: &Given) -> Vec<Part> {
    let names: Vec<&str> = given.text("files").unwrap_or_default().split(',').map(base_name).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).take(FILES_SHOWN_MAX).collect();
    let goal = given.text("goal").unwrap_or("count its words");
    vec![
        text(format!(
            "Run a workflow over files: {}. For each file: {goal}.\n\
             \n1. Read the files here: a node cannot read paths of this machine. Their texts go along with the call, at most 8 \
             MB in all; put larger ones with `nodectl blob put`, and write {{path, cid, bytes}} in place of {{path, text}}.\n\
             2. Commands must be allowed on a node (`commands` in the answer):",
            names.join(", ")
        )),
        Part::Call("list_peers", json!({"include_capabilities": true})),
        text(
            "3. Submit this, with each TEXT OF replaced by the file's text, and each.py and join.py changed to do what is \
             asked for. A step reads {input, needs} as JSON on stdin and prints one JSON value; for_each makes one task per \
             item, on whichever nodes are free. Repeated \
             with its key it submits nothing twice; take another key for other files:",
        ),
        Part::Call("submit_p2p_workflow", document(&names)),
        text("4. Follow it: make the call in `next` of the answer until there is none. It is this one:"),
        Part::Call("get_workflow_status", json!({"workflow_id": "WORKFLOW_ID", "wait_ms": 20_000})),
        text(
            "   The resource workflow://WORKFLOW_ID tells of changes to those who subscribe to it, workflow://WORKFLOW_ID/graph \
             draws it.\n\
             5. `outputs` has the result. Of a step that failed the error is in `steps`; when its cause is gone, the operator \
             runs `nodectl workflow retry WORKFLOW_ID`, which runs the failed items again and no others.",
        ),
    ]
}

/// The name of a file without its folders.
fn base_name(path: &str) -> &str {
    path.trim().rsplit(['/', '\\']).next().unwrap_or_default()
}

fn document(names: &[&str]) -> Value {
    let mut files = vec![json!({"path": "each.py", "text": EACH})];
    files.extend(names.iter().map(|name| json!({"path": name, "text": format!("TEXT OF {name}")})));
    json!({
        "name": "over-files",
        "input": {"files": names},
        "steps": [
            {"name": "each", "for_each": "${input.files}", "kind": "process", "run": ["python3", "each.py"],
             "input": "${item}", "files": files},
            {"name": "join", "needs": ["each"], "kind": "process", "run": ["python3", "join.py"],
             "files": [{"path": "join.py", "text": JOIN}]},
        ],
        "outputs": {"result": "${steps.join.output}"},
        "idempotency_key": "over-files-1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_without_their_folders_and_so_many_at_most() {
        let names: Vec<&str> = "a.txt, /home/me/b.txt,c\\d.txt,".split(',').map(base_name).collect();
        assert_eq!(names, ["a.txt", "b.txt", "d.txt", ""]);
        let many = (0..100).map(|n| format!("f{n}")).collect::<Vec<_>>().join(",");
        let given = Given(serde_json::from_value(json!({"files": many})).unwrap());
        let Part::Call(_, document) = &write(&given)[3] else { panic!("the call to submit") };
        assert_eq!(document["input"]["files"].as_array().map(Vec::len), Some(FILES_SHOWN_MAX));
    }
}
