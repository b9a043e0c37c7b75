"""Nodes that know no address of each other meet by mDNS alone, on a network that has nobody else in it."""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("MAGPIE_BIN") or Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug")
MEET_S_MAX = 60
CONFIG = """
listen = ["/ip4/0.0.0.0/tcp/0"]
mdns = {mdns}
cluster_key = "{key}"
[inference]
enabled = false
"""


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
class Mdns(unittest.TestCase):
    def setUp(self):
        # A socket's path has room for 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="magpie-mdns-"))
        self.addCleanup(shutil.rmtree, self.folder)
        key = self.folder / "cluster.key"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32) + "\n")
        self.network = self.enterContext(Network())

    def start(self, name, mdns):
        config = self.folder / f"{name}.toml"
        config.write_text(CONFIG.format(mdns="true" if mdns else "false", key=self.folder / "cluster.key"))
        command = self.network.command(BIN / "node", "--config", config, "--data-dir", self.folder / name)
        log = self.enterContext((self.folder / f"{name}.log").open("wb"))
        node = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(node.wait)
        self.addCleanup(node.terminate)

    def peers(self, name):
        command = [BIN / "nodectl", "--control", self.folder / name / "control.sock", "peer", "ls", "-o", "json"]
        asked = subprocess.run(command, capture_output=True, text=True)
        listed = json.loads(asked.stdout)["items"] if asked.returncode == 0 else []
        return [peer for peer in listed if peer["state"] == "alive"]

    def meet(self, *names):
        end = time.monotonic() + MEET_S_MAX
        while not all(len(self.peers(name)) == len(names) - 1 for name in names):
            if time.monotonic() > end:
                logs = {name: (self.folder / f"{name}.log").read_text()[-2000:] for name in names}
                self.fail(f"{names} did not meet within {MEET_S_MAX} s: {logs}")
            time.sleep(0.1)

    def test_two_nodes_meet_by_mdns_alone(self):
        self.start("one", mdns=True)
        self.start("two", mdns=True)
        self.meet("one", "two")

    def test_a_node_without_mdns_is_not_found(self):
        self.start("silent", mdns=False)
        self.start("one", mdns=True)
        self.start("two", mdns=True)
        self.meet("one", "two")
        self.assertEqual(self.peers("silent"), [])


if __name__ == "__main__":
    unittest.main()
