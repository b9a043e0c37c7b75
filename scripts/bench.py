#!/usr/bin/env python3
"""Measures builds of the profile `dist`, or PROFILE, on this machine and prints one table with the limits that the project has set itself.

    scripts/bench.py [--only NAME,...]

Exit code 1 if a limit is broken. What is measured in CPU time or as a ratio means the same on a busy machine.
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
from pathlib import Path

from mesh import LoneNode, Mesh, MeshError, wait_until

SCRIPTS = Path(__file__).resolve().parent
# For those that look for the binaries, too.
PROFILE = os.environ.setdefault("PROFILE", "dist")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STARTS = 10
IDLE_S = 10
MESH_STARTS = 3
DISCOVERIES = 50
NOOPS = 50_000
SETTLE_S_MAX = 600


def main():
    arguments = parse_arguments()
    print(machine(), flush=True)
    broken = 0
    for name in arguments.only or MEASURES:
        what, limit, unit, at_least, measure = MEASURES[name]
        value, remark = measure()
        holds = value >= limit if at_least else value <= limit
        broken += not holds
        sign = ">=" if at_least else "<="
        print(
            f"{name:<10} {what:<52} {value:>9.4g} {sign} {limit:<6g} {unit:<6} "
            f"{'ok' if holds else 'BROKEN'}  {remark}".rstrip(),
            flush=True,
        )
    return 1 if broken else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help=", ".join(MEASURES))
    arguments = parser.parse_args()
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
    """CPU time of the three nodes and the submitting nodectl, per task."""
    with Mesh(3) as mesh:
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
        ["cargo", "run", "--quiet", "--profile", "sim", "-p", "magpie-sim", "--", "--seeds", "1..301"],
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


# name: (what, limit, unit, whether the limit is a least value, how)
MEASURES = {
    "start": ("node from exec to answering on its socket", 300, "ms", False, start_ms),
    "idle": ("resident memory of an idle node without a model", 40, "MiB", False, idle_mb),
    "ready": ("`nodectl dev 3` to ready", 5, "s", False, ready_s),
    "discover": ("`nodectl peer discover` with peers known", 5, "ms", False, discover_ms),
    "noop": (f"{NOOPS:,} no-ops, sync, three nodes: CPU per task", 0.03, "ms", False, lambda: noop_cpu_ms("sync")),
    "memory": (f"{NOOPS:,} no-ops, memory, three nodes: CPU per task", 0.015, "ms", False, lambda: noop_cpu_ms("memory")),
    "p50": ("a no-op elsewhere, alone, memory: p50 beside a TCP echo's", 4, "times", False, lambda: latency("alone", "p50")),
    "p99": ("a no-op elsewhere, alone, memory: p99 beside a TCP echo's", 8, "times", False, lambda: latency("alone", "p99")),
    "row-p50": ("no-ops elsewhere in a row: p50 beside echoes in a row", 4, "times", False, lambda: latency("in a row", "p50")),
    "row-p99": ("no-ops elsewhere in a row: p99 beside echoes in a row", 8, "times", False, lambda: latency("in a row", "p99")),
    "mcp-pipes": ("a tool's call over stdio, alone, beside a bare echo server's: p50", 2, "times", False, lambda: mcp_times("pipes alone")),
    "mcp-pipes-row": ("calls over stdio in a row beside the echo's: p50", 2, "times", False, lambda: mcp_times("pipes in a row")),
    "mcp-http": ("a tool's call over HTTP, alone, beside a bare echo server's: p50", 2, "times", False, lambda: mcp_times("http alone")),
    "mcp-http-row": ("calls over HTTP in a row beside the echo's: p50", 2, "times", False, lambda: mcp_times("http in a row")),
    "mcp-pipes-rate": ("16 calls at a time over stdio beside the echo's: calls/s", 0.5, "times", True, lambda: mcp_per_s("pipes")),
    "mcp-http-rate": ("16 calls at a time over HTTP beside the echo's: calls/s", 0.5, "times", True, lambda: mcp_per_s("http")),
    "mcp-at-once": ("200 sessions that call at the same moment: p99", 10, "ms", False, lambda: mcp_sessions_ms("at once")),
    "mcp-in-turn": ("200 sessions that call in turn: p99", 10, "ms", False, lambda: mcp_sessions_ms("in turn")),
    "mcp-start": ("node-mcp from exec to its list of tools", 50, "ms", False, lambda: mcp_start("first_list_ms")),
    "mcp-memory": ("node-mcp: resident", 15, "MiB", False, lambda: mcp_start("resident_mib")),
    "push": ("ready heap of a million: push p99", 20, "us", False, lambda: heap_p99_us("push")),
    "pop": ("ready heap of a million: pop p99", 20, "us", False, lambda: heap_p99_us("pop")),
    "placement": ("placements on one core", 20_000, "1/s", True, placement_per_s),
    "tick": ("Merkle clock of 1,000 ledgers: tick", 10, "us", False, lambda: clock_us("tick")),
    "merge": ("Merkle clock of 1,000 ledgers: merge, one newer", 100, "us", False, lambda: clock_us("merge_one_newer")),
    "root": ("Merkle clock of 1,000 ledgers: root", 1, "us", False, lambda: clock_us("root")),
    "commit": ("records/s with group commit beside one sync each", 10, "times", True, group_commit),
    "fan": ("workflow of 1 -> 998 -> 1 steps, memory", 0.5, "s", False, lambda: workflow_s("fan_1_998_1")),
    "chain": ("workflow of a chain of 1,000 steps, memory", 1, "s", False, lambda: workflow_s("chain_1000")),
    "large": ("workflow of 10,000 steps: more resident", 50, "MiB", False, workflow_of_10_000_mib),
    "look": ("look at one of 1,000 workflows in flight, p99", 20, "ms", False, look_p99_ms),
    "million": ("a million queued tasks of 256 B: resident", 1024, "MiB", False, million_mib),
    "replay": ("a million queued tasks: restart and replay, CPU", 20, "s", False, million_replay_s),
    "seeds": ("simulated seeds per CPU-second", 20, "1/s", True, seeds_per_cpu_s),
    "demo": ("the demo", 120, "s", False, demo_s),
    "chaos": ("lost or committed twice in 50 rounds of kill -9", 0, "tasks", False, chaos_wrong),
}

if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeshError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
