"""Nodes that know no address of each other meet by mDNS alone, on a network that has nobody else in it."""

import secrets
import subprocess
import unittest

from mesh import ALONE, MeshTest

MEET_S_MAX = 60
# The bar for five nodes, once all run.
FIVE_MEET_S_MAX = 10
LISTEN = "/ip4/0.0.0.0/tcp/0"


class Network:
    """A network namespace with one interface that leads nowhere."""

    def __enter__(self):
        self.name = f"magpie-{secrets.token_hex(4)}"
        self._ip("netns", "add", self.name)
        try:
            for command in ("link set lo up", "link add lan type bridge", "address add 10.9.8.7/24 dev lan",
                            "link set lan up multicast on", "route add 224.0.0.0/4 dev lan"):
                self._ip("-n", self.name, *command.split())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._ip("netns", "delete", self.name)

    def command(self, *words):
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    @staticmethod
    def _ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def can_make_networks():
    try:
        with Network():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@unittest.skipUnless(can_make_networks(), "MDNS IS NOT TESTED: it takes root, iproute2 and a kernel with bridges")
class Mdns(MeshTest):
    def setUp(self):
        super().setUp()
        self.before = self.enterContext(Network()).command()

    def test_two_nodes_meet_by_mdns_alone(self):
        self.start("one", mdns=True, listen=LISTEN, more=ALONE)
        self.start("two", mdns=True, listen=LISTEN, more=ALONE)
        self.meet("one", "two", seconds_max=MEET_S_MAX)

    def test_five_nodes_are_a_mesh_by_mdns_alone(self):
        names = ["one", "two", "three", "four", "five"]
        for name in names:
            self.start(name, mdns=True, listen=LISTEN, more=ALONE)
        for name in names:
            self.address(name)
        self.meet(*names, seconds_max=FIVE_MEET_S_MAX)

    def test_a_node_without_mdns_is_not_found(self):
        self.start("silent", mdns=False, listen=LISTEN, more=ALONE)
        self.start("one", mdns=True, listen=LISTEN, more=ALONE)
        self.start("two", mdns=True, listen=LISTEN, more=ALONE)
        self.meet("one", "two", seconds_max=MEET_S_MAX)
        self.assertEqual(self.peers("silent"), [])


if __name__ == "__main__":
    unittest.main()
