# Thin: each target is one command, which also works by itself. CARGO_TARGET_DIR and MAGPIE_CACHE are respected.
TEXTS ?= /usr/share/common-licenses
# PROFILE=dist takes three times as long to build as `release`, which is the default, and is what `bench` and `nightly` measure.
# Of nodes, in `make chaos`.
KILLS ?= 100

.PHONY: build demo test bench chaos nightly lint fmt

build:
	scripts/build.sh

demo: build
	eval "$$(scripts/fetch.sh)" && exec scripts/demo.py --texts "$(TEXTS)"

test:
	scripts/test.sh

lint:
	scripts/lint.sh

fmt:
	cargo fmt --all

bench: export PROFILE = dist
bench: build
	scripts/bench.sh

chaos: build
	scripts/chaos_netns.py --kills $(KILLS)
	scripts/scenarios.py
	scripts/chaos.py --rounds 20

nightly: export PROFILE = dist
nightly: build
	scripts/nightly.sh
