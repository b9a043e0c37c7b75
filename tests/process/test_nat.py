"""Nodes behind NATs find each other by a relay, and a way through to each other without it; and each node knows where it
can be reached, and tells no more."""

import json
import secrets
import subprocess
import sys
import time
import unittest
from pathlib import Path

from mesh import ALONE, BIN, MeshTest

PORT = 4001
PUBLIC = "203.0.113"
MEET_S_MAX = 30
# A dial back that nothing answers ends after 5 s, and is tried again later.
REACH_S_MAX = 60
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
                logs = {path.stem: path.read_text()[-3000:] for path in self.folder.glob("*.log")}
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

    def test_what_stood_between_them_once_may_let_them_through_another_time(self):
        self.routers()
        walls = [("left", f"{PUBLIC}.12"), ("right", f"{PUBLIC}.11")]
        no_entry = "-p tcp -j REJECT --reject-with tcp-reset".split()
        for name, other in walls:
            self.inside(f"{name}-router", "iptables", "-w", "-I", "FORWARD", "-d", other, *no_entry)
        self.meet_by_the_relay()
        self.wait("no attempt to go through", PUNCH_S_MAX, lambda: "no way without the relay" in self.log("left", "right"))
        self.assertEqual(self.ways(), ["relay", "relay"])
        for name, other in walls:
            self.inside(f"{name}-router", "iptables", "-w", "-D", "FORWARD", "-d", other, *no_entry)
        began = time.monotonic()
        self.wait("not tried again", PUNCH_S_MAX, lambda: self.ways() == ["direct", "direct"])
        print(f"without the relay {time.monotonic() - began:.1f} s after the walls had gone")

    def forward(self, number, name):
        """The router of `name` lets its port through, for TCP alone."""
        router, inner = f"{name}-router", f"192.168.{number}.2"
        port = f"-p tcp --dport {PORT}".split()
        to_it = ["-j", "DNAT", "--to-destination", f"{inner}:{PORT}"]
        self.inside(router, "iptables", "-w", "-t", "nat", "-A", "PREROUTING", "-i", "public", *port, *to_it)
        self.inside(router, "iptables", "-w", "-I", "FORWARD", "-i", "public", "-d", inner, *port, "-j", "ACCEPT")

    def offer_upnp(self, number, name):
        """The router of `name` offers UPnP; it is the port of the public side that is let in."""
        router, script = f"{name}-router", Path(__file__).with_name("upnp_router.py")
        words = [sys.executable, script, f"192.168.{number}.1", f"{PUBLIC}.{10 + number}"]
        log = (self.folder / f"{router}.log").open("w")
        self.addCleanup(log.close)
        process = subprocess.Popen(["ip", "netns", "exec", self.space(router), *words], stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait("the router does not offer it", MEET_S_MAX, lambda: "offered" in self.log(router))

    def start_public(self, name, more=""):
        """Its address."""
        self.start_in(name, more)
        self.address(name)
        return f"/ip4/{PUBLIC}.1/tcp/{PORT}"

    def checks(self, name, of):
        """What the doctor says of one matter: the verdict, what was found and what to do."""
        words = ["doctor", "--config", self.folder / f"{name}.toml", "--data-dir", self.folder / name, "-o", "json"]
        asked = subprocess.run([BIN / "nodectl", *words], capture_output=True, text=True)
        checks = json.loads(asked.stdout)["checks"]
        return [(check["verdict"], check["found"], check["remedy"] or "") for check in checks if check["name"] == of]

    def waits_for(self, name, verdict, found, remedy="", of="reachability"):
        def is_found():
            return any(
                said == verdict and found in words and remedy in do for said, words, do in self.checks(name, of)
            )

        self.wait(f"{name} does not know that it is so: {found!r}", REACH_S_MAX, is_found)

    def known(self, name, of):
        """The addresses that one node knows of another."""
        contacts = (self.ask(name, "peer", "get", self.ask(of, "status")["peer_id"]) or {"contacts": []})["contacts"]
        return {at["address"] for contact in contacts for at in contact["addresses"]}

    def test_a_node_that_nobody_gets_to_knows_it_and_tells_nobody_beyond_its_site_where_it_is(self):
        self.routers()
        bootstrap = self.start_public("relay")
        self.start_in("left", f'bootstrap = ["{bootstrap}"]')
        self.meet("relay", "left", seconds_max=MEET_S_MAX)
        self.waits_for("left", "warning", f"did not get to /ip4/{PUBLIC}.11/tcp/{PORT} (nothing came back")
        self.waits_for("relay", "ok", f"members dialled it back at /ip4/{PUBLIC}.1/tcp/{PORT}")
        self.assertEqual(self.known("relay", "left"), set())

    def test_a_port_that_a_router_forwards_is_found_out_and_told_to_others(self):
        self.routers()
        self.forward(1, "left")
        bootstrap = self.start_public("relay")
        self.start_in("left", f'bootstrap = ["{bootstrap}"]')
        forwarded = f"/ip4/{PUBLIC}.11/tcp/{PORT}"
        self.waits_for("left", "ok", f"members dialled it back at {forwarded}")
        self.wait("the relay does not hear of it", REACH_S_MAX, lambda: self.known("relay", "left") == {forwarded})
        # Behind another NAT: it hears of it by a member, and dials it there.
        self.start_in("right", f'bootstrap = ["{bootstrap}"]')
        self.wait("they do not meet", MEET_S_MAX, lambda: self.way("right", "left") == "direct")
        self.assertEqual(self.known("right", "left"), {forwarded})

    def test_a_router_that_is_asked_by_upnp_lets_others_in(self):
        self.routers()
        self.offer_upnp(1, "left")
        bootstrap = self.start_public("relay")
        self.start_in("left", f'upnp = true\nbootstrap = ["{bootstrap}"]')
        let_in = f"/ip4/{PUBLIC}.11/tcp/{PORT}"
        self.waits_for("left", "ok", f"members dialled it back at {let_in}")
        self.assertIn("AddPortMapping TCP", self.log("left-router"))
        self.start_in("right", f'bootstrap = ["{bootstrap}"]')
        self.wait("they do not meet", REACH_S_MAX, lambda: self.way("right", "left") == "direct")
        self.assertEqual(self.known("right", "left"), {let_in})

    def test_a_node_whose_router_offers_no_upnp_says_so_and_goes_on(self):
        self.routers()
        bootstrap = self.start_public("relay")
        self.start_in("left", f'upnp = true\nbootstrap = ["{bootstrap}"]')
        self.meet("relay", "left", seconds_max=MEET_S_MAX)
        self.wait("the node does not say so", REACH_S_MAX, lambda: "no router answers" in self.log("left"))

    def test_members_of_a_table_find_each_other_by_who_was_dialled_back(self):
        self.routers()
        self.forward(1, "left")
        table = f"{ALONE}\nkademlia = true"
        bootstrap = self.start_public("relay", table)
        self.start_in("left", f'bootstrap = ["{bootstrap}"]\n{table}')
        for name in ["relay", "left"]:
            self.waits_for(name, "ok", "members dialled it back at")
        self.start_in("right", f'bootstrap = ["{bootstrap}"]\n{table}')
        self.wait("they do not meet", REACH_S_MAX, lambda: self.way("right", "left") == "direct")

    def test_an_address_that_is_named_wrongly_is_told_as_it_is_and_warned_of(self):
        self.routers()
        bootstrap, named = self.start_public("relay"), f"/ip4/{PUBLIC}.11/tcp/{PORT}"
        self.start_in("left", f'bootstrap = ["{bootstrap}"]\nexternal = ["{named}"]')
        self.waits_for("left", "warning", f"members do not get to the named address {named}")
        self.wait("the relay does not hear of it", REACH_S_MAX, lambda: self.known("relay", "left") == {named})

    def walled(self):
        """A host with a firewall of its own, which lets nobody in, and says nothing to who tries."""
        self.host("walled", f"{PUBLIC}.21")
        self.inside("walled", "iptables", "-w", "-A", "INPUT", "-i", "public", *KNOWN)
        self.inside("walled", "iptables", "-w", "-A", "INPUT", "-i", "public", "-j", "DROP")

    def test_a_named_peer_behind_a_firewall_is_a_fault_with_what_to_do(self):
        self.walled()
        self.start_in("walled", "")
        self.host("plain", f"{PUBLIC}.31")
        self.start_in("plain", f'bootstrap = ["/ip4/{PUBLIC}.21/tcp/{PORT}"]')
        # Without a node the doctor would knock by itself, from where it runs.
        self.address("plain")
        found = f"no peer at /ip4/{PUBLIC}.21/tcp/{PORT}: "
        self.waits_for("plain", "fault", found, remedy="a firewall drops it", of="bootstrap")

    def test_a_public_address_behind_a_firewall_is_not_told(self):
        bootstrap = self.start_public("relay")
        self.walled()
        self.start_in("walled", f'bootstrap = ["{bootstrap}"]')
        self.meet("relay", "walled", seconds_max=MEET_S_MAX)
        self.waits_for("walled", "warning", f"did not get to /ip4/{PUBLIC}.21/tcp/{PORT}")
        self.assertEqual(self.known("relay", "walled"), set())

    def log(self, *names):
        return "".join((self.folder / f"{name}.log").read_text() for name in names)


if __name__ == "__main__":
    unittest.main()
