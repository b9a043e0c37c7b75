#!/usr/bin/env python3
"""What a call of a tool costs over stdio, beside what the same client pays elsewhere, in one run: a tool of the node beside an
echo of FastMCP, and a mounted server's tool beside the server called directly.

    scripts/mcp_ratios.py [--calls N] [--python PYTHON]

`--python` is one that has fastmcp, as `scripts/python.sh scripts/requirements-clients.txt` prints; without it that row is
left out. The servers take turns, so that both see the machine in the same state. Ends with 1 if a limit is broken.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mcp_memory import Node
from mesh import MeshError, wait_until

ROOT = Path(__file__).resolve().parents[1]
MOUNTED = ROOT / "tests" / "mcp" / "mounted_server.py"
ERA = "2025-11-25"
FASTMCP_TIMES_MIN = 15
MOUNTED_TIMES_MAX = 2
WARM_SHARE = 0.1
# Calls under way at a time, where calls a second are counted.
AT_A_TIME = 16
FASTMCP = """
from fastmcp import FastMCP
server = FastMCP("echo")
@server.tool
def echo(text: str) -> dict:
    return {"text": text}
server.run(show_banner=False)
"""


def main():
    arguments = parse_arguments()
    broken = False
    with MountingNode() as node:
        rows = [mounted(node, arguments.calls)]
        if arguments.python:
            rows += fastmcp(node, arguments.calls, arguments.python)
        else:
            print("fastmcp   left out: name a Python that has it with --python", file=sys.stderr)
    for name, value, limit, at_least, remark in rows:
        holds = value >= limit if at_least else value <= limit
        broken |= not holds
        sign = ">=" if at_least else "<="
        print(f"{name:<14} {value:>6.2f} {sign} {limit:<4g} times  {'ok' if holds else 'BROKEN'}  {remark}", flush=True)
    return 1 if broken else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000, metavar="N", help="of each (default: %(default)s)")
    parser.add_argument("--python", metavar="PYTHON")
    return parser.parse_args()


class MountingNode(Node):
    """A node that mounts the fixture of 370 tools as `shop`."""

    def __init__(self):
        self.state = tempfile.TemporaryDirectory(prefix="magpie-")
        command = [sys.executable, str(MOUNTED), self.state.name]
        super().__init__(f"[mcp.servers.shop]\ncommand = {json.dumps(command)}\n")

    def __exit__(self, *ended):
        super().__exit__(*ended)
        self.state.cleanup()

    def mcp(self):
        return Pipes([self.bin / "node-mcp", "--control", self.control, "--toolset", "full"])


class Pipes:
    """A server on pipes, in the era with a beginning."""

    def __init__(self, command):
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=1 << 16
        )
        self.next = 0
        client = {"protocolVersion": ERA, "capabilities": {}, "clientInfo": {"name": "ratios", "version": "1"}}
        self.send("initialize", client)
        self.receive()
        self.server.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.kill()
        self.server.wait()

    def send(self, method, params):
        self.next += 1
        request = {"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}
        self.server.stdin.write(json.dumps(request).encode() + b"\n")
        self.server.stdin.flush()

    def receive(self):
        line = self.server.stdout.readline()
        if b'"result"' not in line or b'"isError":true' in line:
            raise MeshError(f"a server answered {line[:300]!r}")

    def call(self, tool, arguments):
        self.send("tools/call", {"name": tool, "arguments": arguments})
        self.receive()

    def per_s(self, count, tool, arguments):
        began = time.monotonic()
        for _ in range(AT_A_TIME):
            self.send("tools/call", {"name": tool, "arguments": arguments})
        for _ in range(count):
            self.receive()
            self.send("tools/call", {"name": tool, "arguments": arguments})
        took = time.monotonic() - began
        for _ in range(AT_A_TIME):
            self.receive()
        return count / took


def in_turns(count, one, other):
    """The median of each in milliseconds."""
    times = ([], [])
    for number in range(int(count * (1 + WARM_SHARE))):
        for kept, call in zip(times, (one, other)):
            began = time.perf_counter()
            call()
            if number >= count * WARM_SHARE:
                kept.append((time.perf_counter() - began) * 1000)
    return [statistics.median(kept) for kept in times]


def mounted(node, count):
    told = {"text": "x" * 64}
    with tempfile.TemporaryDirectory(prefix="magpie-") as state, node.mcp() as ours:
        def is_up():
            done = subprocess.run(
                [node.bin / "nodectl", "--control", node.control, "tool", "call", "mount_list"], capture_output=True, text=True
            )
            return done.returncode == 0 and '"state": "up"' in done.stdout
        wait_until("the fixture is not mounted", 60, is_up)
        with Pipes([sys.executable, MOUNTED, state]) as direct:
            at_it, through_us = in_turns(
                count, lambda: direct.call("echo", told), lambda: ours.call("tools_dispatch", {"name": "shop.echo", "arguments": told})
            )
    remark = f"a mounted tool's call: p50 {through_us:.2f} ms, at the server itself {at_it:.2f} ms"
    return "mounted p50", through_us / at_it, MOUNTED_TIMES_MAX, False, remark


def fastmcp(node, count, python):
    told = {"text": "x" * 64}
    with node.mcp() as ours, Pipes([python, "-c", FASTMCP]) as theirs:
        def our_call():
            ours.call("p2p_taskqueue_status", {})
        fast, own = in_turns(count, lambda: theirs.call("echo", told), our_call)
        their_rate, our_rate = theirs.per_s(count, "echo", told), ours.per_s(count, "p2p_taskqueue_status", {})
    return [
        ("fastmcp rate", our_rate / their_rate, FASTMCP_TIMES_MIN, True,
         f"{our_rate:,.0f} calls/s, an echo of FastMCP {their_rate:,.0f}; p50 one by one {own:.3f} and {fast:.2f} ms"),
    ]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeshError as error:
        sys.exit(f"mcp_ratios: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
