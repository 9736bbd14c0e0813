# Everything a developer types. Each target sets up what it needs (tests/kit/bootstrap.sh), once.

python := .venv/bin/python
# Root on Linux can run every ring, so there a ring that does not run is a failure.
rings := $(if $(filter Linux-0,$(shell uname)-$(shell id -u)),--require all)
# e.g. make test ARGS='-k switch'
ARGS :=

.PHONY: help demo test bench lint clean

help:
	@echo 'make demo    see it work: two tiny models, a real llama-server, a real user manager'
	@echo 'make test    the whole suite; ARGS=... goes to pytest'
	@echo 'make bench   what llmctl, a plan, the proxy and the guard cost'
	@echo 'make lint    ruff, mypy, import contracts'
	@echo 'make clean   remove what these left in the checkout'

demo:
	@tests/kit/bootstrap.sh demo
	@PATH="$(CURDIR)/.venv/bin:$$PATH" tests/kit/demo.sh

test:
	@tests/kit/bootstrap.sh test
	$(python) -m pytest -n 2 --dist loadscope $(rings) $(ARGS)

bench:
	@tests/kit/bootstrap.sh demo
	@PATH="$(CURDIR)/.venv/bin:$$PATH" PYTHONPATH=tests tests/kit/usermgr.sh -- \
		$(CURDIR)/$(python) tests/bench/bench.py "$$(tests/kit/find-llama.sh)"
	@$(python) tests/bench/gguf_bench.py
	@PATH="$(CURDIR)/.venv/bin:$$PATH" PYTHONPATH=tests tests/kit/usermgr.sh -- \
		$(CURDIR)/$(python) tests/bench/proxy_bench.py
	@PYTHONPATH=tests:. $(python) tests/bench/guard_bench.py
	@missing=$$(tests/kit/lab.sh missing); if [ -n "$$missing" ]; then \
		echo "NOT MEASURED: a box far away: $$missing"; \
	else PYTHONPATH=tests $(python) tests/bench/ssh_bench.py; fi

lint:
	@tests/kit/bootstrap.sh venv
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	.venv/bin/lint-imports

clean:
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
