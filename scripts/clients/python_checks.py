"""What a Python client must be able to do with a node; the two Python clients differ in `connect` and `call` alone."""

import asyncio
import json
import time

TOOLS_MIN = 60
WAIT_MS = 20_000
# Whoever stops waiting has its answer within this.
STOPPED_S_MAX = 5


async def run(client):
    """Makes every check; says one line of JSON for each."""
    checks = {"list": lists, "call": calls, "errors": errors, "cancel": cancels, "timeout": times_out, "progress": progresses}
    for name, check in checks.items():
        try:
            note = await asyncio.wait_for(check(client), 30)
            say(name, True, note)
        except Exception as problem:  # Whatever it is, the table shows it.
            say(name, False, f"{type(problem).__name__}: {problem}")


def say(check, ok, note):
    print(json.dumps({"check": check, "ok": ok, "note": str(note or "")[:300]}), flush=True)


def require(holds, what):
    if not holds:
        raise AssertionError(what)


async def lists(client):
    tools = await client.tools()
    require(len(tools) >= TOOLS_MIN, f"{len(tools)} tools")
    require("p2p_taskqueue_submit" in tools, sorted(tools)[:5])


async def calls(client):
    failed, value = await client.call("p2p_taskqueue_submit", {"kind": "noop", "wait_ms": WAIT_MS})
    require(not failed and value["status"] == "completed", value)


async def errors(client):
    failed, value = await client.call("p2p_taskqueue_list_tasks", {"limit": "ten"})
    require(failed and value["code"] == "wrong_argument" and value["field"] == "limit" and value["fix"], value)
    failed, value = await client.call("p2p_taskqueue_get_task", {"task_id": "01M7"})
    require(failed and value["code"] and value["fix"], value)


async def cancels(client):
    waiting = asyncio.create_task(client.call("p2p_taskqueue_wait_task", {"task_id": client.sleeper, "wait_ms": WAIT_MS}))
    await asyncio.sleep(0.5)
    began = time.monotonic()
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("it was answered")
    await still_runs(client, began)


async def times_out(client):
    began = time.monotonic()
    try:
        value = await client.call("p2p_taskqueue_wait_task", {"task_id": client.sleeper, "wait_ms": WAIT_MS}, timeout=0.5)
    except Exception as problem:
        note = type(problem).__name__
    else:
        raise AssertionError(value)
    await still_runs(client, began)
    return note


async def still_runs(client, began):
    """The connection is well, and so is the task."""
    failed, value = await client.call("p2p_taskqueue_get_task", {"task_id": client.sleeper})
    require(not failed and value["task"]["state"] == "running", value)
    require(time.monotonic() - began < STOPPED_S_MAX, "it took as long as the wait")


async def progresses(client):
    told = []

    async def progress(done, total=None, message=None):
        told.append((done, total, message))

    arguments = {"task_id": client.sleeper, "wait_ms": 5_000}
    failed, value = await client.call("p2p_taskqueue_wait_task", arguments, progress=progress)
    require(not failed and value["done"] is False and value["next"], value)
    require(told and told[0][0] > 0 and "running" in told[0][2], told)
