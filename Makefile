# Everything a newcomer needs; each target builds the virtual environment first if it is not there.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: venv test test-slow lint figures evaluate clean

venv: .venv/built

.venv/built: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

test: venv  ## style and the fast tests: minutes, no GPU, no network, no data files needed
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -m "not slow"

test-slow: venv  ## trainings to statistical targets, and the notebooks
	$(BIN)/python -m pytest -m slow

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

figures: venv  ## run the notebooks on the committed checkpoints; pictures appear in figs/
	$(BIN)/python -m figures

evaluate: venv  ## measure the committed checkpoints on their test rows
	$(BIN)/python -m benchmarks.accuracy trained_models/california_housing trained_models/green2021 trained_models/mixture

clean:
	rm -rf .venv runs
