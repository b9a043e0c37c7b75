"""The judgement of scripts/chaos.py: planted losses and second commits are seen."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import chaos  # noqa: E402
import chaos_netns  # noqa: E402


class Verdict(unittest.TestCase):
    def verdict(self, states, commits=None, violations=0):
        tasks = [{"id": task, "state": state} for task, state in states]
        if commits is None:
            commits = sum(state == "succeeded" for _, state in states)
        status = {"queue": {"succeeded": commits}, "invariant_violations": violations}
        return chaos.verdict({1: {"a", "b"}}, {1: tasks}, {1: status})

    def test_one_result_each_is_right(self):
        self.assertEqual(self.verdict([("a", "succeeded"), ("b", "succeeded")]), [])

    def test_unacknowledged_tasks_may_stand_there_too(self):
        self.assertEqual(self.verdict([("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")]), [])

    def test_lost_task_is_seen(self):
        self.assertEqual(self.verdict([("a", "succeeded")]), ["b of node 1 is lost"])

    def test_task_without_success_is_seen(self):
        self.assertEqual(self.verdict([("a", "succeeded"), ("b", "dead")]), ["b of node 1 is dead"])

    def test_second_commit_is_seen(self):
        states = [("a", "succeeded"), ("b", "succeeded")]
        self.assertEqual(self.verdict(states, commits=3), ["node 1 counts 3 commits for 2 results"])
        self.assertEqual(self.verdict([*states, ("b", "succeeded")], commits=2), ["b is there 2 times"])

    def test_broken_invariant_is_seen(self):
        states = [("a", "succeeded"), ("b", "succeeded")]
        self.assertEqual(self.verdict(states, violations=2), ["node 1 counts 2 broken invariants"])


class WhyNotAll(unittest.TestCase):
    def test_a_task_that_was_refused_says_why(self):
        answers = [{"id": "a"}, {"error": "the queue is full", "line": 2}]
        self.assertEqual(chaos_netns.why_not_all(6, answers, ""), "exit code 6: the queue is full")

    def test_the_first_words_of_a_command_count(self):
        said = "nodectl: the node went away\n  start it again\n"
        self.assertEqual(chaos_netns.why_not_all(4, [{"error": "x"}], said), "exit code 4: nodectl: the node went away")

    def test_silence_is_called_so(self):
        self.assertEqual(chaos_netns.why_not_all(-9, [{"id": "a"}], " "), "exit code -9: no reason")


if __name__ == "__main__":
    unittest.main()
