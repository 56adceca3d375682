"""The site that MkDocs builds of docs/ (`just docs`)."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `just docs` does, and return its directory."""
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", directory]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_site_has_every_page(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    names = {page.with_suffix(".html") for page in pages if page.name != "README.md"}
    assert names <= {page.relative_to(site) for page in site.rglob("*.html")}
    assert (site / "benchmarks.html").exists()
    assert not list(site.rglob("*.py"))


def test_site_fetches_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]* src(?:set)?="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]* href="([^"]+)"', text)
        assert loaded
        assert [target for target in loaded if "//" in target] == []
        assert 'class="mermaid"' not in text  # the theme would load its script from another host


def test_site_link_to_a_file_outside_of_docs_leads_to_its_page(site: Path) -> None:
    assert 'href="benchmarks.html"' in (site / "batch.html").read_text()


def test_site_search_index_has_every_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"] if entry["text"]}
    assert {"asking.html", "cli.html", "providers.html", "adr/0001-outbox.html"} <= found
