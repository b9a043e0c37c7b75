#!/usr/bin/env python3
"""Kills a random node of three with `kill -9`, round after round, under load, and starts it again on its data.

    scripts/chaos.py [--rounds N] [--seed N] [--batch N] [--dir FOLDER]

Then every task that was acknowledged must have one result: none lost, none committed twice. The seed repeats the
choices, not the scheduling of the processes.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter

from mesh import Mesh, MeshError, wait_until

NODES = 3
SETTLE_S_MAX = 300
PAGE = 1000
# One in so many tasks takes a while, so that a kill finds work under way.
SLEEP_EVERY = 10
SLEEP_MS = 150
RETRY = {"max_attempts": 100, "initial": "50ms", "max_delay": "1s"}


def main():
    arguments = parse_arguments()
    choose = random.Random(arguments.seed)
    print(f"seed {arguments.seed}, {arguments.rounds} rounds, {arguments.batch} tasks to each of two nodes a round", flush=True)
    acknowledged = {number: set() for number in range(1, NODES + 1)}
    began = time.monotonic()
    with Mesh(NODES, arguments.dir) as mesh:
        for number in range(1, arguments.rounds + 1):
            one_round(mesh, number, choose, arguments.batch, acknowledged)
        wait_until("not every task is terminal", SETTLE_S_MAX, lambda: settled(mesh), every_s=0.5)
        tasks = {number: listed(mesh, number) for number in acknowledged}
        statuses = {number: mesh.ask(number, "status") for number in acknowledged}
    wrong = verdict(acknowledged, tasks, statuses)
    count = sum(len(ids) for ids in acknowledged.values())
    attempts = sum(task["attempts"] for listing in tasks.values() for task in listing)
    fenced = sum(status["fenced_total"] for status in statuses.values())
    print(f"{arguments.rounds} kills, {count} tasks acknowledged, {attempts} attempts, {fenced} late messages refused")
    print(f"{len(wrong)} lost or committed twice, {time.monotonic() - began:.0f} s")
    if wrong:
        raise MeshError("; ".join(wrong[:20]))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--dir", metavar="FOLDER", help="an empty folder for the nodes' data, which is then kept")
    return parser.parse_args()


def one_round(mesh, number, choose, batch, acknowledged):
    """Submits to two nodes, kills one of the three meanwhile, and notes what was acknowledged."""
    homes = choose.sample(range(1, NODES + 1), 2)
    victim = choose.randint(1, NODES)
    submits = {home: mesh.submit(home, tasks_of(number, batch)) for home in homes}
    time.sleep(choose.uniform(0, 0.5))
    mesh.kill(victim)
    for home, process in submits.items():
        try:
            stdout, stderr = process.communicate(timeout=60)
        except subprocess.TimeoutExpired as error:
            raise MeshError(f"round {number}: a submission to node {home} did not end") from error
        if process.returncode != 0 and home != victim:
            raise MeshError(f"round {number}: node {home}, not killed, refused a submission: {stderr.strip()}")
        ids = [answer["id"] for answer in map(json.loads, stdout.splitlines()) if "id" in answer]
        acknowledged[home].update(ids)
    mesh.restart(victim)
    print(f"round {number}: killed node {victim}, {sum(map(len, acknowledged.values()))} acknowledged", flush=True)


def tasks_of(number, batch):
    for index in range(batch):
        task = {"kind": "noop", "input": {"round": number, "index": index}}
        if index % SLEEP_EVERY == 0:
            task = {"kind": "sleep", "input": {"for": f"{SLEEP_MS}ms"}}
        yield task | {"retry": RETRY}


def settled(mesh):
    queues = [mesh.ask(number, "status")["queue"] for number in range(1, mesh.count + 1)]
    return not any(queue[state] for queue in queues for state in ("blocked", "delayed", "ready", "leased", "running"))


def listed(mesh, number, pages_max=None):
    """Every task of a node's home, or those of the first pages."""
    items, cursor, pages = [], None, 0
    while True:
        pages += 1
        page = mesh.ask(number, "task", "ls", "--limit", str(PAGE), *(["--cursor", cursor] if cursor else []))
        items += page["items"]
        cursor = page.get("next_cursor")
        if not cursor or pages == pages_max:
            return items


def verdict(acknowledged, tasks, statuses):
    """What is wrong, one sentence each; empty if every acknowledged task has one result."""
    wrong = []
    for number, ids in acknowledged.items():
        times = Counter(task["id"] for task in tasks[number])
        states = {task["id"]: task["state"] for task in tasks[number]}
        wrong += [f"{task} of node {number} is lost" for task in sorted(ids - set(states))]
        wrong += [
            f"{task} of node {number} is {states[task]}" for task in sorted(ids & set(states)) if states[task] != "succeeded"
        ]
        wrong += [f"{task} is there {count} times" for task, count in times.items() if count > 1]
        commits, results = statuses[number]["queue"]["succeeded"], sum(state == "succeeded" for state in states.values())
        if commits != results:
            wrong.append(f"node {number} counts {commits} commits for {results} results")
        if broken := statuses[number].get("invariant_violations", 0):
            wrong.append(f"node {number} counts {broken} broken invariants")
    return wrong


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"chaos: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
