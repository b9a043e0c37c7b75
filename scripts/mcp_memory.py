#!/usr/bin/env python3
"""What clients of MCP that ask for too much take of a node's memory: many calls, calls that nobody reads the answers of, sessions
that nobody comes back to.

    scripts/mcp_memory.py [--calls N] [--flood N] [--sessions N] [--only NAME,...]

Prints a row for each with its limit, and ends with 1 if one is broken. Binaries as for scripts/mesh.py, node-mcp beside them.
"""

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from mesh import LoneNode, MeshError

CONFIG = (
    'mdns = false\nslots = 1\nlisten = ["/ip4/127.0.0.1/tcp/0"]\n[inference]\nenabled = false\n[http]\nlisten = "127.0.0.1:0"\n'
)
ERA = "2025-11-25"
# Requests under way on one connection.
AT_A_TIME = 32
# Of the calls, those after which what a node takes anyway is there.
WARM_SHARE = 0.1
WARM_CALLS_MIN = 5_000
GROWTH_PERCENT_MAX = 5
FLOOD_MB_MAX = 100
SESSIONS_MB_MAX = 10
# How long nobody reads the answers of the flood.
UNREAD_S = 2
PATIENCE_S = 600
SETTLE_S = 3


def main():
    arguments = parse_arguments()
    broken = False
    for name in arguments.only or MEASURES:
        measure, count = MEASURES[name], getattr(arguments, name)
        with Node() as node:
            value, limit, unit, remark = measure(node, count)
        holds = value <= limit
        broken |= not holds
        verdict = "ok" if holds else "BROKEN"
        print(f"{name:<9} {count:>9,}  {value:>7.1f} <= {limit:<4g} {unit:<3} {verdict}  {remark}", flush=True)
    return 1 if broken else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000, metavar="N", help="at least 20,000 (default: %(default)s)")
    parser.add_argument("--flood", type=int, default=20_000, metavar="N", help="calls on one pipe (default: %(default)s)")
    parser.add_argument("--sessions", type=int, default=2_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help=", ".join(MEASURES))
    arguments = parser.parse_args()
    if unknown := set(arguments.only or []) - set(MEASURES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    if arguments.calls < 20_000 or arguments.flood < 1 or arguments.sessions < 1:
        parser.error("at least 20,000 calls, one of a flood and one session")
    return arguments


class Node(LoneNode):
    """A node without inference that serves HTTP to whoever is on this machine."""

    def __init__(self, more=""):
        super().__init__(CONFIG + more)
        if not (self.bin / "node-mcp").is_file():
            raise MeshError(f"{self.bin} has no node-mcp: run `make build`")

    def __enter__(self):
        super().__enter__()
        host, _, port = self.status()["http"].removeprefix("http://").rpartition(":")
        self.address = host, int(port)
        return self

    def rss_mb(self):
        return memory_mb(self.process.pid, "VmRSS")


def memory_mb(pid, what):
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what + ":")) / 1024


