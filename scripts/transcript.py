#!/usr/bin/env python3
"""What an agent does, call by call: it submits the workflow of the demo over MCP at one node, goes, and another client reads
the result at another node.

    scripts/transcript.py [--texts FOLDER] [--max-passages N] [--write FILE]

Speaks HTTP itself, as 2026-07-28 has it, to three nodes with inference; nothing but Python is needed. Ends with 0 only if the
answers came from the other node. `--write docs/mcp/transcript.md` keeps what it printed.
"""

import argparse
import http.client
import json
import sys
import time
from pathlib import Path

from mesh import Mesh, MeshError, wait_until

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
ERA = "2026-07-28"
HOME, OTHER = 1, 3
RUN_S_MAX = 600
CALL_S_MAX = 40
# Of a text in what is printed; the calls themselves are whole.
SHOWN_CHARS = 160
LIST_SHOWN = 3
TEXTS = ["GPL-3", "LGPL-3", "BSD", "Artistic"]
QUESTIONS = [
    "May I sell copies of the program for money?",
    "Must I publish the source code when I distribute a modified version?",
    "What happens to my rights when I break the terms of the license?",
]
RETRY = {"max_attempts": 8, "initial": "200ms"}


def main():
    arguments = parse_arguments()
    lines = []

    def say(text=""):
        print(text, flush=True)
        lines.append(text)

    with Mesh(3) as mesh:
        for number in range(1, 4):
            serve_http(mesh, number)
        require_inference(mesh)
        answers = converse(mesh, arguments, say)
    if len(answers) != len(QUESTIONS) or not all(answer["found"] for answer in answers):
        raise MeshError(f"there are not {len(QUESTIONS)} answers with passages: {answers}")
    if arguments.write:
        arguments.write.write_text(page("\n".join(lines)))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, default=Path("/usr/share/common-licenses"))
    parser.add_argument("--max-passages", type=int, default=120, metavar="N")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    lacking = [name for name in TEXTS if not (arguments.texts / name).is_file()]
    if lacking:
        parser.error(f"{arguments.texts} has no {', '.join(lacking)}")
    return arguments


def serve_http(mesh, number):
    """Starts a node of the mesh again, which now serves MCP on a free port of this machine."""
    with (mesh.node_folder(number) / "node.toml").open("a", encoding="utf-8") as config:
        config.write('\n[http]\nlisten = "127.0.0.1:0"\n')
    mesh.kill(number)
    mesh.restart(number)


def require_inference(mesh):
    for number in range(1, 4):
        def ready():
            return any(device["state"] == "ready" for device in mesh.ask(number, "status")["devices"])
        wait_until(f"node {number} offers no inference: run `make build`", 60, ready, every_s=0.2)


