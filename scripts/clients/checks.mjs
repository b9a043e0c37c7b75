// What a TypeScript client must be able to do with a node; the two differ in how they connect and call.

const TOOLS_MIN = 60;
const WAIT_MS = 20_000;
// Whoever stops waiting has its answer within this.
const STOPPED_MS_MAX = 5_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function require(holds, what) {
  if (!holds) throw new Error(JSON.stringify(what)?.slice(0, 300));
}

/// `client`: sleeper, tools(), call(tool, arguments, {timeout, signal, onprogress}).
export async function run(client) {
  const checks = { list, call, errors, cancel, timeout, progress };
  for (const [name, check] of Object.entries(checks)) {
    let said;
    try {
      said = { check: name, ok: true, note: (await check(client)) ?? "" };
    } catch (problem) {
      said = { check: name, ok: false, note: String(problem).slice(0, 300) };
    }
    console.log(JSON.stringify(said));
  }
}

async function list(client) {
  const tools = await client.tools();
  require(tools.length >= TOOLS_MIN && tools.includes("p2p_taskqueue_submit"), tools.length);
}

async function call(client) {
  const result = await client.call("p2p_taskqueue_submit", { kind: "noop", wait_ms: WAIT_MS });
  require(!result.isError && result.structuredContent.status === "completed", result);
}

async function errors(client) {
  let result = await client.call("p2p_taskqueue_list_tasks", { limit: "ten" });
  let said = result.structuredContent;
  require(result.isError && said.code === "wrong_argument" && said.field === "limit" && said.fix, result);
  result = await client.call("p2p_taskqueue_get_task", { task_id: "01M7" });
  said = result.structuredContent;
  require(result.isError && said.code && said.fix, result);
}

/// How a wait that is not waited for to its end ends.
async function stopped(client, options) {
  const began = Date.now();
  let problem;
  try {
    await client.call("p2p_taskqueue_wait_task", { task_id: client.sleeper, wait_ms: WAIT_MS }, options);
  } catch (error) {
    problem = error;
  }
  require(problem, "it was answered");
  // The connection is well, and so is the task.
  const result = await client.call("p2p_taskqueue_get_task", { task_id: client.sleeper });
  require(!result.isError && result.structuredContent.task.state === "running", result);
  require(Date.now() - began < STOPPED_MS_MAX, "it took as long as the wait");
  return problem.constructor.name;
}

async function cancel(client) {
  const controller = new AbortController();
  const stopping = stopped(client, { signal: controller.signal });
  await sleep(500);
  controller.abort("not wanted any more");
  return stopping;
}

async function timeout(client) {
  return stopped(client, { timeout: 500 });
}

async function progress(client) {
  const told = [];
  const options = { onprogress: (progress) => told.push(progress) };
  const result = await client.call("p2p_taskqueue_wait_task", { task_id: client.sleeper, wait_ms: 5_000 }, options);
  const said = result.structuredContent;
  require(!result.isError && said.done === false && said.next, result);
  require(told.length > 0 && told[0].progress > 0 && told[0].message.includes("running"), told);
}
