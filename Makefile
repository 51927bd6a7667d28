# `make` or `make help` lists the targets. Everything is installed into .venv, from the locks in requirements/.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
LOCKED := --require-hashes --only-binary :all:

# The interpreter that makes .venv: `make PYTHON=...`, or the first of these that runs (a pyenv shim may exist and
# fail), is new enough and can make an environment.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
FIND_PYTHON = found=; for candidate in $(PYTHONS); do \
	    if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	    then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "No usable Python >= 3.11 among: $(PYTHONS)" >&2; \
	    echo "Name one with 'make PYTHON=/path/to/python'; Debian and Ubuntu also need the package python3-venv." >&2; \
	    exit 1; \
	fi

# What `make discover` evaluates and `make bench` measures; more arguments for pytest: make test ARGS="-k lpg".
QUICKSTART := runs/quickstart
EVALUATION := --suite unseen --horizons 10 25 100 250 --seeds 8 --baselines a2c random
BENCH := --preset ta-lpg --pairs 8 --workers 64 --rollout-steps 20 --horizon 20 --distribution all --repeats 3
ARGS ?=
# What `make test-quick` runs: objectives, agents, environments and files, and one compilation of each kind of program.
QUICK := tests/checkpoints/test_objective_file.py tests/checkpoints/test_loading.py tests/checkpoints/test_shipped.py \
	tests/discovery/agents tests/discovery/objectives tests/discovery/learning/test_lifetime.py \
	tests/discovery/learning/test_probes.py tests/discovery/learning/test_rollout.py \
	tests/discovery/learning/test_update.py tests/discovery/test_registry.py tests/envs/gridworld/test_env.py \
	tests/envs/gridworld/test_levels.py tests/envs/test_levels.py tests/envs/test_registry.py tests/meta/test_config.py \
	tests/meta/test_presets.py tests/meta/curriculum/test_scores.py tests/meta/evolution/test_strategies.py \
	tests/scripts/test_list.py tests/meta/test_evolve.py::test_fitness_is_that_of_a_naive_loop_over_lanes \
	tests/meta/test_population.py::test_the_meta_gradient_is_that_of_central_finite_differences \
	tests/evaluation/test_protocol.py::test_every_objective_meets_the_same_agents_and_random_numbers

.PHONY: help setup setup-dev discover test test-slow test-quick test-extras test-with-extras test-slurm check format docs notebooks lock bench clean find-python

help: ## list the targets
	@echo "rl-discovery: evolve reinforcement-learning objectives"
	@echo
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  PYTHON=...      interpreter for .venv (default: first usable of $(PYTHONS))"
	@echo "  ARGS=...        more arguments for pytest (make test) or the benchmark (make bench)"

setup: $(VENV)/.runtime ## create .venv with what a run needs
	@:

setup-dev: $(VENV)/.dev ## the same, and the tools for tests and checks
	@:

discover: setup ## evolve an objective, starting from A2C, in a few minutes; evaluate it, show the result
	$(BIN)/rl-discovery meta-train --preset quickstart --run-dir $(QUICKSTART)
	$(BIN)/rl-discovery evaluate $(QUICKSTART) $(EVALUATION) --out $(QUICKSTART)/evaluation
	@echo
	@echo "The result is in $(QUICKSTART)/; look at evaluation/summary.png there first. What to do next:"
	@echo
	@echo "  $(BIN)/rl-discovery report $(QUICKSTART)          # the run as one HTML page"
	@echo "  $(BIN)/rl-discovery evaluate $(QUICKSTART) --suite mazes --horizons 250 --levels 16 --out $(QUICKSTART)/mazes"
	@echo "  $(BIN)/rl-discovery meta-train --preset ta-ppo-cpu --run-dir runs/mine    # a schedule for PPO, in minutes"

test: setup-dev ## run the tests: about ten minutes on two cores
	@$(BIN)/pytest -n 2 --dist worksteal -m "not slow" $(ARGS)

test-slow: setup-dev ## run the slow tests: killed processes, other numbers of devices, notebooks, the site
	@$(BIN)/pytest -n 2 --dist worksteal -m slow $(ARGS)

test-quick: setup-dev ## run one case of each test of the parts, and a generation: two minutes
	@$(BIN)/pytest -n 2 --dist worksteal --first-cases -m "not slow and not e2e" $(QUICK) $(ARGS)

