//! What every entry of the catalogue keeps to, and the files that show each change of it in review.

use std::collections::BTreeSet;
use std::path::PathBuf;

use magpie::mcp::catalog::{Catalog, Category, Tool, search};
use magpie::mcp::server::listed;
use magpie::mcp::surface::{Surface, SurfaceOptions};
use serde_json::{Value, json};

use crate::rig::{ok, without_node};

/// `UPDATE_GOLDEN=1 cargo test --test mcp` writes the files anew.
fn golden(name: &str, found: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/golden").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(found).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{} is not what the catalogue says: UPDATE_GOLDEN=1 writes it anew", path.display());
}

fn list(toolset: &str, read_only: bool) -> Vec<Value> {
    let options = SurfaceOptions { toolset: vec![toolset.to_owned()], read_only, flat: false };
    let surface = Surface::new(Catalog::shared(), &options).unwrap();
    listed(&surface).iter().map(|tool| serde_json::to_value(tool).unwrap()).collect()
}

fn bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_string(value).unwrap().len()
}

#[test]
fn the_lists_are_those_of_the_golden_files() {
    golden("manager.json", &json!(list("manager", false)));
    golden("manager-read-only.json", &json!(list("manager", true)));
    golden("core.json", &json!(list("core", false)));
    golden("full.json", &json!(list("full", false)));
    golden("toolset-workflow.json", &json!(list("workflow", false)));
}

#[test]
fn the_whole_schemas_are_those_of_the_golden_file() {
    let tools = Catalog::shared().tools().iter();
    let whole = tools.map(|tool| {
        json!({
            "name": tool.entry.name,
            "scope": tool.entry.scope,
            "aliases": tool.entry.aliases,
            "also": tool.entry.also,
            "input_schema": tool.input_schema,
            "output_schema": tool.output_schema,
        })
    });
    golden("catalogue.json", &whole.collect());
}

/// The table of docs/mcp.md, between its two marks.
#[test]
fn the_documentation_has_every_tool() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/mcp.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- tools -->\n").expect("the first mark");
    let (_, after) = rest.split_once("<!-- end of tools -->").expect("the second mark");
    let rows = Catalog::shared().tools().iter().map(|tool| {
        let entry = tool.entry;
        let arguments: Vec<&str> = tool.arguments().collect();
        let (scope, category) = (json!(entry.scope), entry.category.name());
        let scope = scope.as_str().unwrap();
        let names: Vec<String> = [entry.name].iter().chain(entry.aliases).map(|name| format!("`{name}`")).collect();
        let (names, arguments) = (names.join(", "), arguments.join(", "));
        format!("| {names} | {category} | {scope} | {} | {arguments} |\n", entry.description)
    });
    let table = format!(
        "| tool, and its other names | toolset | scope | what it does | arguments |\n|---|---|---|---|---|\n{}",
        rows.collect::<String>()
    );
    let wanted = format!("{before}<!-- tools -->\n{table}<!-- end of tools -->{after}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(&path, wanted).unwrap();
    }
    assert!(text == wanted, "docs/mcp.md does not say what the catalogue says: UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn definitions_take_little_of_a_models_context() {
    for (surface, tools_max, bytes_max) in [("manager", 5, 4_096), ("core", 20, 16_384), ("full", 500, 61_440)] {
        let tools = list(surface, false);
        let bytes = bytes(&tools);
        println!("{surface}: {} tools, {bytes} bytes", tools.len());
        assert!(tools.len() <= tools_max, "{surface} lists {} tools", tools.len());
        assert!(bytes <= bytes_max, "the list of {surface} has {bytes} bytes");
    }
    let all: Vec<Value> = list("manager", false).into_iter().chain(list("full", false)).collect();
    assert_eq!(all.len(), Catalog::shared().tools().len());
    let mean = bytes(&all) / all.len();
    let largest = all.iter().max_by_key(bytes).unwrap();
    println!("mean {mean} bytes, largest {} with {}", largest["name"], bytes(largest));
    assert!(mean <= 650, "the mean tool has {mean} bytes");
    assert!(bytes(largest) <= 2_048, "{} has {} bytes", largest["name"], bytes(largest));
}

