//! Every bound of a node, in one place, with the unit in the name.

/// Lifetime of a lease that nobody renews.
pub const LEASE_TTL_MS: u64 = 10_000;
/// The same at a worker that is no node: an agent thinks between two calls.
pub const OUTSIDE_LEASE_TTL_MS: u64 = 60_000;
/// Workers that are no nodes and said what they can run, and leases that one of them holds.
pub const OUTSIDE_WORKERS_MAX: usize = 1_024;
pub const OUTSIDE_HELD_MAX: u32 = 64;
/// What somebody writes beside a decision about an approval, and approvals that one page lists.
pub const DECISION_COMMENT_BYTES_MAX: usize = 1_000;
pub const APPROVALS_LISTED_MAX: usize = 100;
/// Calls of one caller that wait for an approval; with as many, it tries again so much later.
pub const HELD_CALLS_MAX: usize = 100;
pub const HELD_CALLS_RETRY_MS: u64 = 60_000;
/// Ids whose namespaces one question asks for.
pub const NAMESPACES_ASKED_MAX: usize = 1_024;
/// A node's cache.
pub const CACHE_ENTRIES_MAX: u64 = 10_000;
pub const CACHE_BYTES_MAX: u64 = 16 * 1024 * 1024;
pub const CACHE_KEY_BYTES_MAX: usize = 512;
pub const CACHE_VALUE_BYTES_MAX: usize = 64 * 1024;
/// A worker renews each lease this often.
pub const LEASE_RENEW_EVERY_MS: u64 = LEASE_TTL_MS / 3;
/// A worker ends its lease this much before the home does: 5 % of the TTL covers the drift of two clocks.
pub const LEASE_WORKER_MARGIN_MS: u64 = LEASE_TTL_MS / 20;
/// What execution may take beyond a task's timeout before its lease is no longer renewed.
pub const LEASE_GRACE_MS: u64 = 10_000;
/// So long a worker that started anew has to bring an outcome of its life before, once it was heard of.
pub const REBORN_REPORT_MS: u64 = 30_000;
/// A worker sends its standing credit anew this often, so that a grant never answers an old one.
pub const CREDIT_REFRESH_MS: u64 = LEASE_TTL_MS / 4;
/// A home answers no credit older than this: the grant would arrive after the worker's end of it.
pub const CREDIT_AGE_MAX_MS: u64 = LEASE_TTL_MS / 2;
/// What a link between two nodes is taken to do: a local network's latency, and a fast wide-area one's bytes.
pub const PEER_LATENCY_US: u64 = 1_000;
pub const PEER_BYTES_PER_S: u64 = 32 * 1024 * 1024;
/// A task that was ready for so long goes to an idle node, whatever must be brought there.
pub const IDLE_BESIDE_MS_MAX: u64 = 1_000;
/// How long the preferred peer of a task is waited for, before anyone eligible gets it.
pub const PREFERENCE_WAIT_MS: u64 = 50;
/// An unstarted lease that another worker's credit could run is recalled after this.
pub const RECALL_AFTER_MS: u64 = 1_000;
/// A home's tick: deadlines are met at most this much late.
pub const TICK_MS: u64 = 100;
/// A home in which nothing moves looks at its clocks this often.
pub const TICK_IDLE_MS_MAX: u64 = 1_000;
/// What is only counted is written at most this often.
pub const TALLY_EVERY_MS: u64 = 1_000;
/// A tick that comes this much late extends all leases by the delay.
pub const STALL_MS: u64 = 500;
/// A worker that released a task is skipped for it: doubling from the first to the second.
pub const RELEASE_SKIP_FIRST_MS: u64 = 1_000;
pub const RELEASE_SKIP_MAX_MS: u64 = 60_000;
/// How long a lease is renewed after the attempt's end, while its outcome and blobs go up.
pub const LEASE_UPLOAD_MS_MAX: u64 = 24 * 3_600_000;
/// Unstarted ends, recall and drain aside, that make a task dead.
pub const FALSE_STARTS_MAX: u32 = 16;

