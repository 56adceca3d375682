"""Links of the pages in docs/ to files outside of docs/, for the site that MkDocs builds.

Two of these files become pages of the site. A link to any other file becomes its text and its path
in the repository, since the site has no address for it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"benchmarks/RESULTS.md": "benchmarks.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\[([^\]\n]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> None:  # noqa: ANN401 - MkDocs calls it by these names
    """Add the pages that are not in docs/."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text("utf-8")))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401
    """Return the text of a page with its links to files outside of docs/ replaced."""
    directory = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(directory, target))
        if path.startswith("docs/"):
            return match[0]
        if path in PAGES:
            way = posixpath.relpath(posixpath.join("docs", PAGES[path]), directory)
            return f"[{text}]({way}{anchor or ''})"
        return f"{text} (`{path}` in the repository)"

    return LINK.sub(link, markdown)
