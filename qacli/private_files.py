"""Create directories and files that only their owner can read."""

import os
from contextlib import suppress
from pathlib import Path


def make_private_directory(directory: Path) -> None:
    """Create a directory and its missing parents with mode 0700.

    Raises:
        OSError: A directory cannot be created.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(exist_ok=True)


def write_private(target: Path, data: bytes) -> None:
    """Replace a file atomically, safe against a power cut; the new file has mode 0600.

    Raises:
        OSError: The file cannot be written; the old content is unchanged.
    """
    new = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123 - opened with its mode
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(target)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
