#!/usr/bin/env python3
"""Ten times more work than three nodes can do, for a minute: what is refused, what it costs, and how much still gets done.

    scripts/overload.py [--seconds N] [--times N] [--slack TIMES] [--dir FOLDER]

The work is sleeps, so that what the nodes can do is known from their slots and does not compete with who submits. First
as much is submitted as they can do, then ten times that. Clients give up at once: each refused batch is counted. A figure
beyond its bar, times the slack that a machine with other work needs, fails the run.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from mesh import Mesh, MeshError, wait_until
from scale import pids, rss_mib

NODES, SLOTS, SLEEP_MS = 3, 8, 40
LIVE_MAX = 4_000
BATCH = 200
CLIENTS = 4
CALM_S = 20
GOODPUT_MIN, GROWTH_MAX = 0.8, 1.1
# A task that has ended is kept for its retention: this is not what is asked about.
ENDED_KIB_MAX = 1.2
DRAIN_S_MAX = 300
REFUSED = 6


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--slack", type=float, default=1.0)
    parser.add_argument("--dir", type=Path)
    return parser.parse_args()


class Offer:
    """Offers tasks to node 1 at a rate, in batches that are accepted or refused whole."""

    def __init__(self, mesh, per_s):
        self.mesh, self.every_s = mesh, CLIENTS * BATCH / per_s
        self.accepted = self.refused = 0
        self.wrong = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.clients = [threading.Thread(target=self._offer, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for client in self.clients:
            client.join()

    def _offer(self, number):
        due = time.monotonic() + self.every_s * number / CLIENTS
        command = self.mesh.command(
            1, "task", "submit", "--kind", "sleep", "--input", json.dumps(f"{SLEEP_MS}ms"), "--durability", "async",
            "--count", str(BATCH), "--timeout", "1ms", "-o", "json",
        )
        while not self.ended.wait(max(0, due - time.monotonic())):
            due = max(due + self.every_s, time.monotonic() - self.every_s)
            done = subprocess.run(command, capture_output=True, text=True)
            with self.lock:
                self.accepted += done.stdout.count('"id"')
                if done.returncode == REFUSED and "live tasks" in done.stderr:
                    self.refused += BATCH
                elif done.returncode != 0:
                    self.wrong.append(f"{done.returncode}: {done.stderr.strip()[-300:]}")


def done_per_s(mesh, seconds):
    """Tasks that succeed in a second, and the most memory that all nodes take meanwhile."""
    began, before = time.monotonic(), mesh.ask(1, "status")["queue"]["succeeded"]
    most = 0.0
    while time.monotonic() - began < seconds:
        most = max(most, sum(map(rss_mib, pids(mesh))))
        time.sleep(0.5)
    return (mesh.ask(1, "status")["queue"]["succeeded"] - before) / (time.monotonic() - began), most


def limit(mesh):
    """Restarts the nodes with bounds that a minute reaches."""
    for number in range(1, NODES + 1):
        config = mesh.node_folder(number) / "node.toml"
        config.write_text(f"slots = {SLOTS}\nlive_tasks_max = {LIVE_MAX}\n" + config.read_text())
        mesh.kill(number)
        mesh.restart(number)
    wait_until(
        "the nodes are no mesh", 60,
        lambda: all(
            sum(peer["state"] == "alive" for peer in mesh.ask(number, "status")["peers"]) == NODES - 1
            for number in range(1, NODES + 1)
        ),
    )


def main():
    arguments = parse_arguments()
    capacity = NODES * SLOTS * 1000 / SLEEP_MS
    with Mesh(NODES, arguments.dir) as mesh:
        limit(mesh)
        with Offer(mesh, capacity * 1.2) as offer:
            wait_until("no queue builds up", 60, lambda: mesh.ask(1, "status")["queue"]["ready"] > SLOTS * NODES)
            peak, calm_mib = done_per_s(mesh, CALM_S)
        print(f"calm: {peak:,.0f} tasks/s done of {capacity:,.0f} that the slots allow; all nodes take {calm_mib:.0f} MiB")
        with Offer(mesh, capacity * arguments.times) as offer:
            wait_until("nothing is refused", 120, lambda: offer.refused)
            full_mib = sum(map(rss_mib, pids(mesh)))
            goodput, most_mib = done_per_s(mesh, arguments.seconds)
        offered = offer.accepted + offer.refused
        print(
            f"{arguments.times} times that for {arguments.seconds} s: {offered:,} offered, {offer.accepted:,} accepted, "
            f"{offer.refused:,} refused in words; {goodput:,.0f} tasks/s done; {full_mib:.0f} MiB when full, at most {most_mib:.0f}"
        )
        wait_until(
            "what was accepted does not end", DRAIN_S_MAX,
            lambda: not any(mesh.ask(1, "status")["queue"][state] for state in ("ready", "leased", "delayed")), every_s=0.5,
        )
        queue = mesh.ask(1, "status")["queue"]
        print(f"then all that was accepted succeeded: {queue['succeeded']:,} of {queue['submitted']:,}")
    failed = []
    if offer.wrong:
        failed.append(f"{len(offer.wrong)} batches came to nothing without a refusal, as {offer.wrong[0]}")
    if goodput < GOODPUT_MIN * peak / arguments.slack:
        failed.append(f"goodput is {goodput / peak:.2f} of the peak (bar {GOODPUT_MIN})")
    ended_mib = goodput * arguments.seconds * ENDED_KIB_MAX / 1024
    if most_mib - ended_mib > GROWTH_MAX * full_mib * arguments.slack:
        failed.append(f"memory grew from {full_mib:.0f} to {most_mib:.0f} MiB while nothing more was taken")
    if queue["succeeded"] != queue["submitted"]:
        failed.append("not all that was accepted succeeded")
    if failed:
        raise MeshError("; ".join(failed))
    print(
        f"goodput {goodput / peak:.2f} of the peak; without {ended_mib:.0f} MiB for what had ended, memory is "
        f"{(most_mib - ended_mib) / full_mib:.2f} times what a full queue takes"
    )


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"overload: {error}")
