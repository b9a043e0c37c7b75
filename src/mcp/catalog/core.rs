//! The tools of the surface `core`: what an agent does with tasks and workflows all day, and the way to all others.

/// At most 20; each is the name of an entry of the table.
pub const CORE: [&str; 20] = [
    "tools_list_tools",
    "tools_get_schema",
    "tools_dispatch",
    "tools_dispatch_read",
    "p2p_taskqueue_status",
    "p2p_taskqueue_submit",
    "p2p_taskqueue_get_task",
    "p2p_taskqueue_wait_task",
    "p2p_taskqueue_list_tasks",
    "p2p_taskqueue_cancel",
    "p2p_taskqueue_resubmit",
    "p2p_taskqueue_priority",
    "list_peers",
    "queue_stats",
    "worker_status",
    "submit_p2p_workflow",
    "get_workflow_status",
    "list_workflows",
    "workflow_dependencies",
    "cancel_workflow",
];