# Packages outside the locks, which must fit them. Where the newest torch would be a large build for a GPU, this one is not.
EXTRAS ?= navix jumanji craftax playground
TORCH ?= torch==2.13.0
comma := ,
test-extras: ## run the tests of other libraries' environments and of PyTorch, in an environment of their own
	@$(MAKE) test-with-extras VENV=$(VENV)-extras
test-with-extras: setup-dev
	@$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/constraints.txt
	@$(PIP_INSTALL) --constraint $(VENV)/constraints.txt --no-build-isolation $(TORCH) gymnasium \
		--editable ".[$(subst $() ,$(comma),$(strip $(EXTRAS)))]"
	@$(BIN)/pytest -n 2 -m "not slow" tests/checkpoints/test_python_file.py tests/examples/test_pytorch_ppo.py \
		$(EXTRAS:%=tests/envs/test_%.py) $(ARGS)

test-slurm: setup ## run docs/cluster/slurm.sh on a Slurm of one node (needs slurm-wlm, munge and root)
	@tests/slurm.sh

check: setup-dev ## lint, format, types, the order of imports, installed packages that do not fit
	@echo "ruff check" && $(BIN)/ruff check .
	@echo "ruff format --check" && $(BIN)/ruff format --check .
	@echo "mypy" && $(BIN)/mypy
	@echo "lint-imports" && $(BIN)/lint-imports --no-logo
	@echo "pip check" && $(BIN)/python -m pip check --disable-pip-version-check

format: setup-dev ## format the code and repair what the linter can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

docs: setup-dev ## build the documentation as a site in site/; every link is checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

notebooks: setup-dev ## run the notebooks with their whole budget (half an hour on one core), outputs in place
	@$(BIN)/python notebooks/run.py

# One version of each package for all Pythons and platforms; versions stay as they are locked unless UPGRADE=1.
# runtime.lock starts as a copy of dev.lock, so that both name the same versions.
COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--annotation-style line --custom-compile-command "make lock" --quiet
lock: setup-dev ## resolve the locks in requirements/ anew (UPGRADE=1: newest versions)
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --group build --output-file requirements/build.lock >/dev/null
	@$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --extra dev --output-file requirements/dev.lock >/dev/null
	@cp requirements/dev.lock requirements/runtime.lock
	@$(COMPILE) pyproject.toml --output-file requirements/runtime.lock >/dev/null
	@grep -c '^[a-z].*==' requirements/build.lock requirements/runtime.lock requirements/dev.lock

bench: setup ## measure throughput on the yardstick of docs/performance.md
	$(BIN)/rl-discovery bench $(BENCH) --gru-width 256 --precision float32 $(ARGS)
	$(BIN)/rl-discovery bench $(BENCH) --gru-width 256 --precision bfloat16 $(ARGS)
	$(BIN)/rl-discovery bench $(BENCH) --gru-width 32 --precision float32 $(ARGS)

clean: ## remove caches and build products (.venv and runs/ stay)
	@rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . \( -name $(VENV) -o -name .git -o -name runs \) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------------------
# The environment. Stamp files make a second call instant; .created holds the folder that .venv was made in. An
# environment that was copied or moved here, or whose interpreter has gone, is made anew.
ifneq ($(shell test -x $(BIN)/python && cat $(VENV)/.created 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.created
endif

$(VENV)/.created:
	@$(FIND_PYTHON); \
	echo "Creating $(VENV) with $$("$$found" -V) ($$found)"; \
	"$$found" -m venv --clear $(VENV)
	@printf '%s\n' "$(CURDIR)" >$@

$(VENV)/.runtime: $(VENV)/.created requirements/build.lock requirements/runtime.lock pyproject.toml
	@echo "Installing the packages of requirements/runtime.lock (about 1 GB on disk; a minute or two the first time)"
	@$(PIP_INSTALL) $(LOCKED) -r requirements/build.lock -r requirements/runtime.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.lock
	@echo "Installing the packages of requirements/dev.lock"
	@$(PIP_INSTALL) $(LOCKED) -r requirements/dev.lock
	@touch $@

find-python: # for .ci/run: prints the interpreter that setup would take
	@$(FIND_PYTHON); echo "$$found"
