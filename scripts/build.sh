#!/usr/bin/env bash
# Builds target/release/{node,nodectl,node-mcp} and, where libtorch can be had, node-device.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --bin node --bin nodectl --bin node-mcp
if ! fetched=$(scripts/fetch.sh); then
    echo "build: no libtorch or no weights, see above: these nodes do not offer inference, the rest works" >&2
    exit 0
fi
eval "$fetched"
cargo build --release -p magpie-device --features torch
