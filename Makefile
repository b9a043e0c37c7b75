# Thin: each target is one command, which also works by itself. CARGO_TARGET_DIR and MAGPIE_CACHE are respected.
TEXTS ?= /usr/share/common-licenses
# `release` is built in minutes, `dist` is what ships: the same code, compiled for longer.
PROFILE ?= release
# Of nodes, in `make chaos`.
KILLS ?= 100

.PHONY: build demo test bench chaos nightly lint fmt

build:
	scripts/build.sh $(PROFILE)

demo: build
	eval "$$(scripts/fetch.sh)" && exec scripts/demo.py --texts "$(TEXTS)"

test:
	scripts/test.sh

lint:
	scripts/lint.sh

fmt:
	cargo fmt --all

bench: PROFILE = dist
bench: build
	scripts/bench.sh

chaos: build
	scripts/chaos_netns.py --kills $(KILLS)
	scripts/scenarios.py
	scripts/chaos.py --rounds 20

nightly: PROFILE = dist
nightly: build
	scripts/nightly.sh