class Connection:
    """Requests of one connection, several under way at a time."""

    def __init__(self, node):
        self.node = node
        self.socket = socket.create_connection(node.address, timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = self.socket.makefile("rb", buffering=1 << 16)

    def request(self, body, headers=""):
        body = json.dumps(body).encode()
        head = (
            f"POST /mcp/full HTTP/1.1\r\nhost: {self.node.address[0]}\r\ncontent-type: application/json\r\n"
            f"accept: application/json, text/event-stream\r\n{headers}content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def answer(self):
        """The head and the body of one answer."""
        status = self.read.readline()
        if b" 200 " not in status and b" 202 " not in status:
            raise MeshError(f"a request was answered with {status!r}")
        headers = {}
        while line := self.read.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            return headers, self.chunks()
        return headers, self.read.read(int(headers.get("content-length", 0)))

    def chunks(self):
        body = b""
        while length := int(self.read.readline(), 16):
            body += self.read.read(length)
            self.read.readline()
        self.read.readline()
        return body

    def close(self):
        self.read.close()
        self.socket.close()


def growth_of_calls(node, count):
    """How much more the node holds after all calls than after the first tenth, in percent."""
    connection = Connection(node)
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "memory", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    call = {"name": "p2p_taskqueue_status", "arguments": {}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: p2p_taskqueue_status\r\n"
    request = connection.request(body, headers)

    def calls(count):
        for _ in range(count // AT_A_TIME):
            connection.socket.sendall(request * AT_A_TIME)
            for _ in range(AT_A_TIME):
                _, body = connection.answer()
                if b'"isError":true' in body or b'"result"' not in body:
                    raise MeshError(f"a call failed: {body[:300]!r}")

    warm = max(int(count * WARM_SHARE), WARM_CALLS_MIN)
    calls(warm)
    before = node.rss_mb()
    began = time.monotonic()
    calls(count - warm)
    per_s = (count - warm) / (time.monotonic() - began)
    after = node.rss_mb()
    connection.close()
    return (after - before) / before * 100, GROWTH_PERCENT_MAX, "%", f"{before:.1f} -> {after:.1f} MB, {per_s:,.0f} calls/s"


def flood(node, count):
    """What node-mcp held at most, and how much more the node did, whichever is more; each call is answered."""
    before = node.rss_mb()
    mcp = subprocess.Popen(
        [node.bin / "node-mcp", "--control", node.control, "--toolset", "full"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    try:
        def say(message):
            mcp.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

        client = {"protocolVersion": ERA, "capabilities": {}, "clientInfo": {"name": "memory", "version": "1"}}
        say({"id": 0, "method": "initialize", "params": client})
        mcp.stdin.flush()
        mcp.stdout.readline()
        say({"method": "notifications/initialized"})

        def write():
            call = {"name": "p2p_taskqueue_status", "arguments": {}}
            for number in range(1, count + 1):
                say({"id": number, "method": "tools/call", "params": call})
            mcp.stdin.flush()

        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        # Answers that nobody reads fill the pipe: what does not fit must not pile up in the server.
        time.sleep(UNREAD_S)
        answered, refused, end = set(), 0, time.monotonic() + PATIENCE_S
        while len(answered) < count:
            line = mcp.stdout.readline()
            if not line or time.monotonic() > end:
                raise MeshError(f"{len(answered)} of {count} calls were answered")
            answer = json.loads(line)
            answered.add(answer["id"])
            refused += '"overloaded"' in line.decode()
        held, grown = memory_mb(mcp.pid, "VmHWM"), node.rss_mb() - before
    finally:
        mcp.kill()
        mcp.wait()
    remark = f"node-mcp at most {held:.1f} MB, the node {grown:+.1f} MB, {refused} calls refused as overloaded"
    return max(held, grown), FLOOD_MB_MAX, "MB", remark


def abandoned_sessions(node, count):
    """How much more the node holds after sessions that were opened and left."""
    client = {"protocolVersion": ERA, "capabilities": {}, "clientInfo": {"name": "memory", "version": "1"}}

    def opened(number):
        connection = Connection(node)
        body = {"jsonrpc": "2.0", "id": number, "method": "initialize", "params": client}
        connection.socket.sendall(connection.request(body))
        headers, _ = connection.answer()
        connection.close()
        if "mcp-session-id" not in headers:
            raise MeshError(f"no session was opened: {headers}")

    # The first ones take what a node needs for its first clients.
    for number in range(20):
        opened(number)
    before = node.rss_mb()
    for number in range(count):
        opened(number)
    time.sleep(SETTLE_S)
    after = node.rss_mb()
    return after - before, SESSIONS_MB_MAX, "MB", f"{before:.1f} -> {after:.1f} MB"


MEASURES = {"calls": growth_of_calls, "flood": flood, "sessions": abandoned_sessions}

if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeshError as error:
        sys.exit(f"mcp_memory: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
