"""Real nodes in directories of their own, that find each other by the one way that a test leaves them."""

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
# In a configuration: members tell each other nothing by themselves.
ALONE = "members = false"
CONFIG = """
listen = ["{listen}"]
mdns = {mdns}
cluster_key = "{key}"
{more}
[inference]
enabled = false
"""


class MeshTest(unittest.TestCase):
    """Words that a test puts before each node's command go in `before`."""

    before = ()

    def setUp(self):
        # A socket's path has room for 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="magpie-mesh-"))
        self.addCleanup(shutil.rmtree, self.folder)
        key = self.folder / "cluster.key"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32) + "\n")

    def start(self, name, *, mdns=False, listen="/ip4/127.0.0.1/tcp/0", more="", environment=None):
        config = self.folder / f"{name}.toml"
        key = self.folder / "cluster.key"
        config.write_text(CONFIG.format(listen=listen, mdns="true" if mdns else "false", key=key, more=more))
        command = [*self.before, BIN / "node", "--config", config, "--data-dir", self.folder / name]
        log = self.enterContext((self.folder / f"{name}.log").open("wb"))
        variables = {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")}
        variables |= environment or {}
        node = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables)
        self.addCleanup(node.wait)
        self.addCleanup(node.terminate)

    def ask(self, name, *words):
        command = [BIN / "nodectl", "--control", self.folder / name / "control.sock", *words, "-o", "json"]
        asked = subprocess.run(command, capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else None

    def peers(self, name):
        listed = self.ask(name, "peer", "ls") or {"items": []}
        return [peer for peer in listed["items"] if peer["state"] == "alive"]

    def address(self, name, seconds_max=30):
        """Where the node listens, as soon as it does."""
        end = time.monotonic() + seconds_max
        while not (status := self.ask(name, "status")) or not status["listen"]:
            self.assertLess(time.monotonic(), end, f"{name} does not answer")
            time.sleep(0.05)
        return status["listen"][0]

    def meet(self, *names, seconds_max):
        end = time.monotonic() + seconds_max
        while not all(len(self.peers(name)) == len(names) - 1 for name in names):
            if time.monotonic() > end:
                logs = {name: (self.folder / f"{name}.log").read_text()[-2000:] for name in names}
                self.fail(f"{names} did not meet within {seconds_max} s: {logs}")
            time.sleep(0.1)
