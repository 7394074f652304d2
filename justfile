# https://just.systems; every recipe runs in the environment of `pip install -e '.[dev]'`.

_default:
    @just --list

# Tests: everything, or what you name (`just test st_pipelines_tests/warehouse -k merge`).
test *ARGS:
    pytest {{ARGS}}

# Report what `fix` and `pyright` would complain about.
lint:
    ruff check .
    ruff format --check .
    pyright

# Repair what ruff can repair.
fix:
    ruff check --fix .
    ruff format .

# Fill data/sandbox.duckdb from the sandbox, without credentials.
demo *ARGS:
    st-pipelines demo {{ARGS}}

# The whole check on a clean checkout, as CI runs it.
ci:
    .ci/run
