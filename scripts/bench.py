#!/usr/bin/env python3
"""Measures builds of the profile `dist`, or PROFILE, on this machine and prints one table with the limits that the project has set itself.

    scripts/bench.py [--only NAME,...]
    scripts/bench.py --short

Exit code 1 if a limit is broken. What is measured in CPU time or as a ratio means the same on a busy machine. The short form is for
CI: debug builds, fewer rounds, and for each row a limit of its own, two to four times what such a build takes: what breaks one has
become several times as slow.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from mesh import LoneNode, Mesh, MeshError, wait_until

SCRIPTS = Path(__file__).resolve().parent
SHORT = "--short" in sys.argv[1:]
# For those that look for the binaries, too.
PROFILE = os.environ.setdefault("PROFILE", "dev" if SHORT else "dist")
TASKS = 100_000 if SHORT else 1_000_000
os.environ["TASKS"] = str(TASKS)
if SHORT:
    # Of these the benchmarks have their own full measure.
    os.environ.update(ROUNDS="10", ROWS="200", CALLS="400", RUN_MS="500")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STARTS = 10
IDLE_S = 10
MESH_STARTS = 3
DISCOVERIES = 50
NOOPS = 5_000 if SHORT else 50_000
SETTLE_S_MAX = 600


def main():
    arguments = parse_arguments()
    print(machine(), flush=True)
    broken = 0
    every = [name for name, measure in MEASURES.items() if measure.bound is not None]
    for name in arguments.only or every:
        measure = MEASURES[name]
        value, remark = measure.how()
        holds = value >= measure.bound if measure.at_least else value <= measure.bound
        broken += not holds
        sign = ">=" if measure.at_least else "<="
        print(
            f"{name:<14} {measure.what:<66} {value:>9.4g} {sign} {measure.bound:<6g} {measure.unit:<6} "
            f"{'ok' if holds else 'BROKEN'}  {remark}".rstrip(),
            flush=True,
        )
    return 1 if broken else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help=", ".join(MEASURES))
    parser.add_argument("--short", action="store_true", help="debug builds, fewer rounds and limits of their own")
    arguments = parser.parse_args()
    if (left_out := [name for name in arguments.only or [] if name in MEASURES and MEASURES[name].bound is None]):
        parser.error(f"there is no limit for {', '.join(left_out)} in this form")
    if unknown := set(arguments.only or []) - set(MEASURES):
        parser.error(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    return arguments


def machine():
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, {date}, load {os.getloadavg()[0]:.1f} at start"


def start_ms():
    def one():
        with LoneNode() as node:
            return node.answered_s * 1000
    values = [one() for _ in range(STARTS)]
    return statistics.median(values), f"median of {STARTS}, nodectl's own start included, worst {max(values):.0f}"


def idle_mb():
    with LoneNode() as node:
        time.sleep(IDLE_S)
        status = Path(f"/proc/{node.process.pid}/status").read_text()
        kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return kb / 1024, f"VmRSS after {IDLE_S} s"


def ready_s():
    def one():
        began = time.monotonic()
        with Mesh(3):
            return time.monotonic() - began
    values = [one() for _ in range(MESH_STARTS)]
    return statistics.median(values), f"median of {MESH_STARTS}, worst {max(values):.1f}"


def demo_s():
    began = time.monotonic()
    done = subprocess.run([SCRIPTS / "demo.py"], capture_output=True, text=True)
    if done.returncode != 0:
        raise MeshError(f"the demo failed: {done.stderr.strip()}")
    return time.monotonic() - began, "all of it"


def discover_ms():
    with Mesh(3) as mesh:
        known = len(mesh.ask(1, "status")["peers"])

        def one():
            began = time.monotonic()
            command = mesh.command(1, "peer", "discover", "-o", "json")
            done = subprocess.run(command, capture_output=True, text=True, timeout=SETTLE_S_MAX, check=True)
            took_ms = (time.monotonic() - began) * 1000
            if len(json.loads(done.stdout)["contacts"]) < known:
                raise MeshError(f"it did not name {known} peers: {done.stdout}")
            return took_ms

        values = [one() for _ in range(DISCOVERIES)]
    return statistics.median(values), f"median of {DISCOVERIES}, nodectl's own start included, worst {max(values):.1f}"


def noop_cpu_ms(durability):
    """CPU time of the three nodes and the submitting nodectl, per task. The first is the home, the others run all."""
    with Mesh(3) as mesh:
        mesh.ask(1, "worker", "drain", "--wait")
        pids = [int((mesh.node_folder(number) / "pid").read_text()) for number in (1, 2, 3)]
        before, began = sum(map(cpu_s, pids)), time.monotonic()
        children_before = os.times().children_user + os.times().children_system
        done = subprocess.run(
            mesh.command(1, "task", "submit", "--kind", "noop", "--count", str(NOOPS),
                         "--durability", durability, "-o", "json"),
            capture_output=True, text=True, timeout=SETTLE_S_MAX,
        )
        submitter_s = os.times().children_user + os.times().children_system - children_before
        acknowledged = sum("id" in json.loads(line) for line in done.stdout.splitlines())
        if done.returncode != 0 or acknowledged != NOOPS:
            raise MeshError(f"{acknowledged} of {NOOPS} acknowledged, exit code {done.returncode}: {done.stderr.strip()}")
        wait_until(
            "not all are committed", SETTLE_S_MAX,
            lambda: mesh.ask(1, "status")["queue"]["succeeded"] == NOOPS, every_s=0.2,
        )
        took_s = time.monotonic() - began
        used_s = sum(map(cpu_s, pids)) - before + submitter_s
        home = mesh.ask(1, "status")["peer_id"]
        here = sum(task["worker"] == home for task in mesh.ask(1, "task", "ls", "--limit", "1000")["items"])
        if here:
            raise MeshError(f"the home ran {here} of the last 1000 tasks itself")
        return used_s / NOOPS * 1000, f"{NOOPS / took_s:,.0f} tasks/s"


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@functools.cache
def rows(bench):
    """What `cargo bench --bench NAME` printed: one JSON object a line."""
    done = subprocess.run(
        ["cargo", "bench", "--quiet", "--profile", PROFILE, "--bench", bench], cwd=SCRIPTS.parent, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise MeshError(f"the benchmark {bench} failed: {done.stderr.strip()[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def row(bench, **which):
    found = [row for row in rows(bench) if all(row.get(key) == value for key, value in which.items())]
    if len(found) != 1:
        raise MeshError(f"the benchmark {bench} printed {len(found)} rows with {which}")
    return found[0]


def latency(how, part):
    found = row("latency", what=how)
    echo, noop = (found[what][part] for what in ("echo_us", "noop_us"))
    nats = found["nats_us"]
    beside = f"NATS core {nats[part] / echo:.1f} times" if nats else "no nats-server here to run beside it"
    return noop / echo, f"{noop:.0f} us, the echo {echo:.0f} us; {beside}"


def noop_alone_ms():
    return row("latency", what="alone")["noop_us"]["p50"] / 1000, ""


def mcp_times(what):
    found = row("mcp", what=what)
    call, echo = found["call_us"], found["echo_us"]
    return found["ratio_p50"], f"{call['p50']:.0f} us, the echo {echo['p50']:.0f} us; p99 {call['p99']:.0f} and {echo['p99']:.0f}"


def mcp_per_s(what):
    found = row("mcp", what=f"{what} rate")
    return found["ratio_per_s"], f"{found['calls_per_s']:,} calls/s, the echo {found['echoes_per_s']:,}"


def mcp_sessions_ms(beat):
    found = row("mcp", what=f"sessions {beat}")
    call, bare = found["call_us"], found["echo_us"]
    return call["p99"] / 1000, f"ten calls a second each, p50 {call['p50'] / 1000:.1f} ms; the echo's p99 {bare['p99'] / 1000:.1f} ms"


def mcp_start(part):
    return row("mcp", what="start")[part], ""


def heap_p99_us(operation):
    ours = row("heap", heap="pairing", operation=operation)
    others = ", ".join(
        f"{found['heap']} {found['p99_ns'] / 1000:.2g}"
        for found in rows("heap") if found["operation"] == operation and found["heap"] != "pairing"
    )
    return ours["p99_ns"] / 1000, f"worst {ours['worst_us']:,.0f}; p99 of others: {others}"


def placement_per_s():
    few, many = rows("placement")
    return few["decisions_per_s"], f"in {many['namespaces']:,} namespaces {many['decisions_per_s']:,}"


def clock_us(what):
    found = row("clock")
    remark = f"all newer: {found['merge_all_newer_us']:,.0f}, signatures checked" if what == "merge_one_newer" else ""
    return found[f"{what}_us"], remark


def million_mib():
    found = row("million")
    return max(found["resident_mib"], found["resident_after_replay_mib"]), f"after a replay {found['resident_after_replay_mib']}"


def million_replay_s():
    found = row("million")
    return found["replay_cpu_s"], f"log of {found['log_mib']} MiB; submitted in {found['submit_cpu_s']} CPU s"


def group_commit():
    alone = row("log_commit", batch="sync 1")["records_per_s"]
    grouped = row("log_commit", batch="sync 10, not waiting")["records_per_s"]
    return grouped / alone, f"{grouped:,} records/s, one sync each {alone:,}"


def workflow_s(what):
    sync = row("workflows", what=what, **{"class": "sync"})
    return row("workflows", what=what, **{"class": "memory"})["s"], f"class sync {sync['s']} s"


def workflow_of_10_000_mib():
    found = row("workflows", what="fan_1_9998_1")
    return found["more_resident_mib"], f"done in {found['s']} s"


def look_p99_ms():
    found = row("workflows", what="in_flight_1000")
    return found["look_p99_ms"], f"{found['looks']:,} looks; all committed in {found['s']} s"


def seeds_per_cpu_s():
    done = subprocess.run(
        ["cargo", "run", "--quiet", "--profile", "sim", "-p", "sim", "--features", "canary", "--", "--seeds", "1..301"],
        cwd=SCRIPTS.parent, capture_output=True, text=True,
    )
    if done.returncode != 0:
        raise MeshError(f"the simulator failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    summary = next(line for line in done.stdout.splitlines() if "seeds/CPU s" in line)
    return float(summary.split("seeds/CPU s")[0].split()[-1]), summary


def chaos_wrong():
    done = subprocess.run([SCRIPTS / "chaos.py", "--rounds", "50"], capture_output=True, text=True)
    if done.returncode != 0:
        raise MeshError(f"the chaos run failed: {done.stdout.splitlines()[:1]} {done.stderr.strip()}")
    summary = done.stdout.splitlines()[-2:]
    return int(summary[1].split()[0]), summary[0]


@dataclass(frozen=True)
class Measure:
    """One row: what is measured, and how much of it there may be, or there must be at least."""

    what: str
    # None leaves the row out: a figure of the short form alone. An echo that happens to stay on its client's core takes a fifth of its
    # time, and what a debug build takes beside that says nothing.
    limit: float | None
    unit: str
    how: Callable
    # Of a debug build, in the short form; None if that leaves the row out.
    short: float | None
    at_least: bool = False

    @property
    def bound(self):
        return self.short if SHORT else self.limit


MEASURES = {
    "start": Measure("node from exec to answering on its socket", 300, "ms", start_ms, 300),
    "idle": Measure("resident memory of an idle node without a model", 40, "MiB", idle_mb, 150),
    "ready": Measure("`nodectl dev 3` to ready", 5, "s", ready_s, 5),
    "discover": Measure("`nodectl peer discover` with peers known", 5, "ms", discover_ms, 100),
    "noop": Measure(f"{NOOPS:,} no-ops, sync, run by two other nodes: CPU per task", 0.03, "ms", lambda: noop_cpu_ms("sync"), 0.6),
    "memory": Measure(f"{NOOPS:,} no-ops, memory, run by two other nodes: CPU per task", 0.015, "ms", lambda: noop_cpu_ms("memory"), 0.4),
    "p50": Measure("a no-op elsewhere, alone, memory: p50 beside a TCP echo's", 4, "times", lambda: latency("alone", "p50"), None),
    "p99": Measure("a no-op elsewhere, alone, memory: p99 beside a TCP echo's", 8, "times", lambda: latency("alone", "p99"), None),
    "row-p50": Measure("no-ops elsewhere in a row: p50 beside echoes in a row", 4, "times", lambda: latency("in a row", "p50"), None),
    "row-p99": Measure("no-ops elsewhere in a row: p99 beside echoes in a row", 8, "times", lambda: latency("in a row", "p99"), None),
    "alone": Measure("a no-op elsewhere, alone, memory: p50", None, "ms", noop_alone_ms, 10),
    "mcp-pipes": Measure("a tool's call over stdio, alone, beside a bare echo server's: p50", 2, "times", lambda: mcp_times("pipes alone"), 8),
    "mcp-pipes-row": Measure("calls over stdio in a row beside the echo's: p50", 2, "times", lambda: mcp_times("pipes in a row"), 9),
    "mcp-http": Measure("a tool's call over HTTP, alone, beside a bare echo server's: p50", 2, "times", lambda: mcp_times("http alone"), 5),
    "mcp-http-row": Measure("calls over HTTP in a row beside the echo's: p50", 2, "times", lambda: mcp_times("http in a row"), 5),
    "mcp-pipes-rate": Measure("16 calls at a time over stdio beside the echo's: calls/s", 0.5, "times", lambda: mcp_per_s("pipes"), 0.08, at_least=True),
    "mcp-http-rate": Measure("16 calls at a time over HTTP beside the echo's: calls/s", 0.5, "times", lambda: mcp_per_s("http"), 0.2, at_least=True),
    "mcp-at-once": Measure("200 sessions that call at the same moment: p99", 10, "ms", lambda: mcp_sessions_ms("at once"), 600),
    "mcp-in-turn": Measure("200 sessions that call in turn: p99", 10, "ms", lambda: mcp_sessions_ms("in turn"), 600),
    "mcp-start": Measure("node-mcp from exec to its list of tools", 50, "ms", lambda: mcp_start("first_list_ms"), 150),
    "mcp-memory": Measure("node-mcp: resident", 15, "MiB", lambda: mcp_start("resident_mib"), 75),
    "push": Measure(f"ready heap of {TASKS:,}: push p99", 20, "us", lambda: heap_p99_us("push"), 20),
    "pop": Measure(f"ready heap of {TASKS:,}: pop p99", 20, "us", lambda: heap_p99_us("pop"), 20),
    "placement": Measure("placements on one core", 20_000, "1/s", placement_per_s, 6_000, at_least=True),
    "tick": Measure("Merkle clock of 1,000 ledgers: tick", 10, "us", lambda: clock_us("tick"), 50),
    "merge": Measure("Merkle clock of 1,000 ledgers: merge, one newer", 100, "us", lambda: clock_us("merge_one_newer"), 700),
    "root": Measure("Merkle clock of 1,000 ledgers: root", 1, "us", lambda: clock_us("root"), 1),
    "commit": Measure("records/s with group commit beside one sync each", 10, "times", group_commit, 5, at_least=True),
    "fan": Measure("workflow of 1 -> 998 -> 1 steps, memory", 0.5, "s", lambda: workflow_s("fan_1_998_1"), 0.5),
    "chain": Measure("workflow of a chain of 1,000 steps, memory", 1, "s", lambda: workflow_s("chain_1000"), 2),
    "large": Measure("workflow of 10,000 steps: more resident", 50, "MiB", workflow_of_10_000_mib, 60),
    "look": Measure("look at one of 1,000 workflows in flight, p99", 20, "ms", look_p99_ms, 100),
    "million": Measure(f"{TASKS:,} queued tasks of 256 B: resident", 1024, "MiB", million_mib, 400),
    "replay": Measure(f"{TASKS:,} queued tasks: restart and replay, CPU", 20, "s", million_replay_s, 6),
    "seeds": Measure("simulated seeds per CPU-second", 20, "1/s", seeds_per_cpu_s, 15, at_least=True),
    "demo": Measure("the demo", 120, "s", demo_s, None),
    "chaos": Measure("lost or committed twice in 50 rounds of kill -9", 0, "tasks", chaos_wrong, None),
}

if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeshError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
