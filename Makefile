# `make demo` and `make test` are the two commands of the README: each sets up what it needs, then does its job.
PYTHON ?= python3
IN_ENV := $(PYTHON) scripts/in_env.py
# No test run takes longer than this, whatever hangs (seconds).
TEST_LIMIT_S ?= 2400
DEMO_LIMIT_S ?= 900
# A sourced ROS brings pytest plugins that newer pytests refuse, so plugins are loaded by name.
PLUGINS := PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest -p timeout -p xdist -p hypothesispytest
# Workers with one thread each, as many as test/conftest.py says; a file stays in one, so that its trainings are shared.
PYTEST := env OMP_NUM_THREADS=1 $(PLUGINS) -n auto --dist loadfile --no-loadscope-reorder
# What trains a network or computes figures, on the arithmetic of other processors and other numbers of threads.
PORTABLE := test/lisard_trainer test/lisard_engines test/lisard_ros test/bench
PORTABLE_LIMIT_S ?= 3600
# The node's tests on the wheels of another distribution than that of `make test`.
JAZZY := LISARD_ROS_WHEELS=jazzy
NODE_TESTS := test/node test/demo/test_player_and_recorder.py
JAZZY_LIMIT_S ?= 1500

.DEFAULT_GOAL := help
.PHONY: help demo test test-jazzy test-portable test-aarch64 lint build docs packages sbom audit clean setup setup-test setup-jazzy

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:[^#]*## /	/' | expand -t 16

demo: setup ## run the node on recorded camera frames, clean and attacked; writes out/demo/report.html
	$(IN_ENV) timeout --foreground -k 10 $(DEMO_LIMIT_S) python scripts/demo.py $(ARGS)

test: setup-test lint ## check style and types, then run every test
	$(IN_ENV) timeout -k 10 $(TEST_LIMIT_S) $(PYTEST) -q $(ARGS)

test-jazzy: setup-jazzy ## run the node's tests on the ROS 2 Jazzy wheels, in .venv-jazzy
	$(JAZZY) $(IN_ENV) timeout -k 10 $(JAZZY_LIMIT_S) $(PYTEST) -q $(NODE_TESTS) $(ARGS)

test-portable: setup-test ## run the tests that compute four times, as on other processors (takes long)
	$(IN_ENV) timeout -k 10 $(PORTABLE_LIMIT_S) python scripts/test_portable.py $(PORTABLE)

test-aarch64: setup-test ## run the runtime under an emulated aarch64 CPU (downloads; takes long)
	$(IN_ENV) python scripts/test_aarch64.py $(ARGS)

lint: setup-test ## check format and style (ruff) and types (mypy)
	$(IN_ENV) ruff format --check .
	$(IN_ENV) ruff check .
	$(IN_ENV) mypy

build: setup-test ## colcon build --symlink-install of this package into install/
	$(IN_ENV) python -m colcon build --symlink-install --paths .

docs: setup-test ## build the documentation site (strict, links and accessibility checked); open out/site/html/index.html
	$(IN_ENV) python scripts/docs_site.py
	$(IN_ENV) timeout -k 10 $(TEST_LIMIT_S) env LISARD_SITE=out/site/html $(PLUGINS) -q test/scripts/test_built_site.py

packages: setup ## build wheels and source archive into dist/, and install every extra in a fresh environment
	$(IN_ENV) python scripts/packages.py $(ARGS)

sbom: setup ## write what the wheel and the runtime consist of (CycloneDX) to out/lisard_ros.cdx.json
	$(IN_ENV) python scripts/supply_chain.py sbom

audit: setup ## look the pinned packages up in the database of known vulnerabilities
	$(IN_ENV) python scripts/supply_chain.py audit

clean: ## remove what was built and written; the virtual environments stay
	rm -rf build install log out .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

setup: ## make the environment that runs the node, with `lisard` and `perception_node` in its bin folder
	@$(PYTHON) scripts/bootstrap.py runtime

setup-test:
	@$(PYTHON) scripts/bootstrap.py test

setup-jazzy:
	@$(JAZZY) $(PYTHON) scripts/bootstrap.py test-node
