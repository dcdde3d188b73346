# make demo   merge a real trained pair, validate it by forward passes, show what changed
# make test   all tests; those against real Caffe need a Python 3.6 to 3.9, those against the
#             layers of forks a Python 3.10: found, or named by CAFFE_MERGE_CAFFE_PYTHON and
#             CAFFE_MERGE_FORKS_PYTHON; what is skipped for want of one is said
# make coverage   the same, and which lines they miss; under 95 % is an error.
#             Quick with Python 3.12 and later; with older ones tests that measure time may fail
# make lint   ruff and mypy
# make docs   build the site (out/docs/site) and the manual pages (out/docs/man)
# make dist   build the sdist, from it the wheel, and check both
# make test-versions   install the wheel on every Python; tests on the oldest and newest
# make test-targets  the table of targets against the real readers, on the pairs in TARGET_FORMS;
#             writes what they do into docs/targets.md. Downloads some gigabytes once
# make test-pages   the pages of --report and show in a real browser; needs Chromium and its driver
# make fuzz  the random tests on fresh seeds for FUZZ_SECONDS; SEED=n replays one, TESTS= picks
# make fuzz-readers  fuzz text, caffemodel and HDF5 for FUZZ_SECONDS in all, under atheris
# make bench  the measurements of docs/benchmarks.md

PYTHON ?= python3
VENV ?= .venv
CAFFE_VENV ?= .venv-caffe
FORKS_VENV ?= .venv-caffe-forks
BIN := $(VENV)/bin
DIGITS := examples/digits
OUT := out
FUZZ_SECONDS ?= 300
TARGET_FORMS ?= ../shared/forms

# The tests start a program a thousand times: it must not be compiled each time.
unexport PYTHONDONTWRITEBYTECODE

# Real Caffe for what follows in the same shell: what the user has set, else found or made.
WITH_CAFFE = caffe=$$($(PYTHON) tools/caffe_env.py $(CAFFE_VENV)) \
  && forks=$$($(PYTHON) tools/caffe_env.py --forks $(FORKS_VENV)) || exit 1; \
  export CAFFE_MERGE_CAFFE_PYTHON=$$caffe CAFFE_MERGE_FORKS_PYTHON=$$forks

# Processes that share the tests: as many as cores, up to four; the threads of one would only be in
# the way of the others.
JOBS ?= auto
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
PYTEST := -m pytest --numprocesses $(JOBS) --maxprocesses 4 --dist worksteal

.PHONY: demo test test-pages coverage test-versions test-targets dist docs lint fuzz fuzz-readers bench clean

$(VENV)/ready: setup.py pyproject.toml proto/caffe.proto
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	@mkdir -p $(OUT)
	@$(BIN)/python $(DIGITS)/images.py $(OUT)/digit_images
	$(BIN)/merge_bn.py --model $(DIGITS)/deploy.prototxt --weights $(DIGITS)/digits.caffemodel \
	  --output-model $(OUT)/digits.prototxt --output-weights $(OUT)/digits.caffemodel --force -v \
	  --images $(OUT)/digit_images --labels $(OUT)/digit_images/labels.txt --image-scale 0.00416666667
	@echo
	@echo "What changed in the text (- before, + after):"
	@diff -U0 $(DIGITS)/deploy.prototxt $(OUT)/digits.prototxt | grep -E '^[-+] *(name|type|top|bias_term)' || true
	@echo
	@echo "Accuracy on held-out digits, before and after:"
	$(BIN)/python $(DIGITS)/accuracy.py $(DIGITS)/deploy.prototxt $(DIGITS)/digits.caffemodel \
	  $(OUT)/digits.prototxt $(OUT)/digits.caffemodel

test: $(VENV)/ready
	@$(WITH_CAFFE); \
	$(ONE_THREAD) $(BIN)/python $(PYTEST) $(TESTS)

test-pages: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[browser]'
	CAFFE_MERGE_REQUIRE_BROWSER=1 $(BIN)/python -m pytest tests/pages

coverage: $(VENV)/ready
	@$(WITH_CAFFE); \
	$(ONE_THREAD) COVERAGE_CORE=sysmon $(BIN)/python $(PYTEST) --cov $(TESTS)

fuzz: $(VENV)/ready
	@$(WITH_CAFFE); \
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS) \
	  $(if $(SEED),--seed $(SEED)) $(TESTS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dist: $(VENV)/ready
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

docs: $(VENV)/ready
	@mkdir -p $(OUT)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python tools/make_docs.py $(OUT)/docs

test-versions: dist
	@$(WITH_CAFFE); \
	$(PYTHON) tools/test_versions.py .venv-versions dist/*.whl

test-targets: $(VENV)/ready
	readers=$$($(BIN)/python tools/target_envs.py .venv-targets) && \
	$(BIN)/python tools/test_targets.py $(TARGET_FORMS) tests/passes/targets/results.json $$readers
	$(BIN)/python tools/make_targets.py

bench: $(VENV)/ready
	@$(WITH_CAFFE); \
	$(BIN)/python -m benchmarks

fuzz-readers: $(VENV)/ready
	$(BIN)/python -m pip install --quiet 'atheris>=2.3' || echo "atheris could not be installed" >&2
	$(BIN)/python -m tests.fuzz $(FUZZ_SECONDS)

clean:
	rm -rf $(VENV) $(CAFFE_VENV) $(FORKS_VENV) .venv-versions .venv-targets $(OUT) build dist *.egg-info .coverage caffe_merge/formats/schema/caffe.desc
