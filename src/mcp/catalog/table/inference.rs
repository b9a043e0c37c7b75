//! Running a model.

use crate::mcp::catalog::entry::{Action, Category, Hints, Reach, Scope, ToolEntry};
use crate::mcp::tools::inference::RunInference;

pub(super) const TOOLS: &[ToolEntry] = &[ToolEntry {
    name: "run_inference",
    category: Category::Inference,
    title: "Run a model",
    description: "Runs a model of the mesh over a text or a list of texts and gives the result, or the task to wait for. For many inputs use submit_p2p_workflow.",
    hints: Hints::SUBMITS,
    scope: Scope::Submit,
    reach: Reach::Namespace,
    aliases: &["run_enhanced_inference"],
    keywords: &[
        "embed",
        "embedding",
        "embeddings",
        "vector",
        "sentence",
        "predict",
        "generate",
        "bert",
        "local",
        "distributed",
        "api",
        "openai",
        "ollama",
    ],
    also: &[("model_name", "model"), ("inputs", "input"), ("prompt", "input")],
    rare: &["max_length", "task", "priority", "backend"],
    example: r#"{"model": "minilm", "input": "Hello, world!"}"#,
    rest: "ask with p2p_taskqueue_get_task, detail: full",
    action: Action::Run(&RunInference),
}];
