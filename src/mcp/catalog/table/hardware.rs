//! What the machines have.

use super::LIST_REST;
use crate::mcp::catalog::entry::{Action, Category, Hints, Reach, Scope, ToolEntry};
use crate::mcp::tools::hardware::{DetectHardware, OptimalConfiguration, TestHardware};

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "detect_hardware",
        category: Category::Hardware,
        title: "Show the hardware",
        description: "Shows processors, memory, GPUs and devices of this node, and of all with include_peers. What runs there: worker_status.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &[],
        keywords: &["cpu", "gpu", "cuda", "ram", "vram", "specs", "accelerator", "machine", "arch", "torch"],
        also: &[],
        rare: &[],
        example: r#"{"include_peers": true}"#,
        rest: LIST_REST,
        action: Action::Run(&DetectHardware),
    },
    ToolEntry {
        name: "test_hardware_capability",
        category: Category::Hardware,
        title: "Test hardware",
        description: "Runs a model once on a machine with such hardware and says whether it worked and how long it took; or shows the memory. Without running: detect_hardware.",
        hints: Hints::SUBMITS,
        scope: Scope::Submit,
        reach: Reach::Namespace,
        aliases: &[],
        keywords: &["benchmark", "try", "verify", "cuda", "gpu", "works"],
        also: &[
            ("hardware", "hardware_type"),
            ("accelerator", "hardware_type"),
            ("model_size", ""),
            ("test_level", ""),
        ],
        rare: &["wait_ms"],
        example: r#"{"hardware_type": "cpu"}"#,
        rest: "",
        action: Action::Run(&TestHardware),
    },
    ToolEntry {
        name: "get_optimal_configuration",
        category: Category::Hardware,
        title: "Choose where a model runs best",
        description: "Names the machine to prefer for a model by latency, throughput or memory, and the requires of its tasks. Whether it runs: check_model_compatibility.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &[],
        keywords: &["optimize", "fastest", "placement", "recommend", "settings", "tune"],
        also: &[("model_name", "model")],
        rare: &[],
        example: r#"{"model": "minilm", "optimization_target": "latency"}"#,
        rest: "",
        action: Action::Run(&OptimalConfiguration),
    },
];
