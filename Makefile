# Every target installs what it needs first; `make` alone lists them.
PYTHON ?= python3
ARGS ?=
VENV := .venv/bin
FIREBASE ?= firebase
HOME_FOLDER = $(or $(ONMEMOS_HOME),.onmemos)
LOCAL = @$(PYTHON) infra/local/bootstrap.py local
DEV = @$(PYTHON) infra/local/bootstrap.py dev

.DEFAULT_GOAL := help
.PHONY: help demo up test test-firebase test-gke check terraform images bench reconcile clean

help: ## this list
	@echo "OnMemOS: isolated sessions where commands run"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done
	@echo
	@echo "ARGS=… are passed on. PYTHON=python3.12 chooses the Python that the virtual environment is made with."
	@echo "Settings of the stack (ports, folder, sandbox, Firestore): $(VENV)/python -m infra.local up --help"

demo: ## start the stack, do real work in a session, show what happened, stop everything
	$(LOCAL)
	@$(VENV)/python -m infra.local demo $(ARGS)

up: ## run the stack in the foreground until Ctrl-C
	$(LOCAL)
	@$(VENV)/python -m infra.local up $(ARGS)

test: ## every test; ARGS="tests/unit" for some
	$(DEV)
	@$(VENV)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(or $(ARGS),tests)

test-firebase: ## the functions in Firebase's emulators, beside the stack; FIREBASE=… if its CLI is not on the PATH
	@command -v "$(FIREBASE)" >/dev/null || { echo "test-firebase: found no command '$(FIREBASE)'; wanted firebase-tools 15 (npm install -g firebase-tools@15), or FIREBASE=… the path of its command" >&2; exit 2; }
	$(DEV)
	@ONMEMOS_TEST_FIREBASE="$$(command -v "$(FIREBASE)")" $(VENV)/python -m pytest -rs tests/firebase $(ARGS)

test-gke: ## the Kubernetes API and the GKE provider on any cluster: KUBECONFIG=… [IMAGE=…, the workspace's]
	@test -n "$(KUBECONFIG)" || { echo "test-gke: KUBECONFIG is not set; wanted the path of a kubeconfig" >&2; exit 2; }
	$(DEV)
	@ONMEMOS_TEST_KUBECONFIG="$(abspath $(KUBECONFIG))" ONMEMOS_TEST_IMAGE="$(IMAGE)" \
		$(VENV)/python -m pytest -rs -k "kubernetes or gke" tests/contract/kubernetes tests/contract/providers $(ARGS)

check: ## ruff, mypy --strict, import-linter; whether what is written from the route table is stale
	$(DEV)
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports
	@$(VENV)/python -m infra.openapi --check

terraform: ## format, arguments and tests of terraform/, without a cloud; ARGS=-filter=tests/access.tftest.hcl for some
	@$(PYTHON) -m infra.terraform_check $(ARGS)

images: ## the sessions' images and the control plane's, by Docker or podman; ARGS="base --tag=1" for some
	@$(PYTHON) -m infra.images $(ARGS)

bench: ## the figures, measured on this machine; ARGS=--json
	$(LOCAL)
	@$(VENV)/python -m benchmarks $(ARGS)

reconcile: ## put right what crashes left behind, on the stack that runs; ARGS=--dry-run only says what
	$(LOCAL)
	@test -f "$(HOME_FOLDER)/env" || { echo "reconcile: no stack runs in $(HOME_FOLDER); start one with make up" >&2; exit 1; }
	@set -a; . "$(abspath $(HOME_FOLDER))/env"; set +a; exec $(VENV)/python -m infra.reconcile $(ARGS)

clean: ## remove the virtual environment, the local state and every cache
	@rm -rf .venv .onmemos .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
