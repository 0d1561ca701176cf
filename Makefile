# Everything a person does with this repository; `make help` lists it. Needs git, make and python3 with pip.
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

# What to run with pytest: `make test ARGS='-m unit -k ports'`.
ARGS :=
# How many processes `make test` runs tests in: two a core, because tests wait more than they compute.
WORKERS := 4
# How `make secrets` writes them: dotenv or kubernetes.
FORMAT := dotenv
# Where `make secrets` writes dotenv files.
FOLDER := secrets
# Where `make docker-run-env` runs: development or production.
ENV := development
# How many schedules `make chaos` runs, and the seed of the first.
N := 15
SEED := 1
# The seed of the first of what `make nightly` draws: another each night, unless SEED is given.
NIGHTLY_SEED := $(if $(filter command line,$(origin SEED)),$(SEED),$(shell date -u +%Y%m%d))
# What `make load` starts: users in all, how many come in a second, and for how long in all.
USERS := 1500
RATE := 15
DURATION := 180s

.PHONY: secrets help setup setup-test lock dev demo trace proto proto-check check fmt test nightly chaos setup-load bench load
.PHONY: images sbom deploy-tools deploy-check cluster-test docker-run-env docker-logs docker-stop

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(DEV_STAMP) ## make .venv with what the stack needs (done by the targets below)

setup-test: $(TEST_STAMP) ## the same with the tools of check and test

dev: $(DEV_STAMP) ## start the whole stack and leave it running until Ctrl-C
	@$(PYTHON) -m mesh_dev dev

demo: $(DEV_STAMP) ## start the stack, show one conversation through it, stop it
	@$(PYTHON) -m mesh_dev demo

trace: $(DEV_STAMP) ## print a trace of the running stack: make trace ID=<trace or run id>
	@$(PYTHON) -m mesh_dev trace "$(ID)"

test: $(TEST_STAMP) ## run all tests but the nightly ones (ARGS='-m unit' for some, WORKERS=0 for one process)
	@$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10 \
	  --ignore=tests/deploy --ignore=tests/cluster $(ARGS)

chaos: $(TEST_STAMP) ## break what can break, by seed, and check what clients saw: make chaos N=200 SEED=1
	@PYTHONPATH=tests:loadtest $(PYTHON) -m chaos schedules --count $(N) --seed $(SEED)

nightly: $(LOAD_STAMP) ## the tests that take long, with seeds of the day (SEED=… runs those of another)
	@$(PYTHON) -m pytest --nightly --seed=$(NIGHTLY_SEED) --hypothesis-seed=$(NIGHTLY_SEED) -rA --durations=0 \
	  --durations-min=1 --ignore=tests/deploy --ignore=tests/cluster $(ARGS)

setup-load: $(LOAD_STAMP) ## the same with Locust and what draws the plots of bench

bench: $(LOAD_STAMP) ## measure what a chat turn costs and how many a second the mesh takes (ARGS=--small; README in loadtest)
	@PYTHONPATH=loadtest $(PYTHON) -m bench $(ARGS)

load: $(LOAD_STAMP) ## a mesh under Locust's users: make load USERS=1500 RATE=15 DURATION=180s
	@PYTHONPATH=loadtest $(PYTHON) -m bench.crowd --users $(USERS) --rate $(RATE) --duration $(DURATION) $(ARGS)

check: $(TEST_STAMP) deploy-tools ## format, lint, proto, import rules, types and the chart, the fastest first
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@cd proto && ../.venv/bin/buf lint
	@PYTHON=../.venv/bin/python proto/generate.sh --check
	@.venv/bin/lint-imports
	@.venv/bin/mypy --strict $(PACKAGES) loadtest/simulator loadtest/bench loadtest/bare tests
	@$(PYTHON) -m pytest --quiet -n $(WORKERS) --dist worksteal tests/deploy

deploy-tools: $(TEST_STAMP) ## get the programs that check the chart, the images' recipe, Compose and the workflows
	@scripts/deploy-tools.sh

deploy-check: deploy-tools ## lint, schemas and policies on everything the chart renders, and many combinations of values
	@scripts/deploy-check
	@$(PYTHON) -m pytest --quiet -n $(WORKERS) --dist worksteal tests/deploy/test_any_values.py --hypothesis-profile=deploy-check --timeout=1200

images: ## build the images of the five services (IMAGE_REGISTRY, IMAGE_TAG)
	@scripts/images

sbom: images ## write what is in each image to sbom/, as SPDX (needs syft or Go)
	@scripts/sbom

cluster-test: $(TEST_STAMP) ## test the release on the cluster that KUBECONFIG names (ARGS='-m short' for some)
	@$(PYTHON) -m pytest --durations=10 tests/cluster $(ARGS)

docker-run-env: $(DEV_STAMP) ## run the mesh by Compose: make docker-run-env ENV=development
	@scripts/compose run $(ENV)

docker-logs: ## follow the logs of the mesh run by Compose
	@scripts/compose logs $(ENV)

docker-stop: ## stop the mesh run by Compose; its data stays
	@scripts/compose stop $(ENV)

fmt: $(TEST_STAMP) ## format the code and repair what ruff can
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

proto: $(TEST_STAMP) ## make proto/gen anew
	@PYTHON=../.venv/bin/python proto/generate.sh

proto-check: $(TEST_STAMP) ## see that proto/gen is what the .proto files give
	@PYTHON=../.venv/bin/python proto/generate.sh --check

secrets: $(DEV_STAMP) ## make every key and password of a mesh under secrets/ (or FOLDER=…; FORMAT=kubernetes prints Secrets)
	@$(PYTHON) -m mesh_admin secrets --format $(FORMAT) --folder "$(FOLDER)"

lock: $(TEST_STAMP) ## resolve the requirements anew
	@UV="$(CURDIR)/.mesh/tools/bin/uv" requirements/lock.sh

$(DEV_STAMP): requirements/dev.txt $(SETUP_INPUTS)
	@scripts/bootstrap.sh dev
	@touch $@

$(LOAD_STAMP): requirements/load.txt $(TEST_STAMP)
	@scripts/bootstrap.sh load
	@touch $@

# The lock of the tests holds all of the lock of the stack.
$(TEST_STAMP): requirements/test.txt $(SETUP_INPUTS)
	@scripts/bootstrap.sh test
	@touch $@ $(DEV_STAMP)
