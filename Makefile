# Everything runs on a real ComfyUI that is kept in ~/.cache/comfyui-ipadapter-instruct (IPADAPTER_INSTRUCT_CACHE moves
# it). Each target sets up what it needs, says how large that is, and goes on where it was interrupted.
# COMFYUI_PATH uses an installation of your own instead.
#
#   make demo            one picture, six instructions, headless; the sheet is left in output/
#                        (FAMILY=sd15, sdxl or sd3: its workflow, on stand-ins; DEMO_ARGS="--instruction 'use the pose'")
#   make check           lint, and the tests that need no ComfyUI (PYTEST_ARGS="-k masks" chooses tests, here and below)
#   make test            all that a change can break: each test once, with one of its sets of parameters
#   make test-all        that, and then every other test, as CI does ("--every-combination" opens each file on every page, and more)
#   make properties      property tests with many examples, drawn anew (EXAMPLES=2000; PYTEST_ARGS as above)
#   make test-on         run them on another torch, in an environment of its own (TORCH=2.15.0; PYTEST_ARGS)
#   make serve           ComfyUI with the pack in the foreground (PORT=8188, FAMILY=sd15); `make serve-world` with the demo's files
#   make bench           measure (BENCH_ARGS="growth encoder" chooses topics)
#   make gpu             measure on a graphics card, in under 8 minutes (GPU_ARGS="--rehearse", "--parts fast,small"); tools/gpu.py tells more
#   make soak            one server, 300 random prompts, interrupts, changing files (SOAK_ARGS="--prompts 50 --seed 2")
#   make coverage        lines and branches of models/ and nodes/ that no test runs (COVERAGE_ARGS="tests/unit tests/golden")
#   make faults          plant faults in the pack and see which tests notice (FAULTS_ARGS="guidance js")
#   make mutation        change models/ one thing at a time and see whether a test notices (MUTATION_ARGS="layers guidance")
#   make world           train the demo's models anew (hours; needs npm); make world-table measures them (output/drawn_world)
#   make world-way       pairs, train and evaluate there, from drawn pictures to the paper's table (WORLD_ARGS="--pictures 24")
#   make fuzz            read 100,000 spoilt files (FUZZ_ARGS="--inputs 1000 --seed 2", "--replay 2:17")
#   make lint            ruff, its format, pyright, and that ComfyUI has what models/ and nodes/ use of it
#   make audit           look for known weaknesses of what requirements.txt brings, with pip-audit
#   make workflows       write workflows/*.json, subgraphs/*.json and docs/nodes.md; take the pictures
#   make clean-cache     remove the cache folder

PYTHON3 ?= python3
FAMILY ?=
PORT ?= 8188
DEMO_ARGS ?=
PYTEST_ARGS ?=
TORCH ?=
BENCH_ARGS ?=
GPU_ARGS ?=
SOAK_ARGS ?=
EXAMPLES ?= 2000
COVERAGE_ARGS ?= tests/unit tests/golden tests/host tests/server
MUTATION_ARGS ?=
FAULTS_ARGS ?=
FUZZ_ARGS ?=
WORLD_ARGS ?=

TOOL := PYTHONPATH=tools
# Sets up what is missing and sets $$python; everything it says goes to the terminal.
SET_UP = python="$$($(TOOL) $(PYTHON3) -m comfyhost.install $(PURPOSE))"
TESTS = "$$python" tools/run_tests.py -n 2 --dist loadgroup --durations=10
PURPOSE := test
demo serve serve-world: PURPOSE := demo
lint unit: PURPOSE := check

.PHONY: setup demo check unit test test-all test-on properties serve serve-world world world-table world-way bench gpu soak fuzz coverage faults mutation lint audit workflows clean-cache

setup:
	@$(SET_UP)

demo:
	@$(SET_UP) && $(TOOL) "$$python" -m $(if $(FAMILY),comfyhost.demo --family $(FAMILY),drawn_world.demo) $(DEMO_ARGS)

check:
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint unit

unit:
	@$(SET_UP) && $(TESTS) -q tests/unit $(PYTEST_ARGS)

test:
	@$(SET_UP) && $(TESTS) --tier quick $(PYTEST_ARGS)

test-all: $(if $(PYTEST_ARGS),,test)
	@$(SET_UP) && $(TESTS) $(or $(PYTEST_ARGS),--tier rest)

properties:
	@$(SET_UP) && PROPERTIES_EXAMPLES=$(EXAMPLES) "$$python" tools/run_tests.py -n 2 -k properties --hypothesis-show-statistics tests/unit tests/host $(PYTEST_ARGS)

test-on: export IPADAPTER_INSTRUCT_TORCH = $(TORCH)
test-on: test-all

serve-world:
	@$(SET_UP) && $(TOOL) "$$python" -m drawn_world.demo --serve --port $(PORT)

world:
	@$(SET_UP) && $(TOOL) "$$python" -m drawn_world.train $(WORLD_ARGS)

world-table:
	@$(SET_UP) && $(TOOL) "$$python" -m drawn_world.table $(WORLD_ARGS)

world-way:
	@$(SET_UP) && $(TOOL) "$$python" -m drawn_world.whole_way $(WORLD_ARGS)

serve:
	@$(SET_UP) && PORT=$(PORT) FAMILY=$(FAMILY) $(TOOL) "$$python" -m comfyhost.server

bench:
	@$(SET_UP) && "$$python" tools/bench.py $(BENCH_ARGS)

gpu:
	@$(SET_UP) && "$$python" tools/gpu.py $(GPU_ARGS)

soak:
	@$(SET_UP) && $(TOOL) "$$python" -m soak $(SOAK_ARGS)

coverage:
	@$(SET_UP) && COVERAGE_FILE=$(CURDIR)/output/coverage/data "$$python" tools/run_tests.py -q -n 2 --dist loadgroup \
		--cov=$(CURDIR)/models --cov=$(CURDIR)/nodes --cov-report=term-missing:skip-covered $(COVERAGE_ARGS)

faults:
	@$(SET_UP) && OMP_NUM_THREADS=1 $(TOOL) "$$python" -m faults $(FAULTS_ARGS)

mutation:
	@$(SET_UP) && $(TOOL) "$$python" -m mutation $(MUTATION_ARGS)

fuzz:
	@$(SET_UP) && OMP_NUM_THREADS=1 $(TOOL) nice -n 10 "$$python" -m fuzzing $(FUZZ_ARGS)

lint:
	@$(SET_UP) && "$$python" -m ruff check . && "$$python" -m ruff format --check . && "$$python" -m pyright --pythonpath "$$python" \
		&& $(TOOL) "$$python" -m comfyhost.import_guard

audit:
	@$(TOOL) $(PYTHON3) -m comfyhost.audit

workflows:
	@$(SET_UP) && $(TOOL) "$$python" -m shipped && $(TOOL) "$$python" -m shipped.node_index && $(TOOL) "$$python" -m shipped.pictures

clean-cache:
	@$(TOOL) $(PYTHON3) -c "from comfyhost.install import clean_cache; clean_cache()"
