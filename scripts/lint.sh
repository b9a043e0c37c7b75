#!/usr/bin/env bash
# Format, clippy and documentation, all without a warning. FEATURES adds to what clippy sees.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
# shellcheck disable=SC2086
cargo clippy --workspace --all-targets ${FEATURES:-} -- -D warnings
cargo clippy -p magpie-net --features plaintext --example many -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items
