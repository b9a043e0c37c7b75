//! Having a model on a node.

use serde_json::json;

use super::{ArgumentEntry, Given, Part, PromptEntry, text};
use crate::mcp::completion::Source;

pub const PROMPT: PromptEntry = PromptEntry {
    name: "add_model",
    title: "Add a model",
    description: "Brings a model onto a node of the mesh, and checks that it runs there.",
    arguments: &[ArgumentEntry {
        name: "model",
        description: "its name, as minilm",
        required: true,
        source: Source::Models,
    }],
    write,
};

fn write(given: &Given) -> Vec<Part> {
    let model = given.text("model").unwrap_or_default();
    vec![
        text(format!("Have the model {model} on a node of the mesh. See first whether it is there already, and runs:")),
        Part::Call("search_models", json!({"query": model})),
        Part::Call("check_model_compatibility", json!({"model": model})),
        text("See which machine has the memory for it:"),
        Part::Call("detect_hardware", json!({"include_peers": true})),
        text(format!(
            "\nNo call puts weights onto a machine: they come from whoever answers for it. Tell the operator of that node:\n\
             - A folder named {model} with model.safetensors, config.json and tokenizer.json, of a BERT-like encoder of \
             sentences such as all-MiniLM-L6-v2; other architectures are refused as model_unsupported.\n\
             - In the node's configuration, then checked with `node --check-config FILE`:\n\
             [inference]\n\
             models = [\"FOLDER THAT HOLDS {model}\"]\n\
             load = [\"{model}\"]\n\
             - `nodectl worker drain --wait`, so that nothing is interrupted, and a restart of the node."
        )),
        text("\nWhen it is back, see whether its device is ready, or why not:"),
        Part::Call("get_service_health", json!({"services": ["inference"]})),
        Part::Call("search_models", json!({"query": model})),
        text("Then run it once:"),
        Part::Call("run_inference", json!({"model": model, "input": "A sentence to try it with.", "wait_ms": 20_000})),
        text("Say on which machines it runs now, and what did not work."),
    ]
}
