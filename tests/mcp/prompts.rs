//! Prompts: as they stand, and that each call in them can be made.

use std::path::PathBuf;

use magpie::mcp::catalog::Catalog;
use magpie::mcp::prompts::{self, PROMPTS};
use magpie::mcp::server::listed_prompt;
use magpie::mcp::surface::SurfaceOptions;
use serde_json::{Map, Value, json};

use crate::rig::{Rig, TestCaller, call, dispatcher, ok, without_node};

const TASK: &str = "01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq";

/// A value for every argument, and for those that must be there only.
fn given(name: &str) -> [Map<String, Value>; 2] {
    let value = |argument: &str| match argument {
        "task_id" => TASK,
        "address" => "/ip4/10.0.0.5/tcp/4001",
        "files" => "notes/a.txt, b.txt",
        "goal" => "count its lines",
        "model" => "minilm",
        other => panic!("no value for {other}"),
    };
    let arguments = prompts::find(name).unwrap().arguments;
    let given = |all: bool| {
        let named = arguments.iter().filter(|argument| all || argument.required);
        named.map(|argument| (argument.name.to_owned(), value(argument.name).into())).collect()
    };
    [given(true), given(false)]
}

/// `UPDATE_GOLDEN=1` writes the file anew.
#[tokio::test]
async fn the_prompts_are_those_of_the_golden_file() {
    let dispatcher = without_node(&SurfaceOptions::default());
    let shown = PROMPTS.iter().map(|prompt| {
        let texts = given(prompt.name).map(|given| {
            let written = dispatcher.prompt(prompt.name, &given, &TestCaller::default()).unwrap();
            written.text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        json!({"listed": listed_prompt(prompt), "texts": texts})
    });
    let text = format!("{}\n", serde_json::to_string_pretty(&shown.collect::<Vec<_>>()).unwrap());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/golden/prompts.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{} is not what the prompts say: UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[tokio::test]
async fn every_call_of_a_prompt_has_the_arguments_that_its_tool_takes() {
    let dispatcher = without_node(&SurfaceOptions::default());
    for prompt in &PROMPTS {
        for given in given(prompt.name) {
            let calls = prompts::calls(prompt.name, &given).unwrap();
            assert!(calls.len() >= 3, "{} teaches {} calls", prompt.name, calls.len());
            for (tool, arguments) in calls {
                let found = Catalog::shared().find(tool).unwrap_or_else(|| panic!("{}: {tool}", prompt.name));
                assert_eq!(found.entry.name, tool, "{}: by its own name", prompt.name);
                let outcome = call(&dispatcher, tool, filled(arguments)).await;
                assert_eq!(outcome.value["code"], "node_unreachable", "{}: {tool}: {}", prompt.name, outcome.value);
            }
        }
    }
}

/// What a reader puts in where a prompt has a word in capitals.
fn filled(arguments: Value) -> Value {
    serde_json::from_str(&arguments.to_string().replace("WORKFLOW_ID", TASK)).unwrap()
}

#[tokio::test]
async fn each_client_reads_the_call_that_it_can_make() {
    let written = |options: &SurfaceOptions| {
        let given = serde_json::from_value(json!({"task_id": TASK})).unwrap();
        without_node(options).prompt("diagnose_task", &given, &TestCaller::default()).unwrap().text
    };
    let manager = written(&SurfaceOptions::default());
    assert!(manager.contains(r#"tools_dispatch_read {"arguments":{"detail":"full","task_id":""#), "{manager}");
    let flat = written(&SurfaceOptions { flat: true, ..Default::default() });
    assert!(flat.contains("  p2p_taskqueue_resubmit {") && !flat.contains("tools_dispatch"), "{flat}");
    let reading = written(&SurfaceOptions { read_only: true, ..Default::default() });
    assert!(reading.contains("(not for you here: p2p_taskqueue_resubmit changes something"), "{reading}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workflow_over_files_runs_as_it_is_taught() {
    let rig = Rig::start().await;
    let dispatcher = dispatcher(&rig.socket(), &SurfaceOptions::default());
    let [all, _] = given("run_workflow_over_files");
    let calls = prompts::calls("run_workflow_over_files", &all).unwrap();
    let (_, document) = calls.into_iter().find(|(tool, _)| *tool == "submit_p2p_workflow").unwrap();
    let submitted = ok(&dispatcher, "submit_p2p_workflow", document).await;
    let wait = json!({"workflow_id": submitted["workflow_id"], "wait_ms": 25_000});
    let done = ok(&dispatcher, "get_workflow_status", wait).await;
    // "TEXT OF a.txt" has three words.
    assert_eq!(done["outputs"], json!({"result": {"files": 2, "words": 6}}), "{done}");
}
