"""The contract of a `process` step: one JSON document on stdin, one on stdout, the log on stderr.

stdin is {"input": ..., "needs": {STEP: output}}; a value too large to stand inline is {"file": PATH}.
"""

import json
import sys
from pathlib import Path


def read():
    """The step's input and the outputs of the steps it needs, by name."""
    document = json.load(sys.stdin)
    needs = {name: _resolve(output) for name, output in (document.get("needs") or {}).items()}
    return _resolve(document.get("input")) or {}, needs


def write(output):
    """Ends the step with `output`."""
    json.dump(output, sys.stdout, ensure_ascii=False, separators=(",", ":"))


def refuse(why):
    """Fails the step with a reason that its log shows."""
    sys.exit(f"{Path(sys.argv[0]).name}: {why}")


def _resolve(value):
    if isinstance(value, dict) and set(value) == {"file"}:
        return json.loads(Path(value["file"]).read_text(encoding="utf-8"))
    return value
