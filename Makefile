# make: install what is pinned into .venv, then run the whole workflow on the embedded toy task.
PYTHON ?= python3
SNAKEFLAGS ?=
PYTESTFLAGS ?=
GPUPYTHON ?= python3

export PYTHON
# The rules call `python`: it must be the environment's.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := run
.PHONY: run env targets test check docs gpu lock clean help

run: env  ## (default) run the workflow, then say what it found; SNAKEFLAGS="-n --quiet rules" lists its jobs
	.venv/bin/snakemake $(SNAKEFLAGS)

env:  ## install the run environment into .venv; PYTHON=python3.11 picks the interpreter
	@envs/install.sh run

targets: env  ## what can be made with `snakemake NAME`; those with a sentence are for people
	@.venv/bin/snakemake --list-rules

# Three workers on two cores: one of them mostly waits for a cluster. tests/conftest.py has the order.
test:  ## install the test environment into .venv and run the tests; PYTESTFLAGS="-k voting" picks some
	@envs/install.sh test
	.venv/bin/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder $(PYTESTFLAGS)

check:  ## (at each save) style, floors and the tests that start nothing: no engine, workflow, cluster or browser
	@envs/install.sh test
	.venv/bin/ruff check src tests benchmarks docs
	.venv/bin/ruff format --check src tests benchmarks docs
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/lint-imports
	.venv/bin/python -m pytest -n 2 --dist load -q -m "not slow and not gpu"

gpu:  ## everything that needs a GPU, and one table; works with the python3 that has torch (GPUPYTHON=...), without network
	$(GPUPYTHON) benchmarks/gpu.py

docs:  ## the docs site in build/site, every link checked
	@[ -x build/docs/bin/mkdocs ] || { $(PYTHON) -m venv build/docs && build/docs/bin/python -m pip install -q --no-deps -r envs/docs.txt; }
	NO_MKDOCS_2_WARNING=1 build/docs/bin/mkdocs build --strict

lock:  ## resolve pyproject.toml into envs/*.lock and envs/*.yaml anew (needs uv)
	@envs/lock.sh

clean:  ## remove .venv, the workflow's bookkeeping and everything in results/ but its README
	rm -rf .venv .snakemake src/itscale.egg-info .pytest_cache .hypothesis .ruff_cache
	find results -mindepth 1 ! -name README.md -delete

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##/\1\t/p' Makefile
