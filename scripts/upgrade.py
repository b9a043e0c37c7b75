#!/usr/bin/env python3
"""Replaces a mesh of the version before by this one, node by node, under load: no task is lost or committed twice.

    scripts/upgrade.py --earlier FOLDER|REVISION [--batch N] [--dir FOLDER]

FOLDER has the earlier node and nodectl; of a REVISION they are built, in release mode, into a target folder of their own.
Each node is ended with `kill -9` and started on its data with this version. Before, between and after, work is submitted
to every node, and each must run some of it: the two versions grant to, steal from and answer each other.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chaos import RETRY, SETTLE_S_MAX, listed, settled, verdict
from mesh import Mesh, MeshError, binaries, wait_until

NODES = 3
MET_S_MAX = 30
TASK_MS = 60
ROOT = Path(__file__).resolve().parents[1]


def main():
    arguments = parse_arguments()
    earlier = find_earlier(arguments.earlier)
    acknowledged = {number: [] for number in range(1, NODES + 1)}
    began = time.monotonic()
    with Mesh(NODES, arguments.dir, earlier) as mesh:
        # From here on nodectl is this version's, whatever the node is that it asks.
        mesh.bin = binaries()
        work(mesh, arguments.batch, acknowledged, "no node is replaced")
        for number in range(1, NODES + 1):
            under_way = [mesh.submit(home, tasks_of(arguments.batch)) for home in acknowledged if home != number]
            mesh.kill(number)
            mesh.restart(number)
            for home, process in zip([home for home in acknowledged if home != number], under_way):
                acknowledged[home] += ids_of(process, home)
            wait_until("not every node sees every other", MET_S_MAX, lambda: has_met(mesh))
            work(mesh, arguments.batch, acknowledged, f"{number} of {NODES} nodes are replaced")
        tasks = {number: listed(mesh, number) for number in acknowledged}
        statuses = {number: mesh.ask(number, "status") for number in acknowledged}
    wrong = verdict({number: set(ids) for number, ids in acknowledged.items()}, tasks, statuses)
    count = sum(map(len, acknowledged.values()))
    print(f"{count} tasks acknowledged, {len(wrong)} lost or committed twice, {time.monotonic() - began:.0f} s")
    if wrong:
        raise MeshError("; ".join(wrong[:20]))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", required=True, metavar="FOLDER|REVISION")
    parser.add_argument("--batch", type=int, default=60)
    parser.add_argument("--dir", metavar="FOLDER", help="an empty folder for the nodes' data, which is then kept")
    return parser.parse_args()


def find_earlier(earlier):
    """The folder with the earlier version's programs."""
    if Path(earlier).is_dir():
        return binaries(Path(earlier))
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "earlier"
    with tempfile.TemporaryDirectory(prefix="magpie-earlier-") as folder:
        tree = Path(folder) / "tree"
        run("git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, earlier)
        try:
            run("cargo", "build", "--release", "--bin", "node", "--bin", "nodectl", cwd=tree, target=target)
        finally:
            run("git", "-C", ROOT, "worktree", "remove", "--force", tree)
    return binaries(target / "release")


def run(*command, cwd=None, target=None):
    environment = os.environ | ({"CARGO_TARGET_DIR": str(target)} if target else {})
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment)
    if done.returncode != 0:
        raise MeshError(f"`{' '.join(map(str, command))}` ended with {done.returncode}")


def tasks_of(batch):
    return ({"kind": "sleep", "input": {"for": f"{TASK_MS}ms"}, "retry": RETRY} for _ in range(batch))


def ids_of(process, home):
    stdout, stderr = process.communicate(timeout=60)
    if process.returncode != 0:
        raise MeshError(f"node {home} refused a submission: {stderr.strip()}")
    return [line.split('"')[3] for line in stdout.splitlines()]


def work(mesh, batch, acknowledged, when):
    """One batch to each node, until all is done; each node must run some of it."""
    before = ran(mesh)
    under_way = {home: mesh.submit(home, tasks_of(batch)) for home in acknowledged}
    for home, process in under_way.items():
        acknowledged[home] += ids_of(process, home)
    wait_until("not every task is terminal", SETTLE_S_MAX, lambda: settled(mesh), every_s=0.2)
    now = ran(mesh)
    shares = {number: now[number] - before[number] for number in now}
    print(f"{when}: " + ", ".join(f"node {number} ran {share}" for number, share in shares.items()), flush=True)
    if not all(shares.values()):
        raise MeshError(f"{when}: a node ran nothing")


def ran(mesh):
    """Tasks that each node has committed somewhere, by what the homes counted."""
    names = {number: mesh.ask(number, "status")["peer_id"] for number in range(1, mesh.count + 1)}
    counts = [mesh.ask(number, "queue", "stats")["commits_by_worker"] for number in names]
    return {number: sum(count.get(name, 0) for count in counts) for number, name in names.items()}


def has_met(mesh):
    peers = [mesh.ask(number, "status")["peers"] for number in range(1, mesh.count + 1)]
    return all(sum(peer["state"] == "alive" for peer in seen) == mesh.count - 1 for seen in peers)


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"upgrade: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
