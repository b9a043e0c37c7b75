"""Two nodes behind a NAT each find each other by a relay, and a way through to each other without it."""

import secrets
import subprocess
import time
import unittest

from mesh import MeshTest

PORT = 4001
PUBLIC = "203.0.113"
MEET_S_MAX = 30
PUNCH_S_MAX = 60


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


FORWARD = "echo 1 > /proc/sys/net/ipv4/ip_forward"
MASQUERADE = "iptables -w -t nat -A POSTROUTING -o public -j MASQUERADE".split()
KNOWN = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT".split()


def can_translate():
    """Whether this machine makes network namespaces, links between them, and a NAT of the kinds that are tested."""
    space = f"mgn-{secrets.token_hex(4)}"
    try:
        run("ip", "netns", "add", space)
        try:
            for command in (
                ["ip", "link", "add", "lan", "type", "bridge"],
                ["ip", "link", "add", "one", "type", "veth", "peer", "name", "two"],
                ["sh", "-c", FORWARD],
                [*MASQUERADE, "--random-fully"],
                ["iptables", "-w", "-A", "FORWARD", *KNOWN],
            ):
                run("ip", "netns", "exec", space, *command)
        finally:
            run("ip", "netns", "del", space)
        return True
    except (OSError, subprocess.CalledProcessError):
        return False


@unittest.skipUnless(can_translate(), "NATS ARE NOT TESTED: it takes root, iproute2, iptables and a kernel with NAT")
class Nat(MeshTest):
    """A relay and two routers on one bridge; a node behind each router, which lets nothing in that nobody asked for."""

    def setUp(self):
        super().setUp()
        self.tag = f"mgn{secrets.token_hex(2)}"
        run("ip", "link", "add", self.tag, "type", "bridge")
        self.addCleanup(subprocess.run, ["ip", "link", "del", self.tag])
        run("ip", "link", "set", self.tag, "up")
        self.host("relay", f"{PUBLIC}.1")

    def space(self, name):
        return f"{self.tag}-{name}"

    def inside(self, name, *command):
        run("ip", "netns", "exec", self.space(name), *command)

    def add_space(self, name):
        run("ip", "netns", "add", self.space(name))
        self.addCleanup(subprocess.run, ["ip", "netns", "del", self.space(name)])
        self.inside(name, "ip", "link", "set", "lo", "up")

    def host(self, name, address):
        """A namespace on the bridge."""
        self.add_space(name)
        outer = f"{self.tag}-{address.split('.')[-1]}"
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", "public", "netns", self.space(name))
        run("ip", "link", "set", outer, "master", self.tag, "up")
        self.inside(name, "ip", "address", "add", f"{address}/24", "dev", "public")
        self.inside(name, "ip", "link", "set", "public", "up")

    def routers(self, *options):
        for number, name in enumerate(["left", "right"], 1):
            self.router(number, name, options)

    def router(self, number, name, options):
        router = f"{name}-router"
        self.host(router, f"{PUBLIC}.{10 + number}")
        self.add_space(name)
        run(
            "ip", "link", "add", "private", "netns", self.space(router),
            "type", "veth", "peer", "name", "eth0", "netns", self.space(name),
        )
        self.inside(router, "ip", "address", "add", f"192.168.{number}.1/24", "dev", "private")
        self.inside(router, "ip", "link", "set", "private", "up")
        self.inside(name, "ip", "address", "add", f"192.168.{number}.2/24", "dev", "eth0")
        self.inside(name, "ip", "link", "set", "eth0", "up")
        self.inside(name, "ip", "route", "add", "default", "via", f"192.168.{number}.1")
        self.inside(router, "sh", "-c", FORWARD)
        self.inside(router, *MASQUERADE, *options)
        for chain in ["FORWARD", "INPUT"]:
            self.inside(router, "iptables", "-w", "-A", chain, "-i", "public", *KNOWN)
            self.inside(router, "iptables", "-w", "-A", chain, "-i", "public", "-j", "DROP")

    def start_in(self, name, more):
        self.before = ["ip", "netns", "exec", self.space(name)]
        self.start(name, listen=f"/ip4/0.0.0.0/tcp/{PORT}", more=more)

    def way(self, name, to):
        """`direct`, `relay`, or nothing while they have not met."""
        peer = self.ask(to, "status")["peer_id"]
        found = [seen for seen in self.peers(name) if seen["peer_id"] == peer and seen["connected"]]
        return ("relay" if found[0]["relayed"] else "direct") if found else None

    def wait(self, what, seconds_max, condition):
        end = time.monotonic() + seconds_max
        while not condition():
            if time.monotonic() > end:
                logs = {name: self.log(name)[-3000:] for name in ["relay", "left", "right"]}
                self.fail(f"{what} within {seconds_max} s: {logs}")
            time.sleep(0.1)

    def meet_by_the_relay(self):
        """How long it took."""
        self.start_in("relay", "relay_for_members = true")
        self.address("relay")
        relay = self.ask("relay", "status")["peer_id"]
        began = time.monotonic()
        for name in ["left", "right"]:
            self.start_in(name, f'relay_via = ["/ip4/{PUBLIC}.1/tcp/{PORT}/p2p/{relay}"]')
        self.meet("relay", "left", "right", seconds_max=MEET_S_MAX)
        return time.monotonic() - began

    def ways(self):
        return [self.way("left", "right"), self.way("right", "left")]

    def test_two_nodes_behind_a_nat_each_meet_by_a_relay_and_then_without_it(self):
        self.routers()
        met_s = self.meet_by_the_relay()
        began = time.monotonic()
        self.wait("no way through the NATs", PUNCH_S_MAX, lambda: self.ways() == ["direct", "direct"])
        print(f"met after {met_s:.1f} s, without the relay {time.monotonic() - began:.1f} s later")

    def test_where_no_way_leads_through_the_nats_the_relay_stays_between(self):
        # Another port outside for each connection: nobody can know where to dial.
        self.routers("--random-fully")
        self.meet_by_the_relay()
        self.wait("no attempt to go through", PUNCH_S_MAX, lambda: "no way without the relay" in self.log("left", "right"))
        self.assertEqual(self.ways(), ["relay", "relay"])
        tasks = [self.ask("left", "task", "submit", "--kind", "sleep", "--input", '"200ms"') for _ in range(8)]
        ended = [self.ask("left", "task", "wait", task["id"]) for task in tasks]
        self.assertEqual({task["state"] for task in ended}, {"succeeded"})
        worker = self.ask("right", "status")["peer_id"]
        self.assertIn(worker, {task["worker"] for task in ended}, "work is shared by way of the relay")

    def log(self, *names):
        return "".join((self.folder / f"{name}.log").read_text() for name in names)


if __name__ == "__main__":
    unittest.main()
