#!/usr/bin/env python3
"""Five real nodes in network namespaces under every fault at once, and a client that writes down what it sees.

    scripts/chaos_netns.py [--kills N] [--seed N] [--batch N] [--dir FOLDER]

Nodes are killed with `kill -9`, stand still for twice a lease (SIGSTOP), are cut off from each other in halves, one way
and three ways, and get a slow disk, while a client submits, reads and lists through all of them. Then the faults end, and
within 60 s every task must be terminal. scripts/history.py judges what was seen; a run that fails keeps its folder. The
seed repeats the choices, not the scheduling of the processes. Without root or without namespaces it says so and ends.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import history
from chaos import RETRY, listed, settled, verdict
from mesh import MeshError, wait_until
from namespaces import NamespaceMesh, lacking

NODES = 5
LEASE_S = 10
HEAL_S_MAX = 60
SUBMIT_S_MAX = 90
# One task in so many takes a while, and one in so many is a process that writes down when it starts.
SLEEP_EVERY, PROCESS_EVERY = 10, 7
OBSERVE_EVERY_S = 0.15
# Of a hundred rounds about so many have the fault as well; the others only kill. Each comes at least once where there are rounds for it.
FAULTS = {None: 66, "halves": 9, "one way": 9, "three ways": 6, "slow disk": 6, "pause": 4}
RUN = 'echo "$MAGPIE_TASK_ID $MAGPIE_EPOCH" >> {runs}; sleep 0.3; printf "epoch $MAGPIE_EPOCH"'


class Client:
    """Submits, reads and lists through every node, and keeps each call with its times."""

    def __init__(self, mesh, seed):
        self.mesh = mesh
        self.choose = random.Random(seed)
        self.began = time.monotonic()
        self.lock = threading.Lock()
        self.calls = []
        self.home_of = {}
        self.refused = Counter()
        self.over = threading.Event()
        self.failure = None
        self.observer = threading.Thread(target=self._observe, daemon=True)

    def now(self):
        return time.monotonic() - self.began

    def note(self, call, task, began, **seen):
        with self.lock:
            self.calls.append({"call": call, "task": task, "began": began, "ended": self.now(), **seen})

    def submit(self, home, number, batch):
        """The process of a submission, with when it began."""
        began = self.now()
        tasks = (self._task(number, index) | {"retry": RETRY} for index in range(batch))
        return self.mesh.submit(home, tasks), began

    def _task(self, number, index):
        if index % PROCESS_EVERY == 3:
            return {"kind": "process", "run": ["sh", "-c", RUN.format(runs=self.mesh.folder / "runs")]}
        if index % SLEEP_EVERY == 0:
            return {"kind": "sleep", "input": {"for": "150ms"}}
        return {"kind": "noop", "input": {"round": number, "index": index}}

    def acknowledged(self, home, process, began):
        """Waits for a submission, and notes what it acknowledged."""
        try:
            stdout, stderr = process.communicate(timeout=SUBMIT_S_MAX)
        except subprocess.TimeoutExpired as error:
            raise MeshError(f"a submission to node {home} did not end within {SUBMIT_S_MAX} s") from error
        answers = [json.loads(line) for line in stdout.splitlines()]
        for answer in answers:
            if "id" in answer:
                self.note("submit", answer["id"], began)
                self.home_of[answer["id"]] = home
        if process.returncode != 0:
            self.refused[why_not_all(process.returncode, answers, stderr)] += 1

    def _observe(self):
        try:
            while not self.over.wait(OBSERVE_EVERY_S):
                number = self.choose.randint(1, NODES)
                if self.choose.random() < 0.2:
                    self.list_all(number, pages_max=1)
                elif self.home_of:
                    self.read(number, self.choose.choice(list(self.home_of)))
        except Exception as error:  # noqa: BLE001: it is raised again where the run is judged.
            self.failure = error

    def read(self, number, task, timeout_s=15):
        """One task through any node; a call without an answer is none."""
        began = self.now()
        command = self.mesh.command(number, "task", "get", task, "-o", "json")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return
        if done.returncode == 0:
            self.saw(json.loads(done.stdout), began)
        elif done.returncode == 3:
            self.note("missing", task, began, through=number)

    def list_all(self, number, pages_max=None):
        began = self.now()
        try:
            for task in listed(self.mesh, number, pages_max):
                self.saw(task, began)
        except (MeshError, ValueError):
            pass  # Its node is away.

    def saw(self, task, began):
        self.note("observe", task["id"], began, state=task["state"], epoch=task["epoch"], output=task.get("output"))


def why_not_all(code, answers, stderr):
    """Why a submission ended with another exit code than 0: tasks that were refused say so in their place of the output."""
    refused = [answer["error"] for answer in answers if "error" in answer]
    words = stderr.strip().splitlines()[:1] or refused[:1] or ["no reason"]
    return f"exit code {code}: {words[0][:120]}"


class Storm:
    """The faults of a run, one round after the other."""

    def __init__(self, mesh, client, arguments):
        self.mesh = mesh
        self.client = client
        self.choose = random.Random(arguments.seed)
        self.batch = arguments.batch
        self.kills = 0
        self.faults = Counter()
        self.paused = None

    def deal(self, rounds):
        """What each round has besides a kill."""
        kinds = self.choose.sample(list(FAULTS), min(rounds, len(FAULTS)))
        dealt = kinds + self.choose.choices(list(FAULTS), FAULTS.values(), k=rounds - len(kinds))
        self.choose.shuffle(dealt)
        return dealt

    def round(self, number, fault):
        homes = self.choose.sample(range(1, NODES + 1), 2)
        submissions = [(home, *self.client.submit(home, number, self.batch)) for home in homes]
        time.sleep(self.choose.uniform(0, 0.6))
        undo = self.begin(fault) if fault else None
        victim = self.choose.choice([node for node in range(1, NODES + 1) if node != self.paused])
        self.mesh.kill(victim)
        self.kills += 1
        # Others may wait longer for it than its lease lasts.
        time.sleep(LEASE_S * 1.1 if number % 30 == 29 else self.choose.uniform(0, 0.3))
        self.mesh.restart(victim)
        if undo:
            undo(victim)
        for home, process, began in submissions:
            self.client.acknowledged(home, process, began)
        words = f", {fault}" if fault else ""
        print(f"round {number}: killed node {victim}{words}, {len(self.client.home_of)} acknowledged", flush=True)

    def begin(self, fault):
        """Starts a fault; what ends it is returned, and told which node was killed meanwhile."""
        self.faults[fault] += 1
        order = self.choose.sample(range(1, NODES + 1), NODES)
        if fault == "pause":
            return self.pause(order[0])
        if fault == "slow disk":
            node = order[0]
            if not self.mesh.slow_disk(node):
                self.faults["slow disk, not to be had here"] += 1
                return lambda _: None
            return lambda victim: None if victim == node else self.mesh.quick_disk(node)
        if fault == "one way":
            for source in order[:2]:
                for target in order[2:]:
                    self.mesh.cut(source, target)
        else:
            self.mesh.part([order[:2], order[2:]] if fault == "halves" else [order[:2], order[2:4], order[4:]])
        heal_after_s = self.choose.choice([0.5, 3, LEASE_S * 1.3])

        def heal(_):
            time.sleep(heal_after_s)
            self.mesh.heal()

        return heal

    def pause(self, node):
        """SIGSTOP for twice a lease: it comes back and believes that it still holds what it held."""
        self.paused = node
        self.mesh.signal(node, signal.SIGSTOP)
        until = time.monotonic() + 2 * LEASE_S

        def resume(_):
            time.sleep(max(0, until - time.monotonic()))
            self.mesh.signal(node, signal.SIGCONT)
            self.paused = None

        return resume


def main():
    arguments = parse_arguments()
    if why := lacking():
        print(f"chaos: SKIPPED, NOTHING WAS TESTED: this machine {why}", file=sys.stderr)
        return
    print(f"seed {arguments.seed}, {arguments.kills} kills, {NODES} nodes, {arguments.batch} tasks to each of two homes a round", flush=True)
    began = time.monotonic()
    with NamespaceMesh(NODES, arguments.dir) as mesh:
        client = Client(mesh, arguments.seed + 1)
        storm = Storm(mesh, client, arguments)
        client.observer.start()
        try:
            for number, fault in enumerate(storm.deal(arguments.kills), 1):
                storm.round(number, fault)
            healed_s = heal(mesh, client)
            judge(mesh, client)
        except MeshError as error:
            raise MeshError(f"seed {arguments.seed}: {error}") from error
        finally:
            client.over.set()
            (mesh.folder / "history.jsonl").write_text("".join(json.dumps(call) + "\n" for call in client.calls))
        report(mesh, client, storm, healed_s, time.monotonic() - began)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--dir", metavar="FOLDER", help="an empty folder for the nodes' data, which is then kept")
    return parser.parse_args()


def heal(mesh, client):
    """No more faults: every task is terminal within a minute. Returns how long it took."""
    mesh.heal()
    began = time.monotonic()
    wait_until("not every task is terminal", HEAL_S_MAX, lambda: settled(mesh), every_s=0.5)
    healed_s = time.monotonic() - began
    client.over.set()
    client.observer.join()
    if client.failure:
        raise MeshError(f"the client failed: {client.failure!r}")
    return healed_s


def judge(mesh, client):
    """Reads everything once more, and compares it with all that was seen before."""
    numbers = range(1, NODES + 1)
    for number in numbers:
        client.list_all(number)
    seen = {call["task"] for call in client.calls if call["call"] == "observe" and call.get("output") is not None}
    for task in client.choose.sample(sorted(seen), min(len(seen), 300)):
        client.read(client.choose.randint(1, NODES), task)
    wrong = history.check(client.calls) + history.check_runs(runs_of(mesh), client.calls)
    acknowledged = {number: {task for task, home in client.home_of.items() if home == number} for number in numbers}
    wrong += verdict(acknowledged, {number: listed(mesh, number) for number in numbers}, {n: mesh.ask(n, "status") for n in numbers})
    if wrong:
        raise MeshError(f"{len(wrong)} wrong: " + "; ".join(wrong[:20]))


def runs_of(mesh):
    """(task, epoch) of each start of a process, as the processes wrote them."""
    lines = (mesh.folder / "runs").read_text().splitlines() if (mesh.folder / "runs").exists() else []
    return [(task, int(epoch)) for task, epoch in (line.split() for line in lines)]


def report(mesh, client, storm, healed_s, took_s):
    calls = Counter(call["call"] for call in client.calls)
    statuses = [mesh.ask(number, "status") for number in range(1, NODES + 1)]
    fenced = sum(status["fenced_total"] for status in statuses)
    runs = runs_of(mesh)
    again = len(runs) - len({task for task, _ in runs})
    print(f"{storm.kills} kills, {', '.join(f'{count} {name}' for name, count in sorted(storm.faults.items())) or 'no other fault'}")
    print(f"{len(client.home_of)} tasks acknowledged, {calls['observe']} observations, {fenced} late messages refused")
    print(f"{len(runs)} processes ran, {again} of them again after their first worker was lost, no epoch twice")
    for reason, count in client.refused.most_common(5):
        print(f"{count} submissions were not taken whole: {reason}")
    print(f"healed in {healed_s:.1f} s; 0 lost, 0 committed twice, {took_s:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"chaos: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
