# `make demo` and `make test` are the two commands of the README: each sets up what it needs, then does its job.
PYTHON ?= python3
IN_ENV := $(PYTHON) scripts/in_env.py
# No test run takes longer than this, whatever hangs (seconds).
TEST_LIMIT_S ?= 2400
DEMO_LIMIT_S ?= 900
# A sourced ROS brings pytest plugins that newer pytests refuse, so plugins are loaded by name.
PYTEST := env OMP_NUM_THREADS=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest -p timeout -p hypothesispytest

.DEFAULT_GOAL := help
.PHONY: help demo test lint build clean setup setup-test

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:[^#]*## /	/' | expand -t 12

demo: setup ## run the node on recorded camera frames, clean and attacked; writes out/demo/report.html
	$(IN_ENV) timeout --foreground -k 10 $(DEMO_LIMIT_S) python scripts/demo.py $(ARGS)

test: setup-test lint ## check style and types, then run every test
	$(IN_ENV) timeout -k 10 $(TEST_LIMIT_S) $(PYTEST) -q $(ARGS)

lint: setup-test ## check format and style (ruff) and types (mypy)
	$(IN_ENV) ruff format --check .
	$(IN_ENV) ruff check .
	$(IN_ENV) mypy lisard_ros trainer/lisard_trainer engines/lisard_engines scripts setup.py

build: setup-test ## colcon build --symlink-install of this package into install/
	$(IN_ENV) python -m colcon build --symlink-install --paths .

clean: ## remove what was built and written; the virtual environments stay
	rm -rf build install log out .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

setup:
	@$(PYTHON) scripts/bootstrap.py runtime

setup-test:
	@$(PYTHON) scripts/bootstrap.py test