/// Queues of ready tasks that are kept while they are empty: one per namespace and requirement shape.
pub const READY_QUEUES_KEPT_MAX: usize = 1_024;
/// Namespaces whose share of grants is remembered while they have nothing to grant.
pub const NAMESPACE_ACCOUNTS_MAX: usize = 1_024;
/// Names that one table of a node's configuration may set something for.
pub const QUEUE_SETTINGS_MAX: usize = 1_024;
/// Weight of a namespace against those of weight 1.
pub const NAMESPACE_WEIGHT_MAX: u32 = 1_000;
/// Leases that one concurrency key may have at a time.
pub const CONCURRENCY_MAX: u32 = 1_000_000;
/// Starts per period of a rate key, and the fastest rate's interval is a microsecond.
pub const RATE_COUNT_MAX: u32 = 1_000_000;
/// Permits that a limiter home lends to one home at a time.
pub const PERMITS_LENT_MAX: u64 = 10_000;
/// Keys of which a home lends or borrows permits.
pub const PERMIT_KEYS_MAX: usize = 4_096;
/// Lifetime of permits that nobody asks for again, and how much earlier the borrower ends them.
pub const PERMIT_TTL_MS: u64 = LEASE_TTL_MS;
pub const PERMIT_MARGIN_MS: u64 = LEASE_WORKER_MARGIN_MS;
/// A home that holds or wants permits says so this often.
pub const PERMIT_RENEW_EVERY_MS: u64 = PERMIT_TTL_MS / 3;
/// After this it asks again without an answer, and at most so often when it wants more.
pub const PERMIT_RETRY_MS: u64 = 1_000;
pub const PERMIT_ASK_EVERY_MS: u64 = TICK_MS;
/// How long it has a permit for which no worker has a slot, while another home waits for it.
pub const PERMIT_IDLE_MS_MAX: u64 = IDLE_BESIDE_MS_MAX / 2;

