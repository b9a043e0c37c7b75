#!/usr/bin/env bash
# Every measured promise, on release builds: what the nodes cost, and the model beside its reference.
set -euo pipefail
cd "$(dirname "$0")/.."

eval "$(scripts/fetch.sh)"
scripts/bench.py "$@"