#[test]
fn every_tool_says_what_it_is_when_to_use_it_and_what_it_changes() {
    for tool in Catalog::shared().tools() {
        let entry = tool.entry;
        assert!(entry.name.len() <= 40 && entry.title.len() <= 40, "{}", entry.name);
        let words = entry.description.split_whitespace().count();
        assert!((8..=50).contains(&words), "{}: {words} words", entry.name);
        assert!(!(entry.hints.read_only && entry.hints.destructive), "{}", entry.name);
        if entry.category != Category::Manager {
            assert!(entry.writes() == tool.argument("idempotency_key").is_some(), "{}", entry.name);
            assert!(!entry.keywords.is_empty(), "{}", entry.name);
        }
    }
    for tool in list("full", false).into_iter().chain(list("manager", false)) {
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(tool["annotations"][hint].is_boolean(), "{}: {hint}", tool["name"]);
        }
        assert_eq!((&tool["inputSchema"]["type"], &tool["outputSchema"]["type"]), (&json!("object"), &json!("object")));
    }
}

#[test]
fn names_and_aliases_are_told_apart() {
    let mut seen = BTreeSet::new();
    for tool in Catalog::shared().tools() {
        for name in tool.entry.aliases.iter().chain([&tool.entry.name]) {
            assert!(seen.insert(*name), "{name} is there twice");
        }
        assert!(tool.entry.rare.iter().all(|name| tool.argument(name).is_some()), "{}", tool.entry.name);
        for (other, own) in tool.entry.also {
            assert!(tool.argument(other).is_none(), "{}: {other} is an argument", tool.entry.name);
            assert!(own.is_empty() || tool.argument(own).is_some(), "{}: {own}", tool.entry.name);
        }
    }
}

#[test]
fn every_example_has_the_arguments_of_its_schema() {
    for tool in Catalog::shared().tools() {
        let example = tool.example();
        let required = tool.input_schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let missing: Vec<&Value> = required.filter(|name| !example.contains_key(name.as_str().unwrap())).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", tool.entry.name);
        assert!(example.keys().all(|name| tool.argument(name).is_some()), "{}", tool.entry.name);
    }
}

#[test]
fn schemas_use_only_what_every_client_knows() {
    fn check(at: &str, schema: &Value) {
        let Some(fields) = schema.as_object() else { panic!("{at}: {schema} is no object") };
        for (key, value) in fields {
            match key.as_str() {
                "type" => assert!(value.is_string(), "{at}: {value}"),
                "description" | "enum" | "const" | "default" | "minimum" | "maximum" | "required" => {}
                "properties" => {
                    value.as_object().unwrap().iter().for_each(|(name, field)| check(&format!("{at}/{name}"), field))
                }
                "items" => check(&format!("{at}[]"), value),
                "additionalProperties" => check(at, value),
                "anyOf" | "oneOf" => value.as_array().unwrap().iter().for_each(|branch| check(at, branch)),
                other => panic!("{at}: {other}: {value}"),
            }
        }
    }
    for tool in Catalog::shared().tools() {
        check(tool.entry.name, &json!(tool.input_schema));
        check(tool.entry.name, &json!(tool.output_schema));
    }
}

/// Every name of a tool that the seeds have, by what it begins with.
const SEEDS: [(&str, &str); 16] = [
    (
        "",
        "tools_list_categories tools_list_tools tools_get_schema tools_dispatch tools_dispatch_read \
     list_categories list_tools get_schema dispatch list_peers bootstrap_network \
     get_p2p_network_status rebalance_p2p_tasks",
    ),
    (
        "",
        "run_inference run_enhanced_inference search_models get_model_recommendations \
     check_model_compatibility detect_hardware test_hardware_capability get_optimal_configuration \
     list_endpoints test_endpoint register_endpoint remove_endpoint cli_inference",
    ),
    (
        "",
        "gh_list_repos gh_workflow_runs gh_cache_stats gh_provision_runner get_dashboard_metrics \
     get_model_usage_stats get_system_status get_service_health get_recent_logs search_logs",
    ),
    (
        "",
        "p2p_scheduler_status p2p_submit_task p2p_get_next_task p2p_mark_task_complete \
     p2p_check_workflow_tags p2p_get_merkle_clock p2p_update_peer_state submit_p2p_workflow \
     list_workflows get_workflow_status cancel_workflow",
    ),
    (
        "p2p_taskqueue_",
        "status submit claim_next call_tool list_tasks get_task wait_task complete_task heartbeat \
     cache_get cache_set submit_docker_hub submit_docker_github cancel get_result update_task \
     task_status resubmit priority worker_stats discover_peers announce shutdown",
    ),
    ("task_", "submit status cancel list priority retry result"),
    ("queue_", "stats pause resume clear"),
    ("worker_", "register unregister status"),
    ("workflow_", "submit status cancel list dependencies result"),
    ("p2p_workflow_", "submit status cancel list get_dag coordinate"),
    ("peer_", "discover connect disconnect list metrics"),
    ("p2p_peer_", "register discover bootstrap cleanup get_public_ip list"),
    ("p2p_bootstrap_", "from_file from_env from_public list"),
    (
        "ipfs_",
        "add cat ls pin_add pin_rm pin_ls block_put block_get block_stat dag_put dag_get dht_findpeer \
     dht_findprovs",
    ),
    ("cache_", "get put invalidate stats"),
    ("state_", "query update"),
];