/// Tasks or outcomes in one message between peers.
pub const BATCH_LEN_MAX: usize = 256;
/// Bytes after which a message between peers takes no further task or outcome.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long an ended task or workflow is kept, and one that is dead, unless configured otherwise; at least and at most.
pub const RETENTION_TERMINAL_MS: u64 = 7 * 86_400_000;
pub const RETENTION_DEAD_MS: u64 = 30 * 86_400_000;
pub const RETENTION_MS_MIN: u64 = OPERATION_TTL_MS;
/// An ended workflow that a running one still needs is looked at again after so long.
pub const RETENTION_NEEDED_MS: u64 = 60_000;
pub const RETENTION_MS_MAX: u64 = 365 * 86_400_000;
/// Bytes of the tasks that one home keeps, unless configured otherwise.
pub const RETENTION_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
/// What a task takes beside its values.
pub const TASK_BYTES_MIN: usize = 512;
/// Tasks that one tick lets go.
pub const PRUNE_LEN_MAX: usize = 1_000;
/// What an overloaded home asks its callers to wait, at least and at most.
pub const RETRY_AFTER_MS_MIN: u64 = 100;
pub const RETRY_AFTER_MS_MAX: u64 = 60_000;
/// Namespaces that one home holds back.
pub const PAUSED_NAMESPACES_MAX: usize = 1_024;
/// Tasks and workflows that one record of a clear cancels.
pub const CLEAR_LEN_MAX: usize = 100_000;
/// Specs in one submission.
pub const SUBMIT_LEN_MAX: usize = 10_000;
/// Tasks or steps of a submission of which its rehearsal tells.
pub const REHEARSED_TASKS_MAX: usize = 50;
/// Tasks of one home that are not terminal.
pub const TASKS_LIVE_MAX: usize = 1_000_000;
/// Workflows of one home that are not terminal.
pub const WORKFLOWS_LIVE_MAX: usize = 10_000;
/// Schedules of one home, and the newest runs of one that it keeps in view.
pub const SCHEDULES_MAX: usize = 1_000;
pub const SCHEDULE_RUNS_KEPT_MAX: usize = 100;
/// Missed times that a schedule may catch up.
pub const SCHEDULE_CATCH_UP_MAX: u32 = 100;
/// How much later than its time a run may be drawn to start.
pub const SCHEDULE_JITTER_MS_MAX: u64 = 3_600_000;
/// A time that a home gets to within this is not missed: it outlasts a restart and the shortest alarm of the clock.
pub const SCHEDULE_LATE_MS_MAX: u64 = 2 * CLOCK_AGREES_MS;
/// Times of one schedule that one tick looks at.
pub const SCHEDULE_WALK_MAX: usize = 1_000;
/// Wall and monotonic clock may part by this much within the time below: more is a jump.
pub const CLOCK_JUMP_MS: u64 = 60_000;
/// After a jump they must agree for so long.
pub const CLOCK_AGREES_MS: u64 = 60_000;
/// Steps of one workflow.
pub const WORKFLOW_STEPS_MAX: usize = 10_000;
/// Retries of one workflow.
pub const WORKFLOW_RETRIES_MAX: usize = 1_000;
/// The condition of one step.
pub const CONDITION_BYTES_MAX: usize = 4 * 1024;
/// Tasks and workflows that one running task may submit as its children, and tasks that submitted each other.
pub const CHILDREN_MAX: usize = 10_000;
pub const PARENTS_MAX: usize = 16;
/// Workflows in workflows.
pub const WORKFLOW_DEPTH_MAX: usize = 8;
/// Items that one `for_each` may expand to.
pub const FOR_EACH_ITEMS_MAX: usize = 100_000;
/// Tasks of one `for_each` that exist at a time: the others wait as items.
pub const FOR_EACH_WINDOW_LEN_MAX: usize = 10_000;
/// Bytes of the inputs and commands that one step expands to.
pub const BINDING_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Problems that one refused document lists.
pub const SPEC_ERRORS_MAX: usize = 50;
/// A workflow or task file, in bytes, and the values that it may hold, aliases expanded.
pub const SPEC_BYTES_MAX: usize = 4 * 1024 * 1024;
pub const SPEC_NODES_MAX: usize = 200_000;
/// Files of one task, and their bytes together.
pub const TASK_FILES_MAX: usize = 1_000;
pub const TASK_FILES_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The path of one of them, in bytes.
pub const PATH_BYTES_MAX: usize = 1_024;
/// The command of a process and its arguments.
pub const RUN_ARGUMENTS_MAX: usize = 1_000;
/// The same in bytes: what a kernel takes for certain.
pub const RUN_BYTES_MAX: usize = 120 * 1024;
/// Parameters, and outputs, of one workflow.
pub const WORKFLOW_VALUES_MAX: usize = 1_000;
/// The end of the year 9999: later times have no RFC 3339 form.
pub const WALL_MS_MAX: u64 = 253_402_300_799_999;
/// Labels of one task or workflow.
pub const LABELS_MAX: usize = 64;
/// Execution of one attempt.
pub const TASK_TIMEOUT_MS_MAX: u64 = 7 * 86_400_000;
/// Attempts of one task.
pub const RETRY_ATTEMPTS_MAX: u32 = 1_000;
/// Nested brackets in any expression or document.
pub const DEPTH_MAX: usize = 64;
/// Contexts of a home, and what they hold together; values of one, what they hold, what it takes beside them; and for how
/// long a context lasts at most. A checkpoint holds all of them.
pub const CONTEXTS_MAX: usize = 1_024;
pub const CONTEXTS_BYTES_MAX: usize = 2 * 1024 * 1024;
pub const CONTEXT_LEN_MAX: usize = 64;
pub const CONTEXT_BYTES_MAX: usize = 64 * 1024;
pub const CONTEXT_OWN_BYTES: usize = 256;
pub const CONTEXT_TTL_MS_MAX: u64 = 30 * 86_400_000;
/// Sums of what owners used: one for each owner and hour; and for how long they are kept. A checkpoint holds all of them.
pub const USAGE_LEN_MAX: usize = 100_000;
pub const USAGE_KEPT_MS: u64 = 8 * 86_400_000;
/// Remembered answers of operations, and for how long.
pub const OPERATIONS_MAX: usize = 100_000;
pub const OPERATION_TTL_MS: u64 = 600_000;
pub const RETRY_FACTOR_MAX: f64 = 100.0;
pub const RETRY_DELAY_MS_MAX: u64 = 7 * 86_400_000;
/// Error codes, and exit codes, that a retry policy may list.
pub const RETRY_CODES_LEN_MAX: usize = 64;
/// How long an idempotency key names its task: unless the task says so, at least and at most. While an operation is
/// remembered, so is its key.
pub const IDEMPOTENCY_TTL_MS: u64 = 86_400_000;
pub const IDEMPOTENCY_TTL_MS_MIN: u64 = OPERATION_TTL_MS;
pub const IDEMPOTENCY_TTL_MS_MAX: u64 = 30 * 86_400_000;
/// Idempotency keys that one home keeps, and how often it looks for expired ones.
pub const IDEMPOTENCY_KEYS_MAX: usize = 1_000_000;
pub const KEYS_FORGET_EVERY_MS: u64 = 60_000;
/// Errors of earlier attempts that a task keeps.
pub const ERRORS_KEPT_MAX: usize = 3;
/// Clients that wait for one home at a time, and the longest that one waits.
pub const WAITERS_MAX: usize = 10_000;
pub const WAIT_MAX_MS: u64 = 30_000;
/// Rows of one listing.
pub const LIST_LEN_MAX: usize = 1_000;

