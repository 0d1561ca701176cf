# Entry points for people; `make help` lists them. Requires git, make and python3 with pip.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# Without it each worker of pytest, and each process of each mesh, compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
DEV_STAMP := .venv/.stamp-dev
TEST_STAMP := .venv/.stamp-test
LOAD_STAMP := .venv/.stamp-load
SETUP_INPUTS := scripts/bootstrap.sh requirements/installer.txt $(wildcard proto/pyproject.toml services/*/pyproject.toml)

PACKAGES := $(wildcard services/*/mesh_*)

# Arguments for pytest: `make test ARGS='-m unit -k ports'`.
ARGS :=
# Number of processes of `make test`: two a core, because tests wait more than they compute.
WORKERS := 4
# Output format of `make secrets`: dotenv or kubernetes.
FORMAT := dotenv
# Folder for the dotenv files of `make secrets`.
FOLDER := secrets
# Environment of `make docker-run-env`: development or production.
ENV := development
# Number of schedules that `make chaos` runs, and the seed of the first.
N := 15
SEED := 1
# First seed of `make nightly`: a new one each night, unless SEED is given.
NIGHTLY_SEED := $(if $(filter command line,$(origin SEED)),$(SEED),$(shell date -u +%Y%m%d))
# Load of `make load`: total number of users, users added per second, and total duration.
USERS := 1500
RATE := 15
DURATION := 180s

.PHONY: secrets help setup setup-test lock dev demo doctor assistants-check trace proto proto-check check fmt test nightly chaos setup-load bench load
.PHONY: images sbom deploy-tools deploy-check cluster-test docker-run-env docker-logs docker-stop

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(DEV_STAMP) ## create .venv with the packages of the stack (the targets below do this themselves)

setup-test: $(TEST_STAMP) ## the same, plus the tools of check and test

dev: $(DEV_STAMP) ## start the whole stack and leave it running until Ctrl-C
	@$(PYTHON) -m mesh_dev dev

demo: $(DEV_STAMP) ## start the stack, show one conversation, stop the stack
	@$(PYTHON) -m mesh_dev demo

doctor: $(DEV_STAMP) ## ask the models of AGENT_MODELS seven small questions: which quirks they need (docs/models.md)
	@$(PYTHON) -m mesh_agent doctor $(ARGS)

assistants-check: $(DEV_STAMP) ## validate the assistants in a folder: make assistants-check ARGS=assistants (docs/assistants.md)
	@$(PYTHON) -m mesh_agent assistants-check $(ARGS)

trace: $(DEV_STAMP) ## print a trace of the running stack: make trace ID=<trace or run id>
	@$(PYTHON) -m mesh_dev trace "$(ID)"

test: $(TEST_STAMP) ## run all tests except the nightly ones (a subset: ARGS='-m unit'; one process: WORKERS=0)
	@$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10 \
	  --ignore=tests/deploy --ignore=tests/cluster $(ARGS)

chaos: $(TEST_STAMP) ## inject failures by seed and check what clients observed: make chaos N=200 SEED=1
	@PYTHONPATH=tests:loadtest $(PYTHON) -m chaos schedules --count $(N) --seed $(SEED)

nightly: $(LOAD_STAMP) ## run the long tests, with the day's seeds (another day's: SEED=…), and all on a cluster
	@$(PYTHON) -m pytest --nightly --seed=$(NIGHTLY_SEED) --hypothesis-seed=$(NIGHTLY_SEED) -rA --durations=0 \
	  --durations-min=1 --ignore=tests/deploy --ignore=tests/cluster $(ARGS)
	@scripts/ci-cluster long

setup-load: $(LOAD_STAMP) ## like setup-test, plus Locust and the plotting packages of bench

bench: $(LOAD_STAMP) ## measure the cost of a chat turn and the mesh's turns per second (ARGS=--small; loadtest/README.md)
	@PYTHONPATH=loadtest $(PYTHON) -m bench $(ARGS)

load: $(LOAD_STAMP) ## run a mesh under load from Locust users: make load USERS=1500 RATE=15 DURATION=180s
	@PYTHONPATH=loadtest $(PYTHON) -m bench.crowd --users $(USERS) --rate $(RATE) --duration $(DURATION) $(ARGS)

check: $(TEST_STAMP) deploy-tools ## check format, lint, proto, import rules, types and the chart, fastest first
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@cd proto && ../.venv/bin/buf lint
	@PYTHON=../.venv/bin/python proto/generate.sh --check
	@.venv/bin/lint-imports
	@.venv/bin/mypy --strict $(PACKAGES) loadtest/simulator loadtest/bench loadtest/bare tests examples/acme-tools examples/research-graph
	@$(PYTHON) -m pytest --quiet -n $(WORKERS) --dist worksteal tests/deploy

deploy-tools: $(TEST_STAMP) ## install the programs that check the chart, the Dockerfile, Compose and the workflows
	@scripts/deploy-tools.sh

deploy-check: deploy-tools ## check all that the chart renders (lint, schemas, policies) for many combinations of values
	@scripts/deploy-check
	@$(PYTHON) -m pytest --quiet -n $(WORKERS) --dist worksteal tests/deploy/test_any_values.py --hypothesis-profile=deploy-check --timeout=1200

images: ## build the images of the five services (IMAGE_REGISTRY, IMAGE_TAG)
	@scripts/images

sbom: images ## write the contents of each image to sbom/, as SPDX (needs syft or Go)
	@scripts/sbom

cluster-test: $(TEST_STAMP) ## test the release on the cluster that KUBECONFIG names (a subset: ARGS='-m short')
	@$(PYTHON) -m pytest --durations=10 tests/cluster $(ARGS)

docker-run-env: $(DEV_STAMP) ## run the mesh with Compose: make docker-run-env ENV=development
	@scripts/compose run $(ENV)

docker-logs: ## follow the logs of the mesh that Compose runs
	@scripts/compose logs $(ENV)

docker-stop: ## stop the mesh that Compose runs; its data is kept
	@scripts/compose stop $(ENV)

fmt: $(TEST_STAMP) ## format the code and apply ruff's fixes
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

proto: $(TEST_STAMP) ## regenerate proto/gen
	@PYTHON=../.venv/bin/python proto/generate.sh

proto-check: $(TEST_STAMP) ## check that proto/gen matches the .proto files
	@PYTHON=../.venv/bin/python proto/generate.sh --check

secrets: $(DEV_STAMP) ## generate all keys and passwords of a mesh in secrets/ (or FOLDER=…; FORMAT=kubernetes prints Secrets)
	@$(PYTHON) -m mesh_admin secrets --format $(FORMAT) --folder "$(FOLDER)"

lock: $(TEST_STAMP) ## resolve the requirements again
	@UV="$(CURDIR)/.mesh/tools/bin/uv" requirements/lock.sh

$(DEV_STAMP): requirements/dev.txt $(SETUP_INPUTS)
	@scripts/bootstrap.sh dev
	@touch $@

$(LOAD_STAMP): requirements/load.txt $(TEST_STAMP)
	@scripts/bootstrap.sh load
	@touch $@

# The test lock includes everything in the lock of the stack.
$(TEST_STAMP): requirements/test.txt $(SETUP_INPUTS)
	@scripts/bootstrap.sh test
	@touch $@ $(DEV_STAMP)
