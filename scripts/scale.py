#!/usr/bin/env python3
"""Many real nodes on this machine: how long until all are one mesh, and what each costs when nothing happens.

    scripts/scale.py [--nodes N] [--idle SECONDS] [--slack TIMES] [--dir FOLDER]

A figure beyond its bar, times the slack that a machine with other work needs, fails the run.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import mesh as real_nodes
from mesh import Mesh, MeshError, wait_until

JOIN_S_MAX, IDLE_MIB_MAX, IDLE_CORE_MAX = 30, 30, 0.005
PATIENCE_S = 300
SETTLE_S = 5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--idle", type=int, default=30, help="seconds in which nothing happens")
    parser.add_argument("--slack", type=float, default=1.0)
    parser.add_argument("--dir", type=Path)
    return parser.parse_args()


def pids(mesh):
    return [int((mesh.node_folder(number) / "pid").read_text()) for number in range(1, mesh.count + 1)]


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mib(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 2**20


def own_mib(pid):
    """Its own memory, and its part of what it shares: all nodes map one binary, which is there once."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def await_whole(mesh):
    """Until every node sees every other alive; who once did is not asked again."""
    partial = set(range(1, mesh.count + 1))

    def is_whole():
        for number in sorted(partial):
            status = mesh.answers(number)
            if not status or sum(peer["state"] == "alive" for peer in status["peers"]) < mesh.count - 1:
                return False
            partial.discard(number)
        return True

    wait_until("not every node sees every other", PATIENCE_S, is_whole, every_s=0.2)


def main():
    arguments = parse_arguments()
    # A mesh that is late is a figure, not a failure to start.
    real_nodes.READY_S_MAX = PATIENCE_S
    began = time.monotonic()
    # What the process of a device takes is not the mesh's.
    with Mesh(arguments.nodes, arguments.dir, options=["--no-inference"]) as mesh:
        await_whole(mesh)
        joined_s = time.monotonic() - began
        time.sleep(SETTLE_S)
        nodes = pids(mesh)
        before, idle_from = [cpu_s(pid) for pid in nodes], time.monotonic()
        time.sleep(arguments.idle)
        idle_s = time.monotonic() - idle_from
        cores = [(cpu_s(pid) - spent) / idle_s for pid, spent in zip(nodes, before)]
        memory = [own_mib(pid) for pid in nodes]
        mapped = max(rss_mib(pid) for pid in nodes)
    figures = [
        ("joined, from the first exec (s)", joined_s, JOIN_S_MAX),
        ("memory of an idle node, with its part of what all share, the most (MiB)", max(memory), IDLE_MIB_MAX),
        ("share of a core of an idle node, the mean", statistics.mean(cores), IDLE_CORE_MAX),
    ]
    missed = False
    for what, figure, bar in figures:
        is_met = figure <= bar * arguments.slack
        missed |= not is_met
        print(f"{arguments.nodes} nodes: {what}: {figure:.4g}, at most {bar * arguments.slack:g}{'' if is_met else '  MISSED'}")
    print(f"{arguments.nodes} nodes: resident with all of what they share, the most: {mapped:.1f} MiB")
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeshError as error:
        sys.exit(f"scale: {error}")