/// JSON of a value that stands inline in a record.
pub const PAYLOAD_INLINE_BYTES_MAX: usize = 64 * 1024;
/// One blob.
pub const BLOB_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// One piece of a blob in a message.
pub const BLOB_CHUNK_BYTES_MAX: usize = 512 * 1024;
/// The end of an attempt's log that its outcome carries.
pub const LOG_TAIL_BYTES_MAX: usize = 8 * 1024;
/// What an attempt leaves for the next one, as JSON.
pub const CHECKPOINT_BYTES_MAX: usize = PAYLOAD_INLINE_BYTES_MAX;
/// What an attempt says of itself goes to its home at most this often.
pub const PROGRESS_EVERY_MS: u64 = 1_000;
pub const PROGRESS_MESSAGE_BYTES_MAX: usize = 1_024;
/// One line that an attempt writes about itself.
pub const PROGRESS_LINE_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX + 8 * 1024;
/// How long a worker tells a home that an attempt is gone, if nobody answers.
pub const STOP_REPORT_MS_MAX: u64 = 60_000;
/// What one answer of a stream carries: little enough that nothing waits long behind it.
pub const STREAM_PIECE_LEN_MAX: u32 = 1_024;
pub const STREAM_PIECE_BYTES_MAX: u32 = 32 * 1024;
/// How long a reader of a stream waits for more before it is told that there is nothing yet.
pub const STREAM_WAIT_MS_MAX: u64 = 4_000;
/// Readers of streams that one node answers at a time: its clients, each peer, and all together. A lane has four times as
/// many places as one peer's, so that renewals find one.
pub const STREAM_READERS_MAX: usize = 64;
pub const STREAMS_READERS_MAX: usize = 4 * STREAM_READERS_MAX;
/// What a worker keeps of what one attempt said, of all, and of how many that have ended.
pub const ATTEMPT_STREAM_BYTES_MAX: usize = 1024 * 1024;
pub const ATTEMPT_STREAMS_BYTES_MAX: usize = 32 * 1024 * 1024;
pub const ATTEMPT_STREAMS_ENDED_MAX: usize = 1_024;
/// What a record in memory takes beside its text.
pub const STREAM_RECORD_BYTES: usize = 64;
/// Records of the log that are read at a time for those who follow it.
pub const EVENTS_READ_LEN_MAX: usize = 16;
/// Tasks that one event names, and what it says of each.
pub const EVENT_SUBJECTS_MAX: usize = 100;
pub const EVENT_SAYS_BYTES_MAX: usize = 200;
/// An error message.
pub const ERROR_BYTES_MAX: usize = 4 * 1024;
/// A frame on the control socket, between peers, and between a node and its device process.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A workflow's view, less what holds it in its frame.
pub const WORKFLOW_VIEW_BYTES_MAX: usize = FRAME_BYTES_MAX - 64 * 1024;
/// A frame from a peer that is not admitted yet.
pub const HELLO_BYTES_MAX: usize = 4 * 1024;
/// MessagePack values in one frame, nested ones included: a decoded frame takes little more memory than this many strings.
pub const FRAME_ITEMS_MAX: usize = 1 << 20;
/// Names, keys and labels.
pub const NAME_BYTES_MAX: usize = 256;
/// A capability expression, as written and in its canonical form.
pub const REQUIREMENT_BYTES_MAX: usize = 2 * 1024;
/// Labels, kinds, models, commands, tags and GPUs that one node offers, together.
pub const CAPABILITIES_LEN_MAX: usize = 1_024;

