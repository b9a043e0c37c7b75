#!/usr/bin/env python3
"""Who runs what, counted: 2,000 tasks at 2, 3 and 8 nodes, submitted in several ways, with and without churn.

    scripts/ownership_table.py [--tasks N] [--nodes N,N] [--churn N] [--seed N]

The scheduler that Magpie replaces gave each task to whoever a hash named, and asked nobody: at 2, 3 and 8 nodes 44, 67
and 87 % of the tasks that were submitted to one node never ran, and of those that all nodes were told of up to 31 % ran
more than once. The rows and cells here are the same: never run / run once / run more than once, where a task counts as
run when its result is committed. Beside them stand the attempts that were started again because a node was killed.
"""

import argparse
import json
import random
import subprocess
import sys
import time

from chaos import RETRY, listed, settled
from mesh import Mesh, MeshError, wait_until

SETTLE_S_MAX = 120
# A node is killed so often, and as long after the last one was back.
CHURN_EVERY_S = 1.0
# Longer than the 50 ms after which a home hears that an attempt has started, and so long that kills find work under way.
SLEEP_MS = 80


def main():
    arguments = parse_arguments()
    choose = random.Random(arguments.seed)
    print(f"seed {arguments.seed}, {arguments.tasks} tasks, {arguments.churn} nodes killed and started again under churn")
    columns = ("submitted to one node", "spread over all", "to one, churn", "over all, churn")
    print("never run / run once / run more than once (attempts started again)")
    print(f"{'nodes':<7}" + "".join(f"{column:<28}" for column in columns), flush=True)
    wrong = []
    for count in arguments.nodes:
        cells = []
        for spread, churn in ((False, 0), (True, 0), (False, arguments.churn), (True, arguments.churn)):
            never, once, more, again = one_cell(count, spread, churn, arguments.tasks, choose)
            cells.append(f"{never} / {once} / {more} ({again})")
            if never or more:
                wrong.append(f"{count} nodes: {never} never ran, {more} ran more than once")
        print(f"{count:<7}" + "".join(f"{cell:<28}" for cell in cells), flush=True)
    if wrong:
        raise MeshError("; ".join(wrong))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--nodes", type=lambda text: [int(count) for count in text.split(",")], default=[2, 3, 8])
    parser.add_argument("--churn", type=int, default=5, help="how many nodes are killed and started again")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    return parser.parse_args()


def one_cell(count, spread, churn, tasks, choose):
    """(never run, run once, run more than once, attempts started again) of a mesh of its own."""
    with Mesh(count) as mesh:
        homes = list(range(1, count + 1)) if spread else [1]
        shares = {home: tasks // len(homes) + (place < tasks % len(homes)) for place, home in enumerate(homes)}
        ids = {home: submitted(mesh, home, share) for home, share in shares.items()}
        for _ in range(churn):
            time.sleep(CHURN_EVERY_S)
            victim = choose.randint(1, count)
            mesh.kill(victim)
            mesh.restart(victim)
        wait_until("not every task is terminal", SETTLE_S_MAX, lambda: settled(mesh), every_s=0.5)
        return counted(mesh, ids)


def submitted(mesh, home, count):
    """The acknowledged ids of `count` tasks."""
    task = {"kind": "sleep", "input": {"for": f"{SLEEP_MS}ms"}, "retry": RETRY}
    lines = "".join(json.dumps(task) + "\n" for _ in range(count))
    command = mesh.command(home, "task", "submit", "-", "-o", "json")
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=SETTLE_S_MAX)
    ids = {answer["id"] for answer in map(json.loads, done.stdout.splitlines()) if "id" in answer}
    if done.returncode != 0 or len(ids) != count:
        raise MeshError(f"node {home} acknowledged {len(ids)} of {count} tasks: {done.stderr.strip()}")
    return ids


def counted(mesh, ids):
    never, once, more, again = 0, 0, 0, 0
    for home, acknowledged in ids.items():
        tasks = {task["id"]: task for task in listed(mesh, home)}
        results = sum(tasks[task]["state"] == "succeeded" for task in acknowledged if task in tasks)
        never += len(acknowledged) - results
        # The home counts a commit each time that it makes one.
        commits = mesh.ask(home, "status")["queue"]["succeeded"]
        more += max(0, commits - results)
        once += results - max(0, commits - results)
        again += sum(task["attempts"] - 1 for task in tasks.values() if task["attempts"] > 1)
    return never, once, more, again


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"ownership table: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
