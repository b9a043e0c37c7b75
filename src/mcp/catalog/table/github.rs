//! GitHub.

use crate::mcp::catalog::entry::{Action, Category, Hints, Reach, Scope, ToolEntry};
use crate::mcp::tools::manager::NoInput;
use crate::mcp::tools::unavailable::{OnlyKey, Unavailable};

const WHY: &str = "this version of Magpie asks GitHub for nothing but peers (discovery by issues)";
const FIX: &str = "use the gh command, in a process task where a node allows it";

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "gh_list_repos",
        category: Category::Github,
        title: "List repositories",
        description: "Would list repositories of an owner; this version has no GitHub tools and says so. Run gh in a process task.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &[],
        keywords: &["github", "repository", "organization"],
        also: &[("owner", ""), ("type", ""), ("limit", "")],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&Unavailable::<NoInput>::new(WHY, FIX)),
    },
    ToolEntry {
        name: "gh_workflow_runs",
        category: Category::Github,
        title: "List runs of Actions",
        description: "Would list runs of GitHub Actions; this version has no GitHub tools and says so. For workflows of the mesh: list_workflows.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &["gh_list_workflow_runs"],
        keywords: &["github", "actions", "ci"],
        also: &[("repo", ""), ("workflow", ""), ("status", ""), ("limit", "")],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&Unavailable::<NoInput>::new(WHY, FIX)),
    },
    ToolEntry {
        name: "gh_cache_stats",
        category: Category::Github,
        title: "Show the cache of GitHub calls",
        description: "Would show the cache of GitHub calls; this version has no GitHub tools and says so. Other totals: get_dashboard_metrics.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &["gh_get_cache_stats"],
        keywords: &["github", "hit rate"],
        also: &[],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&Unavailable::<NoInput>::new(WHY, FIX)),
    },
    ToolEntry {
        name: "gh_provision_runner",
        category: Category::Github,
        title: "Provision a runner",
        description: "Would provision a self-hosted runner of GitHub Actions; this version has no GitHub tools and says so. Run one as a process task.",
        hints: Hints::SUBMITS,
        scope: Scope::Admin,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["github", "self-hosted", "actions"],
        also: &[("repo", ""), ("labels", ""), ("count", "")],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&Unavailable::<OnlyKey>::new(WHY, FIX)),
    },
];