/// Requests under way to one peer (past 100 streams request-response refuses, past 512 yamux closes the connection).
pub const PEER_REQUESTS_MAX: usize = 64;
/// How long a request between peers may take.
pub const PEER_REQUEST_TIMEOUT_MS: u64 = 10_000;
/// Members of a mesh that one node keeps.
pub const PEERS_MAX: usize = 1_024;
/// Prefixes that one descent into a peer's clock may open: ten times what 1,024 honest ledgers need.
pub const DESCENT_PREFIXES_MAX: usize = 4 * PEERS_MAX;
/// How long a ticket may be good for.
pub const TICKET_LIFE_MS_MAX: u64 = 400 * 86_400_000;
/// How far the clock of who verifies a ticket may be behind that of who issued it.
pub const TICKET_SKEW_MS: u64 = 60_000;
/// The text of a ticket, with what a file or a person puts around it.
pub const TICKET_BYTES_MAX: usize = 512;
/// Revocations that a node keeps: tickets and peers.
pub const REVOCATIONS_MAX: usize = 1_024;
/// Connections on the control socket.
pub const SESSIONS_MAX: usize = 256;
/// Connections on the HTTP listener.
pub const HTTP_CONNECTIONS_MAX: usize = 1_024;
/// Sessions over HTTP, of clients whose version of the protocol has some.
pub const HTTP_SESSIONS_MAX: usize = 256;
/// The body of an HTTP request.
pub const HTTP_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The bodies of HTTP requests that are under way, together.
pub const HTTP_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bearer tokens of a node.
pub const HTTP_TOKENS_MAX: usize = 1_024;
/// Callers by the tokens of an issuer that a node remembers: who was not seen for the longest time is forgotten.
pub const HTTP_JWT_CALLERS_MAX: usize = 4_096;
/// Requests under way on one control connection.
pub const SESSION_REQUESTS_MAX: usize = 256;
/// Messages that wait in one actor's mailbox, admitted before the cast.
pub const MAILBOX_LEN_MAX: usize = 4_096;
/// Requests of all peers that are answered beside the actors at a time.
pub const PEER_ERRANDS_MAX: usize = 8_192;
/// Notices that wait for room on their way to peers. What is beyond gets lost, as a notice may.
pub const PEER_NOTICES_MAX: usize = 8_192;

/// What is measured of a peer: the length of a window, how many are kept (a day), and round trips of one for percentiles.
pub const METRICS_WINDOW_MS: u64 = 15 * 60_000;
pub const METRICS_WINDOWS_MAX: usize = 96;
pub const METRICS_SAMPLES_MAX: usize = 128;
/// Points of a peer's offences that are a ban, and how fast they wear off.
pub const OFFENCE_POINTS_MAX: u64 = 100;
pub const OFFENCE_POINT_WEARS_OFF_MS: u64 = 1_000;
/// The first ban, doubling with each to the longest; after so long without one it is the first again.
pub const BAN_FIRST_MS: u64 = 10_000;
pub const BAN_MS_MAX: u64 = 3_600_000;
pub const BAN_FORGOTTEN_MS: u64 = 86_400_000;
/// Peers of which offences are remembered.
pub const OFFENDERS_MAX: usize = 2 * PEERS_MAX;
/// Heartbeats and clock exchanges of one peer that are answered, a second and at once: a busy mesh has tens. Ten times as
/// much is a flood.
pub const GOSSIP_PER_S: u64 = 50;
pub const GOSSIP_BURST: u64 = 100;
pub const GOSSIP_FLOOD_FACTOR: u64 = 10;

/// How long a peer has to answer a heartbeat.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Rounds of heartbeats: a quiet node sends one in two of them, and who has something to tell up to so many in each. So what
/// an idle node does depends on no mesh's size.
pub const PROBE_EVERY_MS: u64 = HEARTBEAT_MS / 4;
pub const PROBES_MAX: usize = 8;
/// A peer that was silent for so long is suspected, then held dead, then forgotten with its capabilities and credits.
/// Rounds of probes lie between, so that all know of a death within five seconds.
pub const PEER_SUSPECT_MS: u64 = 2_000;
pub const PEER_DEAD_MS: u64 = 4_000;
/// What a suspect has at least, to contradict.
pub const PEER_REFUTE_MS: u64 = 2_000;
pub const HEARTBEAT_TIMEOUT_MS: u64 = 15_000;

