"""The checks of scripts/clients.py: a server that agrees to everything passes those that say yes, and no others."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import clients  # noqa: E402


class Server:
    """Stands where a node does."""

    sleeper = "01M7"

    def __init__(self, *command):
        self.command = command

    def target(self, _transport):
        return [str(word) for word in self.command]

    def heard(self, _name):
        return False, "it keeps no audit"


class Checks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.clients = clients.Clients()

    def row(self, server, client, era="legacy"):
        found, notes = self.clients.row(server, client, "stdio", era)
        return [check for check, ok in found.items() if ok], notes

    def test_who_agrees_to_everything_lists_and_calls_and_no_more(self):
        agreeable = Server(sys.executable, Path(__file__).with_name("agreeable.py"))
        for client in ["mcp", "fastmcp", "ts-v1", "ts-v2"]:
            well, notes = self.row(agreeable, client)
            self.assertEqual(well, ["list", "call"], (client, notes))
            self.assertIn("it was answered", " ".join(notes), client)
        well, notes = self.row(agreeable, "inspector")
        self.assertEqual(well, ["list", "call"], notes)

    def test_who_ends_at_once_passes_nothing(self):
        for client in ["mcp", "ts-v1", "inspector"]:
            well, notes = self.row(Server("false"), client)
            self.assertEqual(well, [], client)
            self.assertTrue(notes, client)


if __name__ == "__main__":
    unittest.main()
