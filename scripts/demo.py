#!/usr/bin/env python3
"""The main job, end to end: a workflow over real texts on three nodes, one of which is killed on the way.

    scripts/demo.py [--texts FOLDER] [--nodes N] [--kill NODE] [--max-passages N] [--dir FOLDER] [--down SECONDS]

Ends with exit code 0 only if every step has exactly one result for each of its items.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mesh import Mesh, MeshError, wait_until

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HOME = 1
RUN_S_MAX = 600
# The kill comes when this share of the passages has been embedded.
KILL_AFTER_SHARE = 0.2
STEPS = ["split", "embed", "questions", "index", "answer"]


def main():
    arguments = parse_arguments()
    began = time.monotonic()
    with Mesh(arguments.nodes, arguments.dir) as mesh:
        say(f"{arguments.nodes} nodes are ready in {time.monotonic() - began:.1f} s")
        peers = {mesh.ask(number, "status")["peer_id"]: number for number in range(1, arguments.nodes + 1)}
        require_inference(mesh)
        workflow = write_work_folder(mesh.folder / "work", Path(arguments.texts))
        began = time.monotonic()
        given = ["--input", f"max_passages={arguments.max_passages}"] if arguments.max_passages else []
        run = mesh.start(
            *mesh.command(HOME, "run", workflow, *given, "--wait", "--timeout", f"{RUN_S_MAX}s", "-o", "json"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        killed = kill_and_restart(mesh, arguments.kill, arguments.down, run)
        stdout, stderr = ended(run)
        took_s = time.monotonic() - began
        if run.returncode != 0:
            raise MeshError(f"`nodectl run` ended with {run.returncode}: {stderr.strip()}")
        result = json.loads(stdout)
        status = mesh.ask(HOME, "status")
        check(result, status)
        show(result, status, peers, arguments, killed, took_s)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", default="/usr/share/common-licenses", help="a folder of texts (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--kill", type=int, default=2, metavar="NODE", help="number of the node to kill (default: 2)")
    parser.add_argument("--down", type=float, default=3, metavar="SECONDS", help="until it is started again (default: 3)")
    parser.add_argument("--max-passages", type=int, metavar="N", help="default: as the example says")
    parser.add_argument("--dir", metavar="FOLDER", help="an empty folder for the nodes' data, which is then kept")
    arguments = parser.parse_args()
    if not Path(arguments.texts).is_dir():
        parser.error(f"{arguments.texts} is not a folder: give one with TEXTS=FOLDER")
    if not 1 < arguments.kill <= arguments.nodes:
        parser.error(f"--kill {arguments.kill}: node 1 takes the workflow, the others are 2 to {arguments.nodes}")
    return arguments


def say(text):
    print(text, flush=True)


def require_inference(mesh):
    """Waits for a device on every node: without one the workflow would wait for ever."""
    for number in range(1, mesh.count + 1):
        def ready():
            devices = mesh.ask(number, "status")["devices"]
            return any(device["state"] == "ready" for device in devices)
        try:
            wait_until("no device is ready", 60, ready, every_s=0.2)
        except MeshError as error:
            devices = mesh.ask(number, "status")["devices"]
            raise MeshError(f"node {number} offers no inference: {devices or 'no device'}; run `make build`") from error


def write_work_folder(folder, texts):
    """The workflow and its files beside a copy of the texts; links are followed."""
    folder.mkdir()
    for source in [EXAMPLES / "licences.yaml", *EXAMPLES.glob("*.py")]:
        shutil.copy(source, folder)
    shutil.copytree(texts, folder / "texts")
    return folder / "licences.yaml"


def kill_and_restart(mesh, number, down_s, run):
    """Kills the node while it holds running work, starts it again, and tells what happened."""
    began = time.monotonic()
    submitted = committed = 0

    def in_the_middle():
        nonlocal submitted, committed
        if run.poll() is not None:
            raise MeshError(f"the workflow ended after {committed} commits, before node {number} could be killed")
        queue = mesh.ask(HOME, "status")["queue"]
        committed = queue["succeeded"]
        submitted = sum(queue[state] for state in ("delayed", "ready", "leased", "running", "succeeded"))
        # `split` and the questions come first; the passages are there once there are many.
        return submitted > 20 and committed > KILL_AFTER_SHARE * submitted and busy(mesh, number)

    wait_until("the workflow is not in full swing", RUN_S_MAX, in_the_middle)
    pid = mesh.kill(number)
    at_s = time.monotonic() - began
    say(f"kill -9 {pid}: node {number} is gone at {at_s:.1f} s, {committed} of {submitted} tasks committed")
    time.sleep(down_s)
    restarted = time.monotonic()
    mesh.restart(number)
    say(f"node {number} is back on its data after {time.monotonic() - restarted:.1f} s")
    return {"number": number, "at_s": at_s, "committed": committed}


def ended(run):
    try:
        return run.communicate(timeout=RUN_S_MAX + 30)
    except subprocess.TimeoutExpired as error:
        raise MeshError(f"`nodectl run` outlived its timeout of {RUN_S_MAX} s") from error


def busy(mesh, number):
    worker = mesh.ask(number, "status").get("worker") or {}
    return worker.get("running", 0) > 0


def check(result, status):
    """Refuses anything but one committed result for each item of each step."""
    wrong = []
    steps = {step["name"]: step for step in result["steps"]}
    if result["state"] != "succeeded":
        wrong.append(f"the workflow is {result['state']}")
    if list(steps) != STEPS:
        wrong.append(f"the steps are {', '.join(steps)}")
    outputs = result.get("outputs") or {}
    answers = outputs.get("answers") or []
    expected = {"split": 1, "embed": outputs.get("passages"), "questions": len(answers), "index": 1, "answer": 1}
    for name, step in steps.items():
        counts = {state: count for state, count in step["tasks"].items() if count}
        if counts != {"succeeded": expected[name]}:
            wrong.append(f"{name}: {expected[name]} results expected, its tasks are {counts}")
        if sum(step["workers"].values()) != expected[name]:
            wrong.append(f"{name}: the workers committed {step['workers']}")
    queue = status["queue"]
    if queue["succeeded"] != sum(count or 0 for count in expected.values()):
        wrong.append(f"the home counts {queue['succeeded']} commits")
    if len(answers) != 3 or any(len(answer["found"]) != 3 for answer in answers):
        wrong.append("there are not three answers with three passages each")
    if wrong:
        raise MeshError("; ".join(wrong))


def show(result, status, peers, arguments, killed, took_s):
    tasks_by_peer = {peer: 0 for peer in peers}
    for step in result["steps"]:
        for peer, count in step["workers"].items():
            tasks_by_peer[peer] += count
    rows = [("node", "tasks run", "of them stolen", "")]
    for peer, number in sorted(peers.items(), key=lambda entry: entry[1]):
        remark = "home" if number == HOME else ""
        if number == killed["number"]:
            remark = f"killed at {killed['at_s']:.1f} s, back {arguments.down:g} s later"
        run = tasks_by_peer[peer]
        rows.append((f"node-{number}", run, 0 if number == HOME else run, remark))
    commits = sum(tasks_by_peer.values())
    attempts = sum(step["attempts"] for step in result["steps"])
    passages = result["outputs"]["passages"]
    say("")
    for name, run, stolen, remark in rows:
        say(f"  {name:<8}{run:>10}{stolen:>16}  {remark}".rstrip())
    say("")
    say(f"  {commits} tasks, {commits} commits, {attempts} attempts, {status['fenced_total']} late messages refused")
    say(f"  {passages} passages of {arguments.texts} in {took_s:.1f} s, each with exactly one result")
    for answer in result["outputs"]["answers"]:
        say(f"\n{answer['question']}")
        for found in answer["found"]:
            say(f"  {found['score']:.2f}  {found['file']}:{found['line']}  {shortened(found['text'])}")


def shortened(text, width=96):
    return text if len(text) <= width else text[: width - 3].rsplit(" ", 1)[0] + "..."


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