/// Places in a device's queue that its worker may fill: two batches.
pub const DEVICE_BATCH_LEN_MAX: usize = 32;
pub const DEVICE_SLOTS: u32 = 2 * DEVICE_BATCH_LEN_MAX as u32;
/// A text waits this long for others to share a batch with.
pub const DEVICE_BATCH_WAIT_MS: u64 = 5;
/// Texts of one batch: with its envelope it fits a frame, and tokenising it takes under a second.
pub const DEVICE_BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Texts that wait for one device.
pub const DEVICE_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests under way to one device process: one that runs, one that is read, and a little to load.
pub const DEVICE_REQUESTS_MAX: usize = 4;
/// How long a device process may take to be ready, to load a model, and to embed a batch.
pub const DEVICE_START_TIMEOUT_MS: u64 = 30_000;
pub const DEVICE_LOAD_TIMEOUT_MS: u64 = 120_000;
pub const DEVICE_EMBED_TIMEOUT_MS: u64 = 120_000;
/// How long it may take to end by itself.
pub const DEVICE_STOP_TIMEOUT_MS: u64 = 2_000;
/// Models that one node finds in its model directories.
pub const MODELS_MAX: usize = 256;
/// Tokens of one text that a model sees; what is beyond is cut.
pub const DEVICE_TOKENS_MAX: u32 = 256;
/// Models that one device process holds.
pub const DEVICE_MODELS_MAX: usize = 8;
/// Files of a model: its weights, its tokenizer, its other JSON.
pub const DEVICE_WEIGHT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
pub const DEVICE_TOKENIZER_BYTES_MAX: u64 = 64 * 1024 * 1024;
pub const DEVICE_MODEL_JSON_BYTES_MAX: u64 = 1024 * 1024;
/// Any one size that a model's configuration names.
pub const DEVICE_MODEL_DIMENSION_MAX: u32 = 1 << 20;
/// Leases that a worker takes beyond its free slots, when its tasks are short, and outcomes that wait for an answer: more
/// costs memory and cache, and nothing goes faster.
pub const PREFETCH_MAX: u32 = 256;
/// Leases beyond its slots that a worker holds at most, from all homes: credits to several may be answered at once.
pub const LEASES_QUEUED_MAX: u32 = 8 * PREFETCH_MAX;
/// Prefetch covers this much work.
pub const PREFETCH_HORIZON_MS: u64 = 100;
/// An outcome that is not acknowledged after this goes to disk.
pub const SPOOL_AFTER_MS: u64 = 50;
/// A worker that holds nothing looks at its credits this often.
pub const WORKER_TICK_IDLE_MS: u64 = 500;
/// Outcomes that wait for a home, in bytes; full, the worker takes no new lease.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;
pub const SPOOL_AGE_MAX_MS: u64 = 7 * 86_400_000;

/// What one process may print before it is killed, unless the node's configuration says otherwise.
pub const PROCESS_OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Address space of one process, unless the node's configuration says otherwise.
pub const PROCESS_MEMORY_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Files that stand in the directory a process starts in.
pub const PROCESS_FILES_LEN_MAX: usize = 1_000;
/// How long a node that was told to end lets its tasks finish, unless its configuration says otherwise.
pub const DRAIN_DEADLINE_MS: u64 = 30_000;
/// Time between SIGTERM and SIGKILL for a process that is cancelled or ran out of time.
pub const PROCESS_STOP_GRACE_MS: u64 = 5_000;
/// Texts of one embedding task, and the bytes of its input.
pub const EMBED_TEXTS_LEN_MAX: usize = 4_096;
pub const EMBED_INPUT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A group commit waits for at most this many records.
pub const COMMIT_BATCH_LEN_MAX: usize = 4_096;
pub const COMMIT_BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One record of the log.
pub const LOG_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Records that wait for the log's writer.
pub const LOG_QUEUE_LEN_MAX: usize = 65_536;
pub const LOG_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A log is made shorter when at least this much of it may go.
pub const COMPACTION_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// What one tick of a compaction looks at, and carries forward: a few milliseconds' work.
pub const COMPACTION_SCAN_LEN_MAX: usize = 8_192;
pub const COMPACTION_PIECE_LEN_MAX: usize = 1_024;
pub const COMPACTION_PIECE_BYTES_MAX: usize = 1024 * 1024;
/// Pieces that its last tick may write at once, for what moved meanwhile.
pub const COMPACTION_LAST_PIECES: usize = 4;
/// After its start, a home waits so long for what its known peers hold of its ledger, before it grants or commits.
pub const COMPARE_MS_MAX: u64 = 2_000;
/// Keys that a cluster had before: a configuration that names an older one is not known any more.
pub const KEYS_REPLACED_MAX: usize = 16;
/// How long a replaced cluster key may go on admitting.
pub const KEY_OVERLAP_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Handovers of a ledger that its home shows: who has not heard of it since more moves than that must forget it first.
pub const HANDOVERS_MAX: usize = 8;
/// Room on the disk for what follows from accepted work, when there is no other; less on a small disk.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// With less on its disk a worker takes no task that needs room there; twice as much must be free before it does again.
pub const WORK_ROOM_BYTES_MIN: u64 = 4 * 1024 * 1024;
pub const WORK_ROOM_LOOK_EVERY_MS: u64 = 2_000;
/// Class `async`: fsynced at the latest after this.
pub const ASYNC_FSYNC_MS: u64 = 100;