#[test]
fn every_name_of_the_seeds_is_served() {
    let names =
        SEEDS.iter().flat_map(|(begins, ends)| ends.split_whitespace().map(move |end| format!("{begins}{end}")));
    let names: Vec<String> = names.collect();
    let missing: Vec<&String> = names.iter().filter(|name| Catalog::shared().find(name).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(names.len(), 130);
}

/// What people ask for, and the tool that does it.
const QUESTIONS: [(&str, &str); 90] = [
    ("what waits for my approval", "approval_list"),
    ("approve a step", "approval_decide"),
    ("reject the held call", "approval_decide"),
    ("call a tool on another node", "p2p_taskqueue_call_tool"),
    ("invoke a tool at a peer", "p2p_taskqueue_call_tool"),
    ("which external mcp servers are mounted and is one down", "mount_list"),
    ("wait for the call of a mounted tool that still runs", "mount_wait"),
    ("cancel the call of a mounted server's tool", "mount_cancel"),
    ("run a python script", "p2p_taskqueue_submit"),
    ("submit a job", "p2p_taskqueue_submit"),
    ("embed some text with a model", "p2p_taskqueue_submit"),
    ("execute a command on another machine", "p2p_taskqueue_submit"),
    ("run several steps that depend on each other", "submit_p2p_workflow"),
    ("start a pipeline", "submit_p2p_workflow"),
    ("submit workflow", "submit_p2p_workflow"),
    ("distributed inference over many inputs", "submit_p2p_workflow"),
    ("is my workflow finished", "get_workflow_status"),
    ("workflow progress", "get_workflow_status"),
    ("outputs of the workflow", "get_workflow_status"),
    ("stop the workflow", "cancel_workflow"),
    ("abort a task", "p2p_taskqueue_cancel"),
    ("kill running job", "p2p_taskqueue_cancel"),
    ("wait until the task is done", "p2p_taskqueue_wait_task"),
    ("poll for a result", "p2p_taskqueue_wait_task"),
    ("why did my task fail", "p2p_taskqueue_get_task"),
    ("show the output of a task", "p2p_taskqueue_get_task"),
    ("which tasks failed", "p2p_taskqueue_list_tasks"),
    ("list queued tasks", "p2p_taskqueue_list_tasks"),
    ("how busy is the queue", "p2p_taskqueue_status"),
    ("node health", "p2p_taskqueue_status"),
    ("which nodes are in the cluster", "list_peers"),
    ("vector clock root", "p2p_get_merkle_clock"),
    ("retry a failed task", "p2p_taskqueue_resubmit"),
    ("run the dead task once more", "p2p_taskqueue_resubmit"),
    ("make a task more urgent", "p2p_taskqueue_priority"),
    ("change priority", "p2p_taskqueue_priority"),
    ("which workflows are running", "list_workflows"),
    ("mermaid diagram of the workflow", "workflow_dependencies"),
    ("critical path", "workflow_dependencies"),
    ("queue totals", "queue_stats"),
    ("how many slots are free", "worker_status"),
    ("is a worker draining", "worker_status"),
    ("find new peers over mdns", "peer_discover"),
    ("which peer is slow", "peer_metrics"),
    ("latency between nodes", "peer_metrics"),
    ("run a model on this sentence", "run_inference"),
    ("get an embedding of a sentence", "run_inference"),
    ("which models are available", "search_models"),
    ("recommend a model for embeddings", "get_model_recommendations"),
    ("can this model run on cpu", "check_model_compatibility"),
    ("how much memory does the machine have", "detect_hardware"),
    ("is there a gpu", "detect_hardware"),
    ("benchmark the gpu", "test_hardware_capability"),
    ("fastest machine for a model", "get_optimal_configuration"),
    ("list inference endpoints", "list_endpoints"),
    ("test an endpoint", "test_endpoint"),
    ("error rate of tasks", "get_dashboard_metrics"),
    ("tokens used by models", "get_model_usage_stats"),
    ("is the system healthy", "get_system_status"),
    ("is the ledger service ok", "get_service_health"),
    ("recent errors in the log", "get_recent_logs"),
    ("search the logs for refused", "search_logs"),
    ("store a file by content id", "ipfs_add"),
    ("read a blob by its cid", "ipfs_cat"),
    ("connect to a peer at an address", "peer_connect"),
    ("disconnect from a peer", "peer_disconnect"),
    ("join a cluster", "bootstrap_network"),
    ("am I cut off from the network", "get_p2p_network_status"),
    ("public ip of this node", "p2p_peer_get_public_ip"),
    ("rebalance the load", "rebalance_p2p_tasks"),
    ("pause the queue", "queue_pause"),
    ("resume the queue", "queue_resume"),
    ("cancel all waiting tasks", "queue_clear"),
    ("drain this node", "p2p_taskqueue_shutdown"),
    ("which nodes run my workflow", "p2p_workflow_coordinate"),
    ("run a workflow every night", "schedule_create"),
    ("which schedules are there", "schedule_list"),
    ("when does my schedule run next", "schedule_get"),
    ("pause a schedule", "schedule_pause"),
    ("delete a schedule", "schedule_remove"),
    ("claim a task to work on", "p2p_taskqueue_claim_next"),
    ("report the result of my claimed task", "p2p_taskqueue_complete_task"),
    ("renew my lease", "p2p_taskqueue_heartbeat"),
    ("report progress of the task I took", "p2p_taskqueue_update_task"),
    ("register as a worker", "worker_register"),
    ("remember a value in the cache", "cache_put"),
    ("cache hit rate", "cache_stats"),
    ("remember the plan for my next session", "state_update"),
    ("what did my last session leave", "state_query"),
    ("does this tag bypass github", "p2p_check_workflow_tags"),
];

#[tokio::test]
async fn a_search_finds_the_tool_among_the_first_three() {
    let dispatcher = without_node(&SurfaceOptions::default());
    let (mut misses, mut first) = (Vec::new(), 0);
    for (question, wanted) in QUESTIONS {
        let found = ok(&dispatcher, "tools_list_tools", json!({"query": question, "detail": "name"})).await;
        let names: Vec<&str> =
            found["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
        first += usize::from(names.first() == Some(&wanted));
        if !names.iter().take(3).any(|name| *name == wanted) {
            misses.push(format!("{question}: {names:?}"));
        }
    }
    println!("{first} of {} first, {} not among three", QUESTIONS.len(), misses.len());
    assert!(misses.len() * 20 <= QUESTIONS.len(), "{misses:#?}");
    assert!(first * 3 >= QUESTIONS.len() * 2, "{first} first");
}

#[test]
fn a_word_in_the_name_outweighs_one_in_the_description() {
    let tools = ["p2p_taskqueue_wait_task", "cancel_workflow", "list_peers"];
    let tools: Vec<&Tool> = tools.into_iter().map(|name| Catalog::shared().find(name).unwrap()).collect();
    let ranked = |query: &str| search::ranked(&tools, query).iter().map(|tool| tool.entry.name).collect::<Vec<_>>();
    assert_eq!(ranked("cancel").first(), Some(&"cancel_workflow"));
    assert!(ranked("the of zebra").is_empty());
}

#[tokio::test]
async fn the_way_to_any_tool_is_short() {
    let dispatcher = without_node(&SurfaceOptions::default());
    let manager = bytes(&list("manager", false));
    for tool in Catalog::shared().tools().iter().filter(|tool| tool.entry.category != Category::Manager) {
        let found = ok(&dispatcher, "tools_list_tools", json!({"category": tool.entry.category.name()})).await;
        let schema = ok(&dispatcher, "tools_get_schema", json!({"names": [tool.entry.name]})).await;
        assert_eq!(schema["tools"][0]["input_schema"], json!(tool.input_schema));
        let total = manager + bytes(&found) + bytes(&schema);
        assert!(total <= 12_000, "{}: {total} bytes", tool.entry.name);
    }
}
