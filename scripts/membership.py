#!/usr/bin/env python3
"""What five real nodes know of each other, in network namespaces, while they die, restart and are cut off.

    scripts/membership.py [--cut SECONDS] [--watch SECONDS] [--deaths N] [--slack TIMES] [--seed N] [--dir FOLDER]

Measures how long it takes until every node sees every other alive again: after a restart, a restart that knows its peers
from its cache alone, a cut, and a split in three; until a dead node is dead to all, also while a tenth of all packets is
lost; and whether any living node is held dead with that loss while one node has 5 % of a core. A figure beyond its bar,
times the slack that a machine with other work needs, fails the run. Without root or without namespaces it says so and ends.
"""

import argparse
import random
import re
import sys
import time

from mesh import MeshError, wait_until
from namespaces import NamespaceMesh, lacking, run

NODES = 5
EVERY_S = 0.1
PATIENCE_S = 60
HEAL_S_MAX, REJOIN_S_MAX, DEATH_S_MAX = 10, 5, 5
LOSS, SHARE_OF_CORE = 0.1, 0.05
DEAD = re.compile(r"membership\b.*\bstate=Dead\b")


class Meshwork(NamespaceMesh):
    """With the questions that this script asks."""

    def is_whole(self):
        return all(self.sees_all(number) for number in self.numbers())

    def numbers(self):
        return range(1, self.count + 1)

    def seconds_until(self, what, condition):
        began = time.monotonic()
        wait_until(what, PATIENCE_S, condition, every_s=EVERY_S)
        return time.monotonic() - began

    def seconds_until_whole(self):
        return self.seconds_until("not every node sees every other", self.is_whole)

    def peer_id(self, number):
        return self.ask(number, "status")["peer_id"]

    def holds_dead(self, number, peer_id):
        status = self.answers(number)
        return status and all(peer["state"] == "dead" for peer in status["peers"] if peer["peer_id"] == peer_id)

    def forget_bootstrap(self, number):
        file = self.node_folder(number) / "node.toml"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.startswith("bootstrap")))

    def lose(self, share):
        """Every node loses this share of the packets that come to it. False if this kernel cannot."""
        for number in self.numbers():
            rule = ["-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP"]
            try:
                run("ip", "netns", "exec", f"{self.tag}-{number}", "iptables", "-A", "INPUT", *rule)
            except MeshError as error:
                print(f"NO PACKET WAS LOST: {error}", file=sys.stderr)
                return False
        return True

    def deaths_logged(self):
        logs = (self.node_folder(number) / "node.log" for number in self.numbers())
        return sum(bool(DEAD.search(line)) for log in logs for line in log.read_text(errors="replace").splitlines())


class Report:
    def __init__(self, slack):
        self.slack = slack
        self.missed = []

    def row(self, what, value, bar, unit="s"):
        print(f"{what:<58} {value:8.2f} {unit}   at most {bar} {unit}", flush=True)
        if value > bar * self.slack:
            self.missed.append(f"{what}: {value:.2f} {unit} of at most {bar} {unit}")


def restarts(mesh, choose, report):
    victim = choose.choice(mesh.numbers())
    mesh.kill(victim)
    mesh.restart(victim)
    report.row("one restarted: all see all after it answers", mesh.seconds_until_whole(), HEAL_S_MAX)
    mesh.kill(victim)
    mesh.forget_bootstrap(victim)
    mesh.restart(victim)
    seconds = mesh.seconds_until("the restarted node does not see all", lambda: mesh.sees_all(victim))
    report.row("one restarted with its peer cache alone: it sees all", seconds, REJOIN_S_MAX)
    mesh.seconds_until_whole()


def deaths(mesh, choose, report, count, share=0):
    """Kills one after the other, while that share of all packets is lost."""
    lossy = share > 0 and mesh.lose(share)
    seconds = []
    for _ in range(count):
        victim = choose.choice(mesh.numbers())
        peer_id = mesh.peer_id(victim)
        others = [number for number in mesh.numbers() if number != victim]
        mesh.kill(victim)
        dead_to_all = lambda: all(mesh.holds_dead(number, peer_id) for number in others)  # noqa: E731
        seconds.append(mesh.seconds_until(f"node {victim} is not dead to all", dead_to_all))
        mesh.restart(victim)
        mesh.seconds_until_whole()
    mesh.heal()
    loss = f" with {share:.0%} loss" if lossy else ""
    report.row(f"{count} deaths{loss}: dead to all others, the slowest", max(seconds), DEATH_S_MAX)


def cuts(mesh, choose, report, cut_s):
    order = choose.sample(mesh.numbers(), NODES)
    for what, groups in {"one cut off": [order[:1], order[1:]], "split in three": [order[:2], order[2:4], order[4:]]}.items():
        mesh.part(groups)
        time.sleep(cut_s)
        if mesh.is_whole():
            raise MeshError(f"{what} for {cut_s} s, and still every node sees every other: nothing was cut")
        mesh.heal()
        report.row(f"{what} for {cut_s:.0f} s: all see all after it", mesh.seconds_until_whole(), HEAL_S_MAX)


def false_deaths(mesh, choose, report, watch_s):
    victim = choose.choice(mesh.numbers())
    starved = mesh.starve(victim, SHARE_OF_CORE)
    before = mesh.deaths_logged()
    lossy = mesh.lose(LOSS)
    time.sleep(watch_s)
    died = mesh.deaths_logged() - before
    mesh.heal()
    slow = f"one node at {SHARE_OF_CORE:.0%} CPU" if starved else "no node starved, there is no cpu group"
    report.row(f"{LOSS if lossy else 0:.0%} loss, {slow}, {watch_s:.0f} s: living nodes held dead", died, 0, "deaths")


def main():
    arguments = parse_arguments()
    if why := lacking():
        print(f"membership: SKIPPED, NOTHING WAS TESTED: this machine {why}", file=sys.stderr)
        return
    print(f"seed {arguments.seed}, {NODES} nodes", flush=True)
    choose, report = random.Random(arguments.seed), Report(arguments.slack)
    with Meshwork(NODES, arguments.dir) as mesh:
        restarts(mesh, choose, report)
        cuts(mesh, choose, report, arguments.cut)
        deaths(mesh, choose, report, arguments.deaths)
        deaths(mesh, choose, report, arguments.deaths, LOSS)
        false_deaths(mesh, choose, report, arguments.watch)
        if report.missed:
            raise MeshError(f"seed {arguments.seed}: " + "; ".join(report.missed))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cut", type=float, default=60)
    parser.add_argument("--watch", type=float, default=600)
    parser.add_argument("--deaths", type=int, default=20)
    parser.add_argument("--slack", type=float, default=1)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--dir", metavar="FOLDER", help="an empty folder for the nodes' data, which is then kept")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except MeshError as error:
        sys.exit(f"membership: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
