"""What scripts/mesh.py leaves behind: nothing of its own, and everything of others."""

import subprocess
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from mesh import Mesh  # noqa: E402


class Left(unittest.TestCase):
    def test_a_process_that_got_the_number_of_one_that_ended_is_anothers(self):
        mesh = Mesh(1, folder="/nonexistent", bin_folder=Path("/nonexistent"))
        own = mesh.start("sleep", "60")
        other = subprocess.Popen(["sleep", "60"], start_new_session=True)
        try:
            # As if it had been started here, had ended, and its number had been given again.
            mesh.started.append(SimpleNamespace(pid=other.pid))
            self.assertEqual(mesh._left(), [own.pid])
        finally:
            for process in [own, other]:
                process.kill()
                process.wait()
        self.assertEqual(mesh._left(), [])


if __name__ == "__main__":
    unittest.main()
