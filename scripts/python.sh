#!/usr/bin/env bash
# Prints the Python of an environment with the packages of a file, scripts/requirements.txt if none is named;
# makes it in the cache if need be. With --cached it fails rather than fetch.
set -euo pipefail
cached=false
[ "${1:-}" != --cached ] || { cached=true; shift; }
requirements=${1:-$(dirname "$0")/requirements.txt}
cache=${MAGPIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/magpie}
key=$({ python3 --version; cat "$requirements"; } | sha256sum | cut -c 1-12)
place=$cache/python-$key

if [ ! -x "$place/bin/python" ]; then
    ! $cached || exit 1
    mkdir -p "$cache"
    # A run that breaks leaves no environment with the final name; `venv` has paths in it, so it is not moved but linked.
    made=$(mktemp -d "$cache/python-$key.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    if ! python3 -m venv "$made"; then
        echo "python: the system lacks python3-venv; run: apt-get install -y python3-venv" >&2
        exit 1
    fi
    "$made/bin/python" -m pip install --quiet --requirement "$requirements" >&2
    ln -sfn "$(basename "$made")" "$place"
    trap - EXIT
fi
echo "$place/bin/python"