const _: () =
    assert!(LEASE_RENEW_EVERY_MS * 2 < LEASE_TTL_MS - LEASE_WORKER_MARGIN_MS, "one lost renewal must not end a lease");
const _: () =
    assert!(CREDIT_REFRESH_MS < CREDIT_AGE_MAX_MS, "a standing credit must not go stale between two sendings");
const _: () = assert!(LOG_BODY_BYTES_MAX <= LOG_QUEUE_BYTES_MAX, "the largest record must fit an empty queue");
const _: () = assert!(PEER_SUSPECT_MS < PEER_DEAD_MS && PEER_DEAD_MS < HEARTBEAT_TIMEOUT_MS);
const _: () = assert!(BLOB_CHUNK_BYTES_MAX * 2 < FRAME_BYTES_MAX, "a chunk and its envelope must fit a frame");
const _: () = assert!(PROCESS_STOP_GRACE_MS < LEASE_GRACE_MS, "a process out of time must be gone before its lease");

/// MCP servers that a node mounts, the bytes of a server's name, and the calls of one that run at a time: unless configured, and at most.
pub const MOUNTS_MAX: usize = 32;
pub const MOUNT_NAME_BYTES_MAX: usize = 32;
pub const MOUNT_CALLS: usize = 16;
pub const MOUNT_CALLS_MAX: usize = 256;
/// Tools that a node keeps of one mounted server, the bytes of one tool, and of all of them.
pub const MOUNT_TOOLS_MAX: usize = 1_000;
pub const MOUNT_TOOL_BYTES_MAX: usize = 64 * 1024;
pub const MOUNT_TOOLS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A line that a mounted server writes; a longer one ends it.
pub const MOUNT_LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// At what pace a node reads the output of its mounted servers, how many bytes more a line counts, and how far it may run ahead.
pub const MOUNT_READ_BYTES_PER_S: usize = 4 * 1024 * 1024;
pub const MOUNT_LINE_COST_BYTES: usize = 1_024;
pub const MOUNT_READ_AHEAD_MS: u64 = 250;
/// Between two looks at what a mounted server offers.
pub const MOUNT_LOOK_EVERY_MS: u64 = 1_000;
/// The bytes of an answer that a node passes on, how long a call may take, and how long its end is kept for who began it.
pub const MOUNT_RESULT_BYTES_MAX: usize = 256 * 1024;
pub const MOUNT_CALL_MS_MAX: u64 = 30 * 60_000;
pub const MOUNT_ENDED_KEPT_MS: u64 = 120_000;
/// Calls of one mounted server whose ends are kept.
pub const MOUNT_ENDED_MAX: usize = 256;
/// How long a mounted server may take to start, and to tell its tools.
pub const MOUNT_START_MS_MAX: u64 = 60_000;
/// Between two starts of a mounted server that ends: the first time, and at most.
pub const MOUNT_BACK_OFF_MS: u64 = 100;
pub const MOUNT_BACK_OFF_MS_MAX: u64 = 30_000;

/// Calls of tools that nodes make at one for clients of theirs: of one node and of all at a time, the bytes of one's
/// arguments, and how long one may take.
pub const PEER_CALLS_PER_PEER_MAX: usize = 32;
pub const PEER_CALLS_MAX: usize = 128;
pub const PEER_CALL_ARGUMENTS_BYTES_MAX: usize = 256 * 1024;
pub const PEER_CALL_MS_MAX: u64 = 27_000;
/// How long the end of such a call is kept for who began it, and of how many.
pub const PEER_CALL_ENDED_KEPT_MS: u64 = 10_000;
pub const PEER_CALLS_ENDED_MAX: usize = 256;
