"""scripts/history.py: good histories pass, and each planted fault is seen by what it breaks."""

import random
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import history  # noqa: E402


def submit(ended=1.0):
    return {"call": "submit", "task": "a", "began": ended - 0.1, "ended": ended}


def observe(began, state, epoch, output=None, ended=None):
    call = {"call": "observe", "task": "a", "began": began, "ended": began + 0.1 if ended is None else ended}
    return call | {"state": state, "epoch": epoch, "output": output}


GOOD = [
    submit(),
    observe(2, "ready", 0),
    observe(3, "running", 5),
    observe(4, "ready", 5),
    observe(5, "running", 7),
    observe(6, "succeeded", 7, "x"),
    observe(7, "succeeded", 7, "x"),
]


class Check(unittest.TestCase):
    def assert_seen(self, calls, *words):
        found = history.check(calls)
        self.assertEqual(len(found), 1, found)
        for word in ("a: ", *words):
            self.assertIn(word, found[0])

    def test_good_history_passes_in_any_order_of_its_lines(self):
        self.assertEqual(history.check(GOOD), [])
        shuffled = GOOD.copy()
        random.Random(7).shuffle(shuffled)
        self.assertEqual(history.check(shuffled), [])

    def test_listing_without_outputs_agrees_with_any(self):
        self.assertEqual(history.check([*GOOD, observe(8, "succeeded", 7)]), [])

    def test_task_never_acknowledged_may_be_in_any_state(self):
        self.assertEqual(history.check([observe(2, "ready", 0)]), [])

    def test_result_seen_and_then_another_is_two_commits(self):
        self.assert_seen([*GOOD, observe(8, "succeeded", 7, "y")], "output", "'x'", "'y'")
        self.assert_seen([*GOOD, observe(8, "failed", 7, "x")], "state", "failed")
        self.assert_seen([*GOOD, observe(8, "succeeded", 9, "x")], "epoch", "9")

    def test_two_results_are_seen_even_where_the_calls_overlap(self):
        overlapping = observe(6, "succeeded", 7, "y", ended=9)
        self.assert_seen([*GOOD, overlapping], "output")

    def test_smaller_epoch_after_a_greater_is_seen(self):
        self.assert_seen([submit(), observe(2, "running", 7), observe(3, "running", 5), observe(9, "dead", 7)], "epoch 5")

    def test_smaller_epoch_in_an_overlapping_call_is_right(self):
        slow = observe(1.9, "running", 5, ended=4)
        self.assertEqual(history.check([submit(), observe(2, "running", 7), slow, observe(9, "dead", 7)]), [])

    def test_end_that_does_not_stay_is_seen(self):
        calls = [submit(), observe(2, "succeeded", 7, "x"), observe(3, "running", 7), observe(4, "succeeded", 7, "x")]
        self.assert_seen(calls, "running at 3", "after it was succeeded")

    def test_acknowledged_task_that_is_unknown_is_lost(self):
        self.assert_seen([submit(), {"call": "missing", "task": "a", "began": 5.0, "ended": 5.1}], "unknown at 5")

    def test_unknown_before_the_acknowledgement_is_right(self):
        early = {"call": "missing", "task": "a", "began": 0.5, "ended": 0.6}
        self.assertEqual(history.check([early, *GOOD]), [])

    def test_acknowledged_task_without_an_end_is_seen(self):
        self.assert_seen([submit()], "never seen")
        self.assert_seen(GOOD[:5], "last seen running")

    def test_tasks_are_judged_by_themselves(self):
        other = [call | {"task": "b"} for call in GOOD[:5]]
        found = history.check([*GOOD, *other])
        self.assertEqual(len(found), 1)
        self.assertTrue(found[0].startswith("b: "), found)

    def test_time_grows_with_the_history_and_no_faster(self):
        calls = [submit(), *(observe(2 + n, "running", n) for n in range(100_000)), observe(200_000, "dead", 100_000)]
        self.assertEqual(history.check(calls), [])


class Runs(unittest.TestCase):
    def test_each_epoch_once_and_the_result_of_one_that_ran_is_right(self):
        done = observe(6, "succeeded", 7, "epoch 7")
        self.assertEqual(history.check_runs([("a", 5), ("a", 7)], [submit(), done]), [])

    def test_epoch_started_twice_is_seen(self):
        self.assertEqual(history.check_runs([("a", 5), ("a", 5)], []), ["a: epoch 5 was started twice"])

    def test_result_of_an_epoch_that_never_ran_is_seen(self):
        done = observe(6, "succeeded", 7, "epoch 7")
        self.assertEqual(history.check_runs([("a", 5)], [done]), ["a: its result is of epoch 7, which never ran"])


if __name__ == "__main__":
    unittest.main()
