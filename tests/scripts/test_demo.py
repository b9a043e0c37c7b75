"""scripts/demo.py against a stand-in for the nodes: what it accepts, what it refuses, and that nothing stays behind."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Demo(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="magpie-demo-"))
        self.addCleanup(shutil.rmtree, self.folder)
        binaries = self.folder / "bin"
        binaries.mkdir()
        for name in ("node", "nodectl"):
            shutil.copy(Path(__file__).with_name("stand_in.py"), binaries / name)
            (binaries / name).chmod(0o755)
        texts = self.folder / "texts"
        texts.mkdir()
        (texts / "a").write_text("a text")
        (self.folder / "mesh").mkdir()

    def demo(self, wrong="", *arguments):
        environment = {**os.environ, "MAGPIE_BIN": str(self.folder / "bin"), "STAND_IN": wrong}
        command = [sys.executable, "-B", str(ROOT / "scripts/demo.py")]
        given = ["--texts", str(self.folder / "texts"), "--dir", str(self.folder / "mesh"), "--down", "0.1", *arguments]
        return subprocess.run([*command, *given], env=environment, capture_output=True, text=True, timeout=120)

    def tearDown(self):
        here = str(self.folder).encode()
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if here in read(path)]
        self.assertEqual(left, [], "processes are left behind")

    def test_every_result_there_once_ends_with_a_table(self):
        done = self.demo()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertTrue(any(line.split()[:3] == ["node-1", "46", "0"] for line in lines), done.stdout)
        self.assertTrue(any("node-2" in line and "killed at" in line for line in lines), done.stdout)
        self.assertIn("46 tasks, 46 commits, 46 attempts, 1 late messages refused", done.stdout)
        self.assertEqual(sum("f:1  some text" in line for line in lines), 9)

    def test_lost_result_is_refused(self):
        done = self.demo("lost")
        self.assertEqual(done.returncode, 1)
        self.assertIn("embed: 40 results expected, its tasks are {'succeeded': 39}", done.stderr)

    def test_second_result_is_refused(self):
        done = self.demo("twice")
        self.assertEqual(done.returncode, 1)
        self.assertIn("embed: 40 results expected, its tasks are {'succeeded': 41}", done.stderr)

    def test_failed_workflow_is_refused_with_its_reason_and_the_logs(self):
        done = self.demo("failed")
        self.assertEqual(done.returncode, 1)
        self.assertIn("`nodectl run` ended with 1: embed failed", done.stderr)
        self.assertIn("node-2/node.log: log of node 2", done.stderr)

    def test_mesh_that_dies_before_it_is_ready_is_refused(self):
        done = self.demo("dies")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ended with 7 before it was ready", done.stderr)

    def test_mesh_that_does_not_stop_is_killed(self):
        done = self.demo("stuck")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("did not end within", done.stderr)

    def test_home_is_not_killed_here(self):
        done = self.demo("", "--kill", "1")
        self.assertEqual(done.returncode, 2)
        self.assertIn("node 1 takes the workflow", done.stderr)


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    unittest.main()
