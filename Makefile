# `make` alone lists the targets.
PROFILE ?= quick
SET ?=
CORES ?= 2
OWNER ?=
VENV := .venv
PYTHON := $(VENV)/bin/python
# Half a minute quicker: Python compiles the modules that are imported, not 15,000.
INSTALL := $(PYTHON) -m pip install -q --no-compile
RUNS := $(PYTHON) -m lazyutils.cli

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help book notebooks dataset sweep resume site publish kaggle serve test bench check clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo '  PROFILE=smoke|quick|full|gpu, SET="task.parameter=value ...", CORES=n, OWNER=<your Kaggle user>'

$(VENV)/.installed: requirements.txt pyproject.toml
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	$(INSTALL) --no-deps -e .
	touch $@

$(VENV)/.tested: requirements.txt pyproject.toml tests/requirements.txt tests/requirements-nodeps.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(INSTALL) -r requirements.txt -r tests/requirements.txt
	$(INSTALL) --no-deps -e . -r tests/requirements-nodeps.txt
	touch $(VENV)/.installed $@

node_modules/.package-lock.json: package.json package-lock.json
	-npm ci --ignore-scripts --no-audit --no-fund || echo "npm failed: the site will load its scripts from CDNs" >&2

book: notebooks ## run the tasks of PROFILE and build the site in _build/html
	$(RUNS) site --profile $(PROFILE)

notebooks: $(VENV)/.installed node_modules/.package-lock.json ## run the tasks of PROFILE only
	$(RUNS) run --profile $(PROFILE) --cores $(CORES) --set $(SET)

dataset: $(VENV)/.installed ## make the data set of PROFILE only
	$(RUNS) run task0_biased_canvas --profile $(PROFILE) --cores $(CORES) --set $(SET)

sweep: dataset ## train all networks of Task 4 side by side (CLUSTER=sweep/slurm: on a cluster)
	$(PYTHON) -m snakemake -s sweep/Snakefile --config profile=$(PROFILE) set='$(SET)' --rerun-incomplete --nolock \
	  --keep-going $(if $(CLUSTER),--profile $(CLUSTER),--cores $(CORES))

resume: dataset ## give PROFILE the published training runs of Task 4: `make sweep` makes the others only
	$(PYTHON) -m lazyutils.points unpack book/points.jsonl runs/$(PROFILE)/points

site: $(VENV)/.installed node_modules/.package-lock.json ## build the published edition, running nothing
	$(PYTHON) -m lazyutils.site

publish: $(VENV)/.installed ## make the finished full run the published edition below book/
	$(PYTHON) -m lazyutils.publish runs/full

kaggle: $(VENV)/.installed ## write kaggle/: data set and notebooks, ready for the Kaggle CLI
	$(PYTHON) -m lazyutils.kaggle $(if $(OWNER),--owner $(OWNER))

serve: ## show _build/html at http://localhost:8000
	$(PYTHON) -m http.server 8000 --bind 127.0.0.1 --directory _build/html

test: $(VENV)/.tested node_modules/.package-lock.json ## run the tests
	$(PYTHON) -m pytest -n $(CORES)

bench: $(VENV)/.tested notebooks ## run the side-by-side benchmarks
	for script in benchmarks/bench_*.py; do $(PYTHON) $$script || exit 1; done

check: $(VENV)/.tested ## lint, format, notebook pairs, the repo's own address
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m lazyutils.notebooks check
	$(PYTHON) -m lazyutils.address check

clean: ## remove the site, all runs and kaggle/; MNIST and the environment stay
	rm -rf _build runs kaggle .snakemake
