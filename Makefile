# Two commands: `make demo` and `make test`. Both set everything up first; later runs start at once.
# `make setup CUDA=1` builds llama.cpp for an NVIDIA GPU; `minions doctor` then proves that it is used.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready$(if $(CUDA),-cuda)

.PHONY: demo test check setup clean

demo: $(READY)
	@$(VENV)/bin/minions demo

test: $(READY)
	@$(VENV)/bin/python -m pytest $(ARGS)

check: $(READY)  ## what the tests run too: style and types
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

setup: $(READY)

$(READY): pyproject.toml requirements.lock workers/deploy/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" CUDA="$(CUDA)" sh workers/deploy/setup.sh
	@touch $@

clean:
	rm -rf $(VENV)
