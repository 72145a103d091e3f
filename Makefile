# Everything a newcomer needs; `make` alone lists it.
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
SOURCES := src tests packaging $(wildcard bench lab)

.PHONY: help assets setup demo test lint types unit rack-test sim soak mutants bench-failover bench-migrate bench-placement bench-detection bench-manager bench-fleet chaos rack-stories soak-moves soak-kills format clean model deb lab

help: ## this list
	@echo "Outlast: VMs outlast their hosts."
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | \
	  awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

setup: ## install what is missing: Debian packages (through sudo) and .venv
	@scripts/setup.sh

demo: setup ## a pool of three hosts on this machine; one of them dies (needs root or sudo)
	@scripts/as-root.sh $(PYTHON) -m outlast.rack.demo

test: setup ## everything: lint, types, unit tests, real processes on the rack
	@scripts/test.sh

lint: setup ## ruff: rules and format
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check $(SOURCES)

types: setup ## mypy, strict
	@.venv/bin/mypy

unit: setup ## tests that need neither root nor much time
	@$(PYTHON) -m pytest -m "not rack and not slow and not patient"

rack-test: setup ## tests with real processes in namespaces (needs root or sudo)
	@scripts/as-root.sh $(PYTHON) -m pytest -m rack

model: setup ## every course of the protocol with two hosts and two faults; minutes
	@$(PYTHON) tests/model/register_model.py
	@$(PYTHON) tests/model/core_model.py

sim: setup ## random faults in the simulator for SECONDS=60, on all processors
	@$(PYTHON) -m outlast.sim --seconds $(or $(SECONDS),60) --from $(or $(FROM),1)

soak: setup ## the same for HOURS=8, resumable; BRANCHES=1: short schedules; results in build/
	@$(PYTHON) -m outlast.sim --seconds $$(( $(or $(HOURS),8) * 3600 )) $(if $(BRANCHES),--branches) \
	  --soak build/soak$(if $(BRANCHES),-branches)-$$(git rev-parse --short HEAD).json

mutants: setup ## each rule of the protocol switched off: does the simulator notice? (minutes)
	@PYTHONPATH=src $(PYTHON) tests/sim/mutants.py

bench-failover: setup ## measure how long a VM is away when its host dies (needs root or sudo)
	@scripts/as-root.sh $(PYTHON) -m bench.failover

bench-migrate: setup ## what a live migration costs beside plain libvirt (needs root or sudo)
	@scripts/as-root.sh $(PYTHON) -m bench.migrate

bench-placement: setup ## how good and how fast placement is; LARGE=1 adds 1,000 hosts
	@PYTHONPATH=src $(PYTHON) -m bench.placement $(if $(LARGE),--large)

bench-detection: setup ## is anybody taken for dead who lives? 64 hosts for HOURS=1 (minutes of CPU)
	@PYTHONPATH=src $(PYTHON) -m bench.detection --hours $(or $(HOURS),1)

bench-manager: setup ## what the manager's lists and streams cost beside the same done bare
	@PYTHONPATH=src $(PYTHON) -m bench.manager

bench-fleet: setup ## what the manager costs with 100 pools of 64 hosts and 2,000 VMs; POOLS=20 for fewer
	@PYTHONPATH=src $(PYTHON) -m bench.fleet --pools $(or $(POOLS),100)

chaos: setup ## random faults on real hosts for MINUTES=10, judged by the VMs' own disks (needs root or sudo)
	@OUTLAST_CHAOS_S=$$(( $(or $(MINUTES),10) * 60 )) scripts/as-root.sh $(PYTHON) -m pytest -s tests/rack/whole/test_chaos.py

rack-stories: setup ## marked stories of the simulator with real processes and faults, note by note; STORIES=part-of-name (needs root or sudo)
	@OUTLAST_STORIES=$(or $(STORIES),all) scripts/as-root.sh $(PYTHON) -m pytest -s tests/rack/whole/test_stories_real.py

soak-moves: setup ## MOVES=200 live migrations, each with a fault at a random instant (needs root or sudo)
	@OUTLAST_MOVES=$(or $(MOVES),200) OUTLAST_BACK_AND_FORTH=$$(( $(or $(MOVES),200) / 2 )) \
	  scripts/as-root.sh $(PYTHON) -m pytest -s tests/rack/whole/test_migration.py

soak-kills: setup ## kill -9 of every process of the product, KILLS=100 times (needs root or sudo)
	@OUTLAST_KILLS=$(or $(KILLS),100) scripts/as-root.sh $(PYTHON) -m pytest -s tests/rack/whole/test_processes_killed.py

lab: deb ## whole machines with Debian's kernel: NFS, OCFS2, iSCSI, the install page, cloud-init; TRIALS="nfs install" (needs root or sudo)
	@PYTHONPATH=src scripts/as-root.sh $(PYTHON) -m lab $(TRIALS) --json build/lab.json

deb: setup ## Debian packages of this checkout: build/outlast_*.deb, build/outlast-manager_*.deb
	@$(PYTHON) packaging/debian/build.py

assets: setup ## renew the console's scripts, icons and font from assets/package-lock.json (needs npm)
	@$(PYTHON) assets/build.py

format: setup ## rewrite the sources in the house format
	@.venv/bin/ruff check --fix-only $(SOURCES)
	@.venv/bin/ruff format $(SOURCES)

clean: ## remove .venv, caches and built files
	@rm -rf .venv .venv-tools build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
