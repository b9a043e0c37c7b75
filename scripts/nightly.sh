#!/usr/bin/env bash
# The long forms, for a night: fresh seeds for the simulator, hundreds of kills, every benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."

first=$(($(date +%Y%m%d) * 100000))
seeds=${SEEDS:-100000}
echo "== simulator, seeds $first to $((first + seeds))"
cargo run --profile sim --quiet -p sim --features canary -- --jobs "$(nproc)" --seeds "$first..$((first + seeds))"
echo "== chaos"
eval "$(scripts/fetch.sh)"
export PROFILE=${PROFILE:-dist}
scripts/chaos_netns.py --kills "${KILLS:-3000}"
scripts/scenarios.py
scripts/chaos.py --rounds "${ROUNDS:-500}"
echo "== membership"
scripts/membership.py
echo "== overload"
scripts/overload.py
echo "== upgrade from the version of yesterday"
earlier=${EARLIER:-$(git rev-list -1 --before=yesterday HEAD)}
[ -n "$earlier" ] || { echo "nightly: no earlier version in this clone: give one with EARLIER=REVISION" >&2; exit 1; }
scripts/upgrade.py --earlier "$earlier"
echo "== a member that does its worst"
MAGPIE_SIEGE=1 cargo test --profile sim --quiet -p magpie-net --test mesh -- --nocapture siege::a_member
echo "== a million records of a stream over connections that are cut"
MAGPIE_RECORDS=1000000 cargo test --release --quiet -p magpie-net --test mesh -- --nocapture streams::
echo "== disks that crash and fail at every request"
MAGPIE_ALL=1 cargo test --quiet -p magpie --test cluster disk::
echo "== random sessions of strangers"
MAGPIE_SESSIONS=10000 cargo test --quiet -p magpie-net --test mesh random_sessions
echo "== ownership table"
scripts/ownership_table.py
echo "== canaries of the model"
cargo test --quiet -p magpie-model --features canary --test canaries
echo "== bench"
REFERENCE=1 scripts/bench.sh
echo "== scale"
scripts/scale.py
echo "== many nodes in one process"
cargo run --profile "$PROFILE" --quiet -p magpie-net --features plaintext --example many -- 200 30
echo "== memory of an MCP server, a million calls"
scripts/mcp_memory.py
echo "== MCP beside other servers"
scripts/mcp_ratios.py --python "$(scripts/python.sh scripts/requirements-clients.txt)"
echo "== an agent, call by call"
scripts/transcript.py
