//! The models of the mesh.

use super::LIST_REST;
use crate::mcp::catalog::entry::{Action, Category, Hints, Reach, Scope, ToolEntry};
use crate::mcp::tools::models::{CheckModel, RecommendModels, SearchModels};

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "search_models",
        category: Category::Models,
        title: "Find models",
        description: "Lists the models that nodes have loaded, by part of their name. For one that suits a task: get_model_recommendations.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &[],
        keywords: &["available", "loaded", "list", "which", "weights", "catalog"],
        also: &[],
        rare: &["filter"],
        example: r#"{"query": "minilm"}"#,
        rest: LIST_REST,
        action: Action::Run(&SearchModels),
    },
    ToolEntry {
        name: "get_model_recommendations",
        category: Category::Models,
        title: "Recommend a model",
        description: "Names loaded models that suit a task and hardware, those on most machines first. By name: search_models.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &[],
        keywords: &["suggest", "best", "choose", "suited"],
        also: &[("constraints", "")],
        rare: &[],
        example: r#"{"task": "embed"}"#,
        rest: LIST_REST,
        action: Action::Run(&RecommendModels),
    },
    ToolEntry {
        name: "check_model_compatibility",
        category: Category::Models,
        title: "Check whether a model can run",
        description: "Says whether a task with this model runs now, where, and why not. What hardware there is: detect_hardware.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &[],
        keywords: &["supported", "fits", "compatible", "works with", "runnable"],
        also: &[("model_name", "model"), ("check_performance", "")],
        rare: &[],
        example: r#"{"model": "minilm", "hardware": "cpu"}"#,
        rest: "",
        action: Action::Run(&CheckModel),
    },
];
