"""Five real nodes are a complete mesh within ten seconds by each way alone, the others off.

mDNS has a file of its own; what needs no process of its own is in crates/net/tests.
"""

import shutil
import subprocess
import unittest

from mesh import ALONE, BIN, MeshTest

MEET_S_MAX = 10
NAMES = ["one", "two", "three", "four", "five"]


class Environment(MeshTest):
    def test_five_nodes_are_a_mesh_by_what_the_environment_says(self):
        known = []
        for name in NAMES:
            self.start(name, more=ALONE, environment={"MAGPIE_BOOTSTRAP": ", ".join(known)})
            known.append(self.address(name))
        self.meet(*NAMES, seconds_max=MEET_S_MAX)

    def test_a_peer_file_that_the_environment_names_leads_to_its_peers(self):
        peers = self.folder / "peers"
        for name in NAMES:
            self.start(name, more=ALONE, environment={"MAGPIE_PEER_FILE": str(peers)})
        addresses = [self.address(name) for name in NAMES]
        peers.write_text("\n".join(addresses) + "\n")
        self.meet(*NAMES, seconds_max=MEET_S_MAX)

    def test_a_wrong_address_ends_the_start_in_a_sentence(self):
        command = [BIN / "node", "--data-dir", self.folder / "wrong"]
        ended = subprocess.run(command, env={"MAGPIE_BOOTSTRAP": "node-1:7400"}, capture_output=True, text=True)
        self.assertEqual(ended.returncode, 2)
        self.assertTrue(ended.stderr.startswith('node: MAGPIE_BOOTSTRAP: "node-1:7400" is not a multiaddr'), ended)


class Protocols(MeshTest):
    def test_five_nodes_are_a_mesh_by_a_rendezvous_point(self):
        point, *others = NAMES
        self.start(point, more=f"{ALONE}\nrendezvous_point = true")
        address = self.address(point)
        for name in others:
            self.start(name, more=f'{ALONE}\nrendezvous = ["{address}"]')
        for name in others:
            self.address(name)
        self.meet(*NAMES, seconds_max=MEET_S_MAX)

    def test_five_nodes_of_which_each_knows_the_one_before_are_a_mesh_by_kademlia(self):
        known = ""
        for name in NAMES:
            self.start(name, more=f"{ALONE}\nkademlia = true\nbootstrap = [{known}]")
            known = f'"{self.address(name)}"'
        self.meet(*NAMES, seconds_max=MEET_S_MAX)


def can_name_hosts():
    return shutil.which("unshare") and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


@unittest.skipUnless(can_name_hosts(), "A NAME OF FIVE NODES IS NOT TESTED: it takes root and util-linux")
class Dns(MeshTest):
    """The name stands in a hosts file that only these nodes see."""

    PORT = 7461

    def setUp(self):
        super().setUp()
        hosts = self.folder / "hosts"
        lines = [f"127.0.0.{place} magpie-headless" for place in range(1, 1 + len(NAMES))]
        hosts.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")
        self.before = ["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]

    def test_five_nodes_are_a_mesh_by_one_name(self):
        for place, name in enumerate(NAMES, 1):
            listen = f"/ip4/127.0.0.{place}/tcp/{self.PORT}"
            self.start(name, listen=listen, more=f'dns = ["magpie-headless:{self.PORT}"]\n{ALONE}')
        for name in NAMES:
            self.address(name)
        self.meet(*NAMES, seconds_max=MEET_S_MAX)


if __name__ == "__main__":
    unittest.main()
