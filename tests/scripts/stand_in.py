#!/usr/bin/env python3
"""Stands in for `node` and `nodectl` where the scripts that drive them are tested: answers by the contract, runs nothing.

STAND_IN names what goes wrong: lost, twice, failed, dies, early, stuck, or nothing.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

WRONG = os.environ.get("STAND_IN", "")
PASSAGES = 40


def node(folder):
    (folder / "pid").write_text(str(os.getpid()))
    (folder / "control.sock").write_text("")
    signal.pause()


def dev(count, folder):
    for number in range(1, count + 1):
        path = folder / f"node-{number}"
        path.mkdir(parents=True)
        (path / "node.toml").write_text("")
        (path / "node.log").write_text(f"log of node {number}\n")
        subprocess.Popen([str(Path(sys.argv[0]).with_name("node")), "--data-dir", str(path)])
    while len(list(folder.glob("node-*/pid"))) < count:
        time.sleep(0.01)
    if WRONG == "dies":
        sys.exit(7)
    print("ready", flush=True)
    if WRONG == "stuck":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pause()


def alive(folder):
    try:
        fields = Path(f"/proc/{(folder / 'pid').read_text()}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z"


def peer(folder):
    return "peer-" + folder.name


def status(folder):
    if not alive(folder):
        sys.exit(4)
    done = (folder.parent / "done").exists()
    queue = {"blocked": 0, "delayed": 0, "ready": 20, "leased": 0, "running": 2, "succeeded": 24}
    if done:
        queue = {state: 0 for state in queue} | {"succeeded": PASSAGES + 6}
    return {
        "peer_id": peer(folder), "queue": queue, "fenced_total": 1, "worker": {"running": 1},
        "devices": [{"state": "ready"}],
    }


def run(folder):
    mesh = folder.parent
    old = {path.read_text() for path in mesh.glob("node-*/pid")}
    end = time.monotonic() + (0 if WRONG == "early" else 20)
    while time.monotonic() < end and {path.read_text() for path in mesh.glob("node-*/pid")} == old:
        time.sleep(0.02)
    (mesh / "done").touch()
    if WRONG == "failed":
        print("embed failed", file=sys.stderr)
        sys.exit(1)
    embedded = PASSAGES - (WRONG == "lost") + (WRONG == "twice")
    counts = {"split": 1, "embed": embedded, "questions": 3, "index": 1, "answer": 1}
    found = [{"score": 0.5, "file": "f", "line": 1, "text": "some text"}] * 3
    return {
        "id": "w", "state": "succeeded",
        "steps": [
            {"name": name, "state": "succeeded", "attempts": count, "tasks": {"succeeded": count, "failed": 0},
             "workers": {peer(folder): count}}
            for name, count in counts.items()
        ],
        "outputs": {"passages": PASSAGES, "answers": [{"question": f"q{n}", "found": found} for n in range(3)]},
    }


def main(words):
    if Path(words[0]).name == "node":
        return node(Path(words[words.index("--data-dir") + 1]))
    if words[1] == "dev":
        return dev(int(words[2]), Path(words[words.index("--dir") + 1]))
    folder = Path(words[words.index("--control") + 1]).parent
    answer = status(folder) if "status" in words else run(folder)
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv)
