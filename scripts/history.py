"""What clients saw of tasks, and whether a single owner of each could have shown it.

A history is a list of calls, each with the times between which it took place:

    {"call": "submit",  "task": ID, "began": S, "ended": S}                       acknowledged
    {"call": "observe", "task": ID, "began": S, "ended": S, "state": ..., "epoch": ..., "output": ...}
    {"call": "missing", "task": ID, "began": S, "ended": S}                       its home said that it does not know it

A call that got no answer is none. Each task is judged by itself, in one pass over its calls in order of time: it is a
register with one owner, so what one call has shown binds every call that began after that one ended.
"""

from collections import defaultdict

TERMINAL = {"succeeded", "failed", "dead", "cancelled", "skipped"}


def check(history):
    """What no single owner of each task can have shown, one sentence each."""
    by_task = defaultdict(list)
    for call in history:
        by_task[call["task"]].append(call)
    wrong = []
    for task, calls in sorted(by_task.items()):
        wrong += [f"{task}: {what}" for what in check_task(calls)]
    return wrong


def check_task(calls):
    """The same of one task."""
    observed = [call for call in calls if call["call"] == "observe"]
    acknowledged = min((call["ended"] for call in calls if call["call"] == "submit"), default=None)
    missing = [call for call in calls if call["call"] == "missing"]
    lost = [call for call in missing if acknowledged is not None and call["began"] >= acknowledged]
    if lost:
        return [f"acknowledged at {acknowledged:.3f} s, unknown at {lost[0]['began']:.3f} s"]
    return [*check_commits(observed), *check_order(observed), *check_end(acknowledged, observed)]


def check_commits(observed):
    """One commit: every end that is seen is the same end."""
    ends = [call for call in observed if call["state"] in TERMINAL]
    for call in ends[1:]:
        for what in ("state", "epoch", "output"):
            # A listing shows no output.
            first, now = ends[0].get(what), call.get(what)
            if first is not None and now is not None and first != now:
                return [f"its {what} at the end is {first!r}, and {now!r}"]
    return []


def check_order(observed):
    """Epochs grow, and an end stays: of calls that did not overlap."""
    by_end = sorted(observed, key=lambda call: call["ended"])
    epoch, ended, place = 0, None, 0
    for call in sorted(observed, key=lambda call: call["began"]):
        while by_end[place]["ended"] <= call["began"]:
            epoch = max(epoch, by_end[place]["epoch"])
            ended = ended or (by_end[place] if by_end[place]["state"] in TERMINAL else None)
            place += 1
        if call["epoch"] < epoch:
            return [f"epoch {call['epoch']} at {call['began']:.3f} s, after epoch {epoch}"]
        if ended and call["state"] not in TERMINAL:
            return [f"{call['state']} at {call['began']:.3f} s, after it was {ended['state']}"]
    return []


def check_end(acknowledged, observed):
    """Nothing acknowledged is lost: the last that is seen of it is an end."""
    if acknowledged is None:
        return []
    if not observed:
        return [f"acknowledged at {acknowledged:.3f} s and never seen"]
    last = max(observed, key=lambda call: call["began"])
    return [] if last["state"] in TERMINAL else [f"last seen {last['state']}, in epoch {last['epoch']}"]


def check_runs(runs, history):
    """What is wrong with the attempts themselves, given as (task, epoch) of each start in a process."""
    started = set()
    twice = [run for run in runs if run in started or started.add(run)]
    wrong = [f"{task}: epoch {epoch} was started twice" for task, epoch in twice]
    for call in history:
        succeeded = call["call"] == "observe" and call["state"] == "succeeded"
        output = call.get("output")
        if succeeded and isinstance(output, str) and output.startswith("epoch "):
            if (call["task"], int(output.split()[1])) not in started:
                wrong.append(f"{call['task']}: its result is of {output}, which never ran")
    return wrong
