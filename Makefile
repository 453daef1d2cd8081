# `make help` lists the targets. Everything runs in .venv, which the first target that needs it builds: real ROS 2 from
# wheels, torch and the rest, as setup.py declares them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= out/demo
ARGS ?=

# ROS stays on this machine, and on a domain of its own so that two runs do not hear each other. DDS takes two ports a
# process above 7400 + 250 * domain: up to 100, that lies below the ports that Linux hands out itself.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export ROS_DOMAIN_ID := $(shell echo $$(( $$$$ % 100 + 1 )))
export ROS_LOG_DIR ?= $(CURDIR)/out/log
# The ROS wheels restart python once, to set LD_LIBRARY_PATH. This says that it was done, but for another environment.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
# A sourced ROS 2 distribution would be mixed with the wheels.
ifdef AMENT_PREFIX_PATH
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH ROS_DISTRO
endif

.DEFAULT_GOAL := help
.PHONY: help venv demo camvid test test-slow lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(STAMP) ## build or update .venv (about 6 GB)

$(STAMP): setup.py package.xml pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.10 to 3.13, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 10) and f"Python 3.10 to 3.13 is needed, $(PYTHON) is {v}: name another, as in make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV) || { echo "No virtual environment could be made: on Debian and Ubuntu, apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	UV_HTTP_TIMEOUT=300 $(BIN)/uv pip install --python $(BIN)/python --editable '.[ros,test,dev]'
	@touch $@

demo: $(STAMP) ## generate a recording, send it through the live node, score it, write out/demo/report.html
	$(BIN)/samseg demo --out $(OUT) $(ARGS)

# Weights that the data's licence keeps out of the package. DATA is the folder of the download.
CAMVID_OUT := runs/ad_sam_camvid
camvid: $(STAMP) ## train AD-SAM on CamVid (DATA=FOLDER; one and a half to four hours), score it, install it for --model ad_sam
	@test -n "$(DATA)" || { echo "Say where CamVid is: make camvid DATA=FOLDER (samseg datasets shows where to get it)" >&2; exit 1; }
	$(BIN)/samseg train --recipe ad_sam_camvid --data "$(DATA)" --out $(CAMVID_OUT)/first $(ARGS)
	$(BIN)/samseg train --recipe ad_sam_camvid_mix --data "$(DATA)" --out $(CAMVID_OUT) --set start_from=$(CAMVID_OUT)/first/model $(ARGS)
	$(BIN)/samseg evaluate --data "camvid:$(DATA)" --split test --checkpoint $(CAMVID_OUT)/model --out $(CAMVID_OUT)
	rm -f $(CAMVID_OUT)/model/card.md
	$(BIN)/samseg weights card $(CAMVID_OUT) --write
	$(BIN)/samseg weights install $(CAMVID_OUT) --replace

test: $(STAMP) ## run the quick suite, real rclpy over DDS included, in two processes
	$(BIN)/python -m pytest -q -n 2 --dist loadscope $(ARGS)

test-slow: $(STAMP) ## run the tests that take longer
	$(BIN)/python -m pytest -q -m slow $(ARGS)

lint: $(STAMP) ## ruff, the format, mypy
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

clean: ## remove what was built or written, .venv included
	rm -rf $(VENV) build install log out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
