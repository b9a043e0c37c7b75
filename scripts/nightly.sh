#!/usr/bin/env bash
# The long forms, for a night: fresh seeds for the simulator, thousands of kills, every benchmark. What fails keeps nothing else from
# running; the exit code is 1 at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=()
phase() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed+=("$name")
}

first=$(($(date +%Y%m%d) * 100000))
seeds=${SEEDS:-100000}
phase "simulator, seeds $first to $((first + seeds))" \
    cargo run --profile sim --quiet -p sim --features canary -- --jobs "$(nproc)" --seeds "$first..$((first + seeds))"
eval "$(scripts/fetch.sh)"
export PROFILE=${PROFILE:-dist}
phase "kills under all faults" scripts/chaos_netns.py --kills "${KILLS:-3000}"
phase "scenarios" scripts/scenarios.py
phase "kills" scripts/chaos.py --rounds "${ROUNDS:-500}"
phase "membership" scripts/membership.py
phase "overload" scripts/overload.py
earlier=${EARLIER:-$(git rev-list -1 --before=yesterday HEAD)}
[ -n "$earlier" ] || { echo "nightly: no earlier version in this clone: give one with EARLIER=REVISION" >&2; exit 1; }
phase "upgrade from the version of yesterday" scripts/upgrade.py --earlier "$earlier"
phase "a member that does its worst" \
    env MAGPIE_SIEGE=1 cargo test --profile sim --quiet -p magpie-net --test mesh -- --nocapture siege::a_member
phase "a million records of a stream over connections that are cut" \
    env MAGPIE_RECORDS=1000000 cargo test --release --quiet -p magpie-net --test mesh -- --nocapture streams::
phase "disks that crash and fail at every request" env MAGPIE_ALL=1 cargo test --quiet -p magpie --test cluster disk::
phase "random sessions of strangers" env MAGPIE_SESSIONS=10000 cargo test --quiet -p magpie-net --test mesh random_sessions
phase "ownership table" scripts/ownership_table.py
phase "canaries of the model" cargo test --quiet -p magpie-model --features canary --test canaries
phase "bench" env REFERENCE=1 scripts/bench.sh
phase "scale" scripts/scale.py
phase "many nodes in one process" \
    cargo run --profile "$PROFILE" --quiet -p magpie-net --features plaintext --example many -- 200 30
phase "memory of an MCP server, a million calls" scripts/mcp_memory.py
phase "MCP beside other servers" scripts/mcp_ratios.py --python "$(scripts/python.sh scripts/requirements-clients.txt)"
phase "an agent, call by call" scripts/transcript.py

[ ${#failed[@]} -eq 0 ] || { printf '\nnightly: failed: %s\n' "${failed[*]}" >&2; exit 1; }
