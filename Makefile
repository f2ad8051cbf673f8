# SPDX-License-Identifier: GPL-3.0-or-later
SCENARIO ?= default

help: ## say what can be made
	@awk -F ': ## ' '/^[a-z-]+: ## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: ## a VPS in a container, turned into a mail server over SSH, with what to type into a mail client
	@scripts/demo up

demo-down: ## remove the demo
	@scripts/demo down

test: ## all of it: lint, unit, sanity, build, molecule
	@scripts/test

lint: ## the linters
	@scripts/test lint

unit: ## the unit tests, on this machine's Pythons; no host is needed
	@scripts/test unit

sanity: ## ansible-test sanity
	@scripts/test sanity

molecule: ## one scenario: make molecule SCENARIO=default
	@scripts/molecule $(SCENARIO)

docs: ## the documentation of modules, filters and roles, as HTML in .cache/docs/html
	@scripts/in collection scripts/docs

changelog: ## CHANGELOG.md, from the fragments in changelogs/
	@scripts/in collection scripts/changelog

bench: ## figures: what a run costs, and what the server carries; into bench/results
	@scripts/bench

clean: ## remove what the other targets made in this folder
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache port587-mail-*.tar.gz

.PHONY: help demo demo-down test lint unit sanity molecule docs changelog bench clean
