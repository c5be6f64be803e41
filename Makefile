# Everything a newcomer needs; each target builds the virtual environment first if it is not there.
PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := California_Housing.ipynb DDPM.ipynb DDPM_Conditional.ipynb Dataset_Reduction.ipynb Inference.ipynb \
	Mixture.ipynb Mock_Catalogue.ipynb
# Measured against exact posteriors by bench-truth; whole spectra would take the other measures hours.
MOCKS := $(wildcard trained_models/mock_*)
.PHONY: venv test test-slow lint docker-check data figures notebooks evaluate bench-training bench-inference bench-densities bench-truth \
	bench-wide bench-resume clean

venv: .venv/built

.venv/built: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

test: venv  ## style and the fast tests: minutes, no GPU, no network, no data files needed
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -m "not slow" $(PYTEST)

test-slow: venv  ## trainings to statistical targets, and the notebooks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --durations=10 $(PYTEST)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docker-check: venv  ## lint the Dockerfile; needs no docker
	$(BIN)/hadolint --failure-threshold style Dockerfile
	$(BIN)/python -m pytest tests/test_dockerfile.py

data: venv  ## the paper's files from Zenodo; a transfer that was cut is continued
	$(BIN)/python -m model.datasets.download

figures: venv  ## run the notebooks on the committed checkpoints; pictures appear in figs/
	$(BIN)/python -m model.diagrams
	OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --to notebook --execute --output-dir build/notebooks $(NOTEBOOKS)

notebooks: venv  ## the same, with the outputs kept in the notebooks themselves: to be committed
	OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)

evaluate: venv  ## measure the committed checkpoints on their test rows
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.accuracy $(filter-out $(MOCKS), $(wildcard trained_models/*))
	$(BIN)/python -m benchmarks.report --write

bench-training: venv  ## the published training procedure, literally, against ours: 10 minutes
	$(BIN)/python -m benchmarks.training

bench-inference: venv  ## the published sampling loop, literally, against ours; errors and memory: 10 minutes
	$(BIN)/python -m benchmarks.inference

bench-densities: venv  ## densities, joints and errors against closed forms; solvers and samplers against each other
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.densities $(filter-out $(MOCKS), $(wildcard trained_models/mixture trained_models/*_improved))

bench-truth: venv  ## the mock sky's checkpoints against exact posteriors: 10 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.truth $(MOCKS)

bench-wide: venv  ## the mock's 118 columns, trained for 13 minutes of one core
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.wide

bench-resume: venv  ## kill a training at random instants and resume it
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.resume

clean:
	rm -rf .venv build
