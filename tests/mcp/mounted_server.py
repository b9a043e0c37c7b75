#!/usr/bin/env python3
"""An MCP server on standard input and output with 370 tools: 365 that say what they were asked, and five that do something.

Of its arguments only the first is read: a folder that keeps what must outlive a life of the server."""

import json
import os
import pathlib
import sys
import threading

VERBS = {
    "list": "Lists all {noun}, newest first.",
    "create": "Creates one of the {noun} from a name and fields.",
    "delete": "Removes one of the {noun} for good.",
    "update": "Changes fields of one of the {noun}.",
    "search": "Finds {noun} by words.",
}
NOUNS = """accounts alerts apartments archives articles backups badges balances banners batches bills bookings branches budgets
bundles calendars campaigns carts certificates channels charts claims clusters collections comments commits companies
connectors contacts contracts coupons credentials customers dashboards datasets deployments devices diagrams discounts
documents domains drafts emails employees environments estimates exams experiments exports filters folders forecasts
forms funnels galleries gateways glossaries goals grants images incidents indexes invoices journals keywords labels
leads ledgers licenses locations manuals markets meetings""".split()
SPECIAL = {
    "echo": ("Says what it was told.", True, {"text": {"type": "string"}}),
    "slow": ("Takes its time, and tells how far it is.", False, {"seconds": {"type": "number"}}),
    "fail": ("Fails in words.", True, {}),
    "die": ("Ends the server.", False, {}),
    "learn": ("Makes the server offer one more tool.", False, {}),
}

state = pathlib.Path(sys.argv[1])
writing = threading.Lock()
cancelled = {}
learnt = []


def say(message):
    with writing:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def tool(name, description, read_only, properties):
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": description, "inputSchema": schema, "annotations": {"readOnlyHint": read_only}}


def tools():
    plain = [
        tool(f"{verb}_{noun}", text.format(noun=noun), verb in ("list", "search"), {"name": {"type": "string"}})
        for noun in NOUNS
        for verb, text in VERBS.items()
    ]
    return plain + [tool(name, *said) for name, said in SPECIAL.items()] + learnt


def note(line):
    with (state / "notes").open("a", encoding="utf-8") as notes:
        notes.write(line + "\n")


def call(request):
    params = request["params"]
    name, arguments = params["name"], params.get("arguments") or {}
    if name == "fail":
        return {"content": [{"type": "text", "text": "the moon is not in reach"}], "isError": True}
    if name == "die":
        sys.stderr.write("I was told to die\n")
        sys.stderr.flush()
        os._exit(3)
    if name == "learn":
        learnt.append(tool("juggle_oranges", "Juggles oranges.", True, {}))
        say({"method": "notifications/tools/list_changed"})
    if name == "slow":
        token, gone = params.get("_meta", {}).get("progressToken"), cancelled[request["id"]]
        steps = int(float(arguments.get("seconds", 1)) * 20)
        for step in range(steps):
            if gone.wait(0.05):
                note("cancelled")
                return None
            progress = {"progressToken": token, "progress": step + 1, "total": steps, "message": "still at it"}
            say({"method": "notifications/progress", "params": progress})
        note("slept")
    said = {"tool": name, "arguments": arguments}
    return {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said}


def answer_call(request):
    result = call(request)
    if result is not None:
        say({"id": request["id"], "result": result})


def answer(request):
    method = request["method"]
    if method == "initialize":
        version = request["params"]["protocolVersion"]
        capabilities = {"tools": {"listChanged": True}}
        say({"id": request["id"], "result": {
            "protocolVersion": version, "capabilities": capabilities, "serverInfo": {"name": "fixture", "version": "1"}}})
    elif method == "tools/list":
        listed, at = tools(), int((request.get("params") or {}).get("cursor") or 0)
        page = {"tools": listed[at:at + 100]}
        if at + 100 < len(listed):
            page["nextCursor"] = str(at + 100)
        say({"id": request["id"], "result": page})
    elif method == "tools/call":
        cancelled[request["id"]] = threading.Event()
        threading.Thread(target=answer_call, args=(request,), daemon=True).start()
    elif method == "notifications/cancelled":
        if (gone := cancelled.get(request["params"].get("requestId"))) is not None:
            gone.set()
    elif "id" in request:
        say({"id": request["id"], "error": {"code": -32601, "message": f"no method {method}"}})


def main():
    starts = state / "starts"
    starts.write_text(str(int(starts.read_text() or 0) + 1 if starts.exists() else 1), encoding="utf-8")
    if (state / "broken").exists():
        sys.exit("the licence is over")
    for line in sys.stdin:
        answer(json.loads(line))


main()
