"""Environments with released versions of `llm`; each is made once for each user."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from platformdirs import user_cache_path

SECONDS = 300
PACKAGES = ("httpx",)  # llm 0.31 and older import it, and count on openai to bring it


def python_with_llm(version: str) -> Path:
    """Return the Python of an environment with this version; skip the test without one."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is needed, to install llm")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = user_cache_path("qa-tests") / f"llm-{version}-python{python}"
    home.parent.mkdir(parents=True, exist_ok=True)
    complete = home / "complete"
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            packages = [f"llm=={version}", *PACKAGES]
            into = ["--compile-bytecode", "--python", home / "bin" / "python"]
            for command in (
                ["venv", "--clear", "--python", sys.executable, home],
                ["pip", "install", *into, *packages],
            ):
                # Not in this project, whose own settings for uv leave llm out.
                done = subprocess.run(
                    [uv, "--directory", home.parent, *command],
                    capture_output=True,
                    text=True,
                    timeout=SECONDS,
                    check=False,
                )
                if done.returncode:
                    pytest.skip(f"llm {version} cannot be installed: {done.stderr[-500:]}")
            complete.touch()
    return home / "bin" / "python"


def make_llm_history(version: str, user: Path, base_url: str, key: str, what: str) -> Path:
    """Run `llm_history.py` with this version, and return the database."""
    program = Path(__file__).with_name("llm_history.py")
    subprocess.run(
        [python_with_llm(version), program, what, base_url, key],
        env={**os.environ, "LLM_USER_PATH": str(user)},
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    return user / "logs.db"
