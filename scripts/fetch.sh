#!/bin/sh
# Fetches libtorch and the MiniLM weights into the cache and prints what `eval` needs to build with them.
# All of it is fetch.py; this file is here so that a machine without Python is told so in words.
if ! command -v python3 >/dev/null; then
    echo "fetch: python3 is missing; run: apt-get install -y python3 python3-pip g++ binutils" >&2
    exit 1
fi
exec python3 "$(dirname "$0")/fetch.py" "$@"
