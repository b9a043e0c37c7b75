#!/usr/bin/env bash
# Everything that CI runs, phase by phase, with the time that each took.
set -euo pipefail
cd "$(dirname "$0")/.."

durations=()
phase() {
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    if ! "$@"; then
        printf '\ntest: %s failed\n' "$name" >&2
        exit 1
    fi
    durations+=("$(printf '%6d s  %s' $((SECONDS - began)) "$name")")
}

shell_scripts() {
    "$(dirname "$(scripts/python.sh)")/shellcheck" scripts/*.sh .ci/run
}

# Two processes: what one has by chance, as the order of its hash maps, the other has not.
simulator_is_deterministic() {
    local once twice
    once=$(cargo run --quiet --profile sim -p sim --features canary -- --seeds 1..51 --hashes | grep trace)
    twice=$(cargo run --quiet --profile sim -p sim --features canary -- --seeds 1..51 --hashes | grep trace)
    [ "$(wc -l <<<"$once")" = 50 ] && [ "$once" = "$twice" ] && echo "50 seeds, one trace each"
}

python_tests() {
    local folder python
    python=$(scripts/python.sh) || return 1
    for folder in tests/*/; do
        if compgen -G "${folder}test_*.py" >/dev/null; then
            echo "-- $folder"
            # Within a phase nothing ends at the first failure by itself.
            "$python" -B -m unittest discover --start-directory "$folder" || return 1
        fi
    done
}

# Without libtorch a developer still tests the rest; CI does not.
features=""
fetched=$(scripts/fetch.sh) && eval "$fetched" && features="--features magpie-device/torch"
if [ -z "$features" ]; then
    echo "test: INFERENCE IS NOT TESTED: no libtorch or no weights, see above" >&2
    [ -z "${CI:-}" ] || exit 1
fi

FEATURES=$features phase lint scripts/lint.sh
phase scripts shell_scripts
nextest=""
cargo nextest --version >/dev/null 2>&1 && nextest=yes
tests() {
    if [ -n "$nextest" ]; then
        cargo nextest run "$@"
    else
        local arguments=("${@/--cargo-profile/--profile}")
        cargo test "${arguments[@]}"
    fi
}
# shellcheck disable=SC2086
phase build tests --workspace --exclude magpie-model $features --no-run
# shellcheck disable=SC2086
phase test tests --workspace --exclude magpie-model $features --no-fail-fast
# What passed because this machine lacks something tested nothing.
skipped=""
[ -z "$nextest" ] || skipped=$(grep -o 'SKIPPED.*' target/nextest/default/junit.xml || true)
# Every interleaving, with every assertion: minutes without an optimiser.
phase model tests --cargo-profile sim -p magpie-model --features canary --test interleavings --test states --lib
# Other seeds than the tests have; planted bugs too, since a simulator that finds nothing may not look.
phase simulator cargo run --quiet --profile sim -p sim --features canary -- --jobs 2 --seeds 1000..3000
phase determinism simulator_is_deterministic
phase canaries cargo run --quiet --profile sim -p sim --features canary -- --jobs 2 --canaries
phase python python_tests
# What the scripts below start.
export MAGPIE_BIN=${CARGO_TARGET_DIR:-target}/debug
phase conformance scripts/conformance.py
phase clients scripts/clients.py
phase mcp-memory scripts/mcp_memory.py --only calls,flood --calls 20000 --flood 5000
[ -z "$features" ] || phase transcript scripts/transcript.py --max-passages 30
phase chaos scripts/chaos.py --rounds 5
# A few kills while one works, more in CI, hundreds in `make chaos` and at night.
kills=5
[ -z "${CI:-}" ] || kills=100
phase namespaces scripts/chaos_netns.py --kills "$kills"
phase scenarios scripts/scenarios.py
phase ownership scripts/ownership_table.py --tasks 300 --nodes 3
# From this version to itself; at night from yesterday's, which has to be built.
phase upgrade scripts/upgrade.py --earlier "${CARGO_TARGET_DIR:-target}/debug" --batch 20
phase membership scripts/membership.py --cut 12 --watch 20 --deaths 3 --slack 3
phase overload scripts/overload.py --seconds 10 --slack 3
phase figures scripts/bench.py --short
# What an idle node takes of a core is five times as much in a debug build.
phase scale scripts/scale.py --nodes 12 --idle 10 --slack 8
phase many cargo run --quiet -p magpie-net --features plaintext --example many -- 40 5 3

printf '\n== passed in %d s\n' "$SECONDS"
printf '%s\n' "${durations[@]}"
[ -n "$nextest" ] || echo "which tests had to skip what this machine lacks is not known without cargo-nextest"
[ -z "$skipped" ] || printf 'not tested on this machine:\n%s\n' "$skipped"