class Client:
    """One connection to one node; no session, since this era has none."""

    def __init__(self, mesh, number, name, say):
        self.say, self.name = say, name
        address = mesh.ask(number, "status")["http"].removeprefix("http://")
        self.connection = http.client.HTTPConnection(address, timeout=CALL_S_MAX)
        self.calls = 0
        say(f"\n## {name}, at node {number}\n")

    def request(self, method, params, named=""):
        self.calls += 1
        meta = {
            "io.modelcontextprotocol/protocolVersion": ERA,
            "io.modelcontextprotocol/clientInfo": {"name": self.name, "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        body = {"jsonrpc": "2.0", "id": self.calls, "method": method, "params": {**params, "_meta": meta}}
        headers = {
            "content-type": "application/json", "accept": "application/json, text/event-stream",
            "mcp-protocol-version": ERA, "mcp-method": method, **({"mcp-name": named} if named else {}),
        }
        self.connection.request("POST", "/mcp", json.dumps(body), headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200 or "error" in answer:
            raise MeshError(f"{method} {named} was answered with {response.status}: {answer}")
        return answer["result"]

    def call(self, tool, arguments):
        """What a tool answers; printed with the call and the time that it took."""
        self.say("```")
        self.say(f"{tool} {shown(arguments)}")
        began = time.monotonic()
        result = self.request("tools/call", {"name": tool, "arguments": arguments}, tool)
        ms = (time.monotonic() - began) * 1000
        answer = result["structuredContent"]
        self.say(f"-> {ms:.0f} ms, {shown(answer)}")
        self.say("```")
        if result.get("isError"):
            raise MeshError(f"{tool} failed: {answer}")
        return answer

    def follow(self, answer):
        """Makes the calls that answers name until one is final."""
        end = time.monotonic() + RUN_S_MAX
        while "next" in answer and answer.get("status") not in ("completed", "failed", "cancelled"):
            if time.monotonic() > end:
                raise MeshError(f"it goes on after {RUN_S_MAX} s: {answer}")
            time.sleep(answer["next"].get("after_ms", 0) / 1000)
            answer = self.call(answer["next"]["tool"], answer["next"]["arguments"])
        return answer

    def close(self):
        self.connection.close()


def converse(mesh, arguments, say):
    say(f"Three nodes on one machine; texts: {', '.join(TEXTS)} of {arguments.texts}.")
    agent = Client(mesh, HOME, "an agent", say)
    listed = agent.request("tools/list", {})["tools"]
    names = ", ".join(tool["name"] for tool in listed)
    say(f"`tools/list` has {len(listed)} tools in {len(json.dumps(listed))} bytes: {names}.\n")
    agent.call("tools_list_tools", {"query": "run steps that depend on each other", "detail": "name"})
    schema = agent.call("tools_get_schema", {"names": ["submit_p2p_workflow"]})
    assert schema["tools"][0]["name"] == "submit_p2p_workflow", schema
    workflow = {**document(arguments), "idempotency_key": "licences-1"}
    submitted = agent.call("tools_dispatch", {"name": "submit_p2p_workflow", "arguments": workflow})
    say("\nIts answer was lost? The same call under the same key makes no second workflow:\n")
    again = agent.call("tools_dispatch", {"name": "submit_p2p_workflow", "arguments": workflow})
    if again["workflow_id"] != submitted["workflow_id"]:
        raise MeshError(f"one key made {submitted['workflow_id']} and {again['workflow_id']}")
    agent.close()
    say("\nThe agent goes: its connection is closed, and nothing of it is left but the id.")

    later = Client(mesh, OTHER, "another client, later", say)
    wait = {"workflow_id": submitted["workflow_id"], "wait_ms": 20_000}
    done = later.follow(later.call("tools_dispatch_read", {"name": "get_workflow_status", "arguments": wait}))
    if done.get("status") != "completed":
        raise MeshError(f"the workflow did not complete: {done}")
    where = {"name": "p2p_workflow_coordinate", "arguments": {"workflow_id": submitted["workflow_id"]}}
    later.call("tools_dispatch_read", where)
    outputs = done.get("outputs") or {}
    say("\nThe answers, read at the node that was not asked to do it:\n")
    for answer in outputs["answers"]:
        best = answer["found"][0]
        text = best["text"] if len(best["text"]) < SHOWN_CHARS else best["text"][:SHOWN_CHARS] + "..."
        say(f"- {answer['question']}\n  {best['score']:.2f} {best['file']}:{best['line']}: {text}")
    later.close()
    return outputs["answers"]


def document(arguments):
    """examples/licences.yaml as an agent writes it: the files as texts."""
    def file(name):
        return {"path": name, "text": (EXAMPLES / name).read_text()}

    texts = [{"path": f"texts/{name}", "text": (arguments.texts / name).read_text(errors="replace")} for name in TEXTS]
    embed = {"kind": "embed", "model": "minilm", "retry": RETRY}
    return {
        "name": "licences",
        "input": {"questions": QUESTIONS, "max_passages": arguments.max_passages},
        "steps": [
            {"name": "split", "kind": "process", "run": ["python3", "split.py", "texts"],
             "files": [file("split.py"), file("step.py"), *texts], "input": {"max_passages": "${input.max_passages}"}},
            {"name": "embed", "needs": ["split"], "for_each": "${steps.split.output.passages}",
             "input": {"text": "${item.text}"}, **embed},
            {"name": "questions", "for_each": "${input.questions}", "input": {"text": "${item}"}, **embed},
            {"name": "index", "needs": ["split", "embed"], "kind": "process", "run": ["python3", "index.py"],
             "files": [file("index.py"), file("step.py")]},
            {"name": "answer", "needs": ["index", "questions"], "kind": "process", "run": ["python3", "answer.py"],
             "files": [file("answer.py"), file("step.py")], "input": {"questions": "${input.questions}"}},
        ],
        "outputs": {"passages": "${steps.answer.output.passages}", "answers": "${steps.answer.output.answers}"},
    }


def shown(value):
    """JSON on few lines: long texts and lists are cut, and say so."""
    def cut(value):
        if isinstance(value, str) and len(value) > SHOWN_CHARS:
            return f"{value[:SHOWN_CHARS // 4]}... ({len(value)} characters)"
        if isinstance(value, list):
            rest = len(value) - LIST_SHOWN
            return [cut(item) for item in value[:LIST_SHOWN]] + ([f"... ({rest} more)"] if rest > 0 else [])
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        return value
    return json.dumps(cut(value), ensure_ascii=False)


def page(text):
    return (
        "# A transcript\n\n"
        "What `scripts/transcript.py` printed: two clients of MCP over HTTP, who know nothing but what the answers tell them, and the\n"
        "workflow of `make demo`. Long texts and lists are cut here; the calls were whole.\n\n" + text.strip() + "\n"
    )


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"transcript: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
