#!/usr/bin/env python3
"""Two stories about leases, on real nodes: a worker that comes back too late, and a long task on a starved machine.

    scripts/scenarios.py [--dir FOLDER]

A worker stands still (SIGSTOP) until others have done its tasks. When it goes on, one of its processes has ended and the
other still runs: the stale outcome and the stale lease are refused and counted, the process is killed, and the results
stay. Then a task that takes four leases runs on nodes that get a fraction of a core each, beside busy loops: once.
Without root or without namespaces it says so and ends.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mesh import MeshError, wait_until
from namespaces import NamespaceMesh, lacking

NODES = 3
LEASE_S = 10
CANDIDATES = 8
SHARE_OF_A_CORE = 0.15
WAIT_S_MAX = 150
# The first attempt waits, every later one ends at once; each writes down that it started.
RUN = (
    'echo "$MAGPIE_TASK_ID $MAGPIE_EPOCH $$" >> {folder}/runs; '
    'if mkdir "{folder}/first-$MAGPIE_TASK_ID" 2>/dev/null; then sleep {first_s}; fi; printf "epoch $MAGPIE_EPOCH"'
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", metavar="FOLDER", help="an empty folder for the nodes' data, which is then kept")
    arguments = parser.parse_args()
    if why := lacking():
        print(f"scenarios: SKIPPED, NOTHING WAS TESTED: this machine {why}", file=sys.stderr)
        return
    with NamespaceMesh(NODES, arguments.dir, slots=8) as mesh:
        a_worker_that_comes_back_too_late(mesh)
        a_task_of_four_leases_on_a_starved_machine(mesh)


def a_worker_that_comes_back_too_late(mesh):
    """Pauses a worker until its leases are others', and lets it go on."""
    before = mesh.ask(1, "status")["fenced_total"]
    ending = [submit(mesh, LEASE_S * 0.6) for _ in range(CANDIDATES)]
    staying = [submit(mesh, 600) for _ in range(CANDIDATES)]
    wait_until("the attempts do not start", 30, lambda: len(runs(mesh)) == 2 * CANDIDATES)
    workers = {task: mesh.ask(1, "task", "get", task)["worker"] for task in ending + staying}
    peers = {mesh.ask(number, "status")["peer_id"]: number for number in range(2, NODES + 1)}
    worker = next((number for peer, number in peers.items() if has_both(peer, workers, ending, staying)), None)
    expect(worker, f"no worker but the home got tasks of both kinds: {workers}")
    theirs = [task for task, peer in workers.items() if peers.get(peer) == worker]
    for task in set(staying) - set(theirs):
        mesh.ask(1, "task", "cancel", task)
    mesh.signal(worker, signal.SIGSTOP)
    wait_until("its tasks are not done by others", 4 * LEASE_S, lambda: all(state(mesh, task) == "succeeded" for task in theirs))
    results = {task: mesh.ask(1, "task", "get", task) for task in theirs}
    pids = [pid for task, _, pid in runs(mesh) if task in theirs and task in staying]
    left = [pid for pid in pids if is_alive(pid)]
    expect(left, "the paused worker's processes are gone before it could kill them")
    mesh.signal(worker, signal.SIGCONT)
    wait_until("the stale processes are not killed", 30, lambda: not any(is_alive(pid) for pid in left))
    fenced = lambda: mesh.ask(1, "status")["fenced_total"] - before  # noqa: E731
    wait_until("not every stale message is refused", 30, lambda: fenced() >= len(theirs))
    for task in theirs:
        epochs = {epoch for run, epoch, _ in runs(mesh) if run == task}
        expect(mesh.ask(1, "task", "get", task) == results[task], f"the result of {task} changed")
        expect(len(epochs) == 2 == results[task]["attempts"], f"{task} ran in epochs {epochs}: {results[task]}")
        expect(results[task]["output"] == f"epoch {results[task]['epoch']}", f"{task} has another epoch's result")
    ended = sum(task in ending for task in theirs)
    print(
        f"a worker that comes back too late: {ended} stale outcomes and {len(theirs) - ended} stale leases, {fenced()} "
        f"messages refused, {len(left)} processes killed, no result changed",
        flush=True,
    )


def a_task_of_four_leases_on_a_starved_machine(mesh):
    """Gives each node a fraction of a core beside busy loops; renewals must come through all the same."""
    limited = all([mesh.starve(number, SHARE_OF_A_CORE) for number in range(1, NODES + 1)])
    loops = [mesh.start(sys.executable, "-c", "while True: pass") for _ in range(2 * os.cpu_count())]
    before = {number: mesh.ask(number, "status")["fenced_total"] for number in range(1, NODES + 1)}
    tasks = [submit(mesh, 4 * LEASE_S) for _ in range(NODES)]
    began = time.monotonic()
    wait_until("the long tasks do not end", WAIT_S_MAX, lambda: all(state(mesh, task) == "succeeded" for task in tasks), every_s=1)
    for task in tasks:
        shown = mesh.ask(1, "task", "get", task)
        starts = [run for run in runs(mesh) if run[0] == task]
        expect(shown["attempts"] == 1 == len(starts), f"{task} started {len(starts)} times: {shown}")
    for loop in loops:
        loop.kill()
    fenced = sum(mesh.ask(number, "status")["fenced_total"] - before[number] for number in before)
    expect(fenced == 0, f"{fenced} messages were refused")
    how = f"{SHARE_OF_A_CORE} of a core for each node and " if limited else "no cpu group here, so only "
    print(
        f"a task of four leases on a starved machine: {how}{len(loops)} busy loops, {len(tasks)} tasks of {4 * LEASE_S} s "
        f"ran once each, in {time.monotonic() - began:.0f} s",
        flush=True,
    )


def has_both(peer, workers, ending, staying):
    return any(workers[task] == peer for task in ending) and any(workers[task] == peer for task in staying)


def submit(mesh, first_s):
    task = {"kind": "process", "run": ["sh", "-c", RUN.format(folder=mesh.folder, first_s=first_s)]}
    command = mesh.command(1, "task", "submit", "-", "-o", "json")
    done = subprocess.run(command, input=json.dumps(task) + "\n", capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout or "{}")
    expect("id" in answer, f"a task was refused: {done.stdout}{done.stderr}")
    return answer["id"]


def state(mesh, task):
    return mesh.ask(1, "task", "get", task)["state"]


def runs(mesh):
    """(task, epoch, process id) of each attempt that started."""
    path = mesh.folder / "runs"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(task, int(epoch), int(pid)) for task, epoch, pid in lines]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def expect(holds, otherwise):
    if not holds:
        raise MeshError(otherwise)


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"scenarios: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
