//! What answers inference.

use super::LIST_REST;
use crate::mcp::catalog::entry::{Action, Category, Hints, Scope, ToolEntry};
use crate::mcp::tools::endpoints::{ListEndpoints, TestEndpoint};
use crate::mcp::tools::unavailable::{OnlyKey, Unavailable};

const WHY: &str = "the endpoints of this version are the models that nodes have loaded; others cannot be added";
const FIX: &str = "run the API or the command in a process task, where a node allows it";

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "list_endpoints",
        category: Category::Endpoints,
        title: "List what answers inference",
        description: "Lists each model on each node that has it loaded, as an endpoint. Models alone: search_models.",
        hints: Hints::READS,
        scope: Scope::Read,
        aliases: &[],
        keywords: &["backends", "servers", "local", "distributed", "providers"],
        also: &[],
        rare: &[],
        example: r#"{"type": "local"}"#,
        rest: LIST_REST,
        action: Action::Run(&ListEndpoints),
    },
    ToolEntry {
        name: "test_endpoint",
        category: Category::Endpoints,
        title: "Test an endpoint",
        description: "Runs the model of an endpoint over a text and says whether it worked. To use its result: run_inference.",
        hints: Hints::SUBMITS,
        scope: Scope::Submit,
        aliases: &[],
        keywords: &["ping", "check", "try", "works"],
        also: &[("id", "endpoint_id"), ("test_payload", "payload")],
        rare: &["wait_ms"],
        example: r#"{"endpoint_id": "minilm"}"#,
        rest: "",
        action: Action::Run(&TestEndpoint),
    },
    ToolEntry {
        name: "register_endpoint",
        category: Category::Endpoints,
        title: "Add an endpoint",
        description: "Would add an API or a command as an endpoint; this version has none of them and says so. Run it in a process task.",
        hints: Hints::KEEPS,
        scope: Scope::Admin,
        aliases: &[],
        keywords: &["api", "openai", "anthropic", "ollama", "vllm"],
        also: &[("name", ""), ("type", ""), ("url", ""), ("api_key", ""), ("model", ""), ("endpoint_id", "")],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&Unavailable::<OnlyKey>::new(WHY, FIX)),
    },
    ToolEntry {
        name: "remove_endpoint",
        category: Category::Endpoints,
        title: "Remove an endpoint",
        description: "Would remove an API or a command; this version has none of them and says so. Models go with their node.",
        hints: Hints::ENDS,
        scope: Scope::Admin,
        aliases: &[],
        keywords: &["api", "delete"],
        also: &[("endpoint_id", "")],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&Unavailable::<OnlyKey>::new(WHY, FIX)),
    },
    ToolEntry {
        name: "cli_inference",
        category: Category::Endpoints,
        title: "Ask a command-line assistant",
        description: "Would ask claude, openai, gemini or copilot by their commands; this version has none of them and says so. Run the command in a process task.",
        hints: Hints::SUBMITS,
        scope: Scope::Submit,
        aliases: &[],
        keywords: &["claude", "openai", "gemini", "copilot", "cli", "chat", "prompt"],
        also: &[("provider", ""), ("cli", ""), ("prompt", ""), ("model", ""), ("endpoint_id", "")],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&Unavailable::<OnlyKey>::new(WHY, FIX)),
    },
];
