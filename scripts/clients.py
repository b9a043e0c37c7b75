#!/usr/bin/env python3
"""The clients that agents come with, against a node: over node-mcp and over HTTP, in each era of the protocol they speak.

    scripts/clients.py [--bin FOLDER] [--only WORD]

Python `mcp` and `fastmcp`, TypeScript v1 and v2, the inspector's command line. Each lists, calls, fails, cancels, gives up
and hears of progress, as far as it can; the inspector follows a task of the protocol. That the node heard of the two that
stopped waiting, its audit says. Prints a row for each, and ends with 0 if no check failed. The versions are
those of scripts/requirements-clients.txt and scripts/clients/package-lock.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conformance import ROOT, packages, running

CONFIG = (
    'mdns = false\nslots = 2\nlisten = ["/ip4/127.0.0.1/tcp/0"]\n[inference]\nenabled = false\n[http]\nlisten = "127.0.0.1:0"\n'
)
CHECKS = ["list", "call", "errors", "cancel", "timeout", "progress", "heard", "task"]
TRANSPORTS = ["stdio", "http"]
# Of each client, the eras that it speaks.
CLIENTS = {
    "mcp": ["auto", "legacy"], "fastmcp": ["auto", "legacy"], "ts-v1": ["legacy"], "ts-v2": ["auto", "legacy"],
    "inspector": ["modern", "legacy"],
}
START_S_MAX = 60
ROW_S_MAX = 120
HEARD_S_MAX = 10
# Clients at a time: most of a row is waiting.
ROWS_AT_A_TIME = 6
# What the inspector ends with when a tool says that it failed.
INSPECTOR_TOOL_FAILED = 5


class ClientsError(Exception):
    """What went wrong and what to do, in one sentence."""


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    parser.add_argument("--bin", type=Path, default=Path(os.environ.get("MAGPIE_BIN") or target))
    parser.add_argument("--only", default="", help="rows whose name has this in it, as `ts-v2` or `http`")
    return parser.parse_args()


class Node:
    """A node on a folder of its own, and a task that sleeps there."""

    def __init__(self, binaries, folder):
        self.binaries, self.control = binaries, folder / "data" / "control.sock"
        (folder / "node.toml").write_text(CONFIG)
        self.command = [binaries / "node", "--config", folder / "node.toml", "--data-dir", folder / "data"]

    def ctl(self, *arguments):
        command = [self.binaries / "nodectl", "--control", self.control, "-o", "json", *arguments]
        said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if said.returncode != 0:
            raise ClientsError(said.stderr.strip())
        return json.loads(said.stdout)

    def until_it_answers(self):
        end = time.monotonic() + START_S_MAX
        while True:
            try:
                self.http = self.ctl("status")["http"]
                break
            except ClientsError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        sleep = json.dumps({"kind": "sleep", "input": "1h", "timeout": "2h"})
        self.sleeper = self.ctl("tool", "call", "task_submit", sleep)["task_id"]
        while self.ctl("task", "get", self.sleeper)["state"] != "running":
            if time.monotonic() > end:
                raise ClientsError("the sleeping task does not start")
            time.sleep(0.05)

    def target(self, transport):
        """What a client is to start, or where it is to go."""
        if transport == "http":
            return [f"{self.http}/mcp/full"]
        return [str(self.binaries / "node-mcp"), "--control", str(self.control), "--toolset", "full"]

    def heard(self, name):
        """Whether the two calls that the client gave up were cancelled here, too."""
        end = time.monotonic() + HEARD_S_MAX
        while True:
            calls = self.ctl("audit", "--tool", "p2p_taskqueue_wait_task", "--outcome", "cancelled", "--limit", "1000")["items"]
            cancelled = sum(call["client"] == name for call in calls)
            if cancelled >= 2:
                return True, ""
            if time.monotonic() > end:
                return False, f"{cancelled} of 2 calls were cancelled at the node"
            time.sleep(0.1)


class Clients:
    """The programs, at their versions."""

    def __init__(self):
        requirements = ROOT / "scripts/requirements-clients.txt"
        made = subprocess.run([ROOT / "scripts/python.sh", requirements], stdout=subprocess.PIPE, text=True, check=True)
        self.python = made.stdout.strip()
        self.node_js, self.modules = packages("clients")

    def command(self, client):
        folder = ROOT / "scripts/clients"
        if client in ("mcp", "fastmcp"):
            return [self.python, "-B", folder / f"with_{client}.py"]
        return [self.node_js, folder / f"{client.replace('-', '_')}.mjs", self.modules]

    def row(self, node, client, transport, era):
        """What came of each check: true, false, or none where the client has no such thing; and notes."""
        if client == "inspector":
            return self.inspector(node, transport, era)
        name = f"{client}/{transport}/{era}"
        command = [*self.command(client), name, era, node.sleeper, transport, *node.target(transport)]
        said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=ROW_S_MAX)
        found, notes = {}, []
        for line in said.stdout.splitlines():
            check = json.loads(line)
            found[check["check"]] = check["ok"]
            if not check["ok"]:
                notes.append(f"{check['check']}: {check['note']}")
        missing = [check for check in CHECKS if check not in found and check not in ("heard", "task")]
        if missing:
            notes.append(f"{', '.join(missing)}: not made; {said.stderr.strip()[-600:]}")
        found["heard"], note = node.heard(name)
        found = {check: found.get(check, False) for check in CHECKS[:-1]} | {"task": None}
        return found, notes + ([note] if note else [])

    def inspector(self, node, transport, era):
        program = [self.node_js, self.modules / "@modelcontextprotocol/inspector/clients/launcher/build/index.js", "--cli"]
        where = ["--transport", "http", "--server-url", *node.target("http")] if transport == "http" else []
        before = node.target("stdio") if transport == "stdio" else []

        def run(method, *options):
            # What belongs to the program that is started stands before the inspector's own options.
            stdio = [*before[:1], "--", *before[1:]] if before else []
            command = [*program, *where, "--protocol-era", era, "-q", "--format", "json", "--method", method, *options, *stdio]
            with tempfile.TemporaryDirectory() as folder:
                env = {**os.environ, "MCP_CATALOG_PATH": f"{folder}/mcp.json", "HOME": folder}
                return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=env, timeout=ROW_S_MAX)

        def tool(name, arguments):
            return run("tools/call", "--tool-name", name, "--tool-args-json", json.dumps(arguments))

        notes = []

        def holds(said, code, *wanted):
            text = said.stdout + said.stderr
            well = said.returncode == code and all(word in text for word in wanted)
            if not well:
                notes.append(f"it ended with {said.returncode}: {text.strip()[-400:]}")
            return well

        follows = ["succeeded"] if era == "modern" else ["next", "p2p_taskqueue_wait_task"]
        found = {
            "list": holds(run("tools/list", "--strict"), 0, "p2p_taskqueue_submit"),
            "call": holds(tool("p2p_taskqueue_submit", {"kind": "noop", "wait_ms": 20_000}), 0, "completed"),
            "errors": holds(tool("p2p_taskqueue_list_tasks", {"limit": 0.5}), INSPECTOR_TOOL_FAILED, "wrong_argument"),
            # It declares tasks in both eras; in the later one it is given a task, and follows it to its end.
            "task": holds(tool("p2p_taskqueue_submit", {"kind": "sleep", "input": "1s"}), 0, *follows),
        }
        return {check: found.get(check) for check in CHECKS}, notes


def main():
    arguments = parse_arguments()
    clients, began = Clients(), time.monotonic()
    rows = [(client, transport, era) for client, eras in CLIENTS.items() for transport in TRANSPORTS for era in eras]
    rows = [row for row in rows if arguments.only in "/".join(row)]
    if not rows:
        print(f"clients: no row has {arguments.only!r} in its name", file=sys.stderr)
        return 2
    words = {True: "ok", False: "FAILED", None: "-"}
    with tempfile.TemporaryDirectory(prefix="magpie-clients-") as folder:
        node = Node(arguments.bin, Path(folder))
        with running(node.command, env={**os.environ, "MAGPIE_LOG": "error,rmcp=off"}):
            try:
                node.until_it_answers()
            except ClientsError as error:
                print(f"clients: {error}", file=sys.stderr)
                return 1
            with ThreadPoolExecutor(ROWS_AT_A_TIME) as pool:
                ended = list(pool.map(lambda row: clients.row(node, *row), rows))
    print(f"{'client':10} {'transport':10} {'era':7} " + " ".join(f"{check:8}" for check in CHECKS))
    for (client, transport, era), (found, notes) in zip(rows, ended):
        print(f"{client:10} {transport:10} {era:7} " + " ".join(f"{words[found[check]]:8}" for check in CHECKS))
        for note in notes:
            print(f"  {note}")
    well = all(ok is not False for found, _ in ended for ok in found.values())
    print(f"{len(rows)} rows in {time.monotonic() - began:.1f} s")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
