#!/usr/bin/env bash
# Builds target/$PROFILE/{node,nodectl,node-mcp} and, where libtorch can be had, node-device; `release` unless PROFILE says.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-release}
cargo build --profile "$profile" --bin node --bin nodectl --bin node-mcp
if ! fetched=$(scripts/fetch.sh); then
    echo "build: no libtorch or no weights, see above: these nodes do not offer inference, the rest works" >&2
    exit 0
fi
eval "$fetched"
cargo build --profile "$profile" -p magpie-device --features torch
