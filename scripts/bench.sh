#!/usr/bin/env bash
# Every measured promise, on builds of the profile `dist` unless PROFILE says: what the nodes cost, and the model beside its reference.
set -euo pipefail
cd "$(dirname "$0")/.."

eval "$(scripts/fetch.sh)"
export PROFILE=${PROFILE:-dist}
missed=0
# A bar that is missed keeps nothing else from being measured.
scripts/bench.py "$@" || missed=1
# What a request with 1, 16 and 128 tasks costs, over TCP and QUIC, on a lane and on a substream of its own.
cargo run --quiet --profile "$PROFILE" -p magpie-net --example throughput

reference=scripts/requirements-bench.txt
if python=$(scripts/python.sh --cached "$reference") || { [ -n "${REFERENCE:-}" ] && python=$(scripts/python.sh "$reference"); }; then
    "$python" scripts/bench-minilm.py "${CARGO_TARGET_DIR:-target}/$PROFILE/node-device"
else
    echo "minilm     left out: REFERENCE=1 fetches sentence-transformers and its torch (several GB) to compare with" >&2
fi
exit "$missed"
