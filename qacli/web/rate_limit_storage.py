"""How often each client of a server has asked, where its processes count together.

In a file of its own that is gone with the server: it is no part of the history.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from limits.storage import Storage

STORAGE_FILE = "rates.sqlite"


class FileStorage(Storage):
    """Counts in a file, by whichever process; gone with the server.

    Args:
        directory: Where the file is.
        now: The clock.
    """

    STORAGE_SCHEME = None

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._now = now
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            directory / STORAGE_FILE, timeout=30, isolation_level=None, check_same_thread=False
        )
        # Nothing here need survive: only other processes have to see it.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS rate (key TEXT PRIMARY KEY, number INTEGER, ends REAL)"
        )
        self._database.execute("CREATE INDEX IF NOT EXISTS ix_rate_ends ON rate (ends)")

    def _one(self, statement: str, *values: object) -> tuple[int, float] | None:
        with self._lock:
            found: tuple[int, float] | None = self._database.execute(statement, values).fetchone()
        return found

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the storage may raise."""
        return sqlite3.Error

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count; gives how often within the window, which begins with the first."""
        now = self._now()
        found = self._one(
            "INSERT INTO rate VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET "
            "number = iif(ends <= ?4, ?2, number + ?2), ends = iif(ends <= ?4, ?3, ends) "
            "RETURNING number, ends",
            *(key, amount, now + expiry, now),
        )
        number = found[0] if found else amount
        if number == amount:  # a new window: time to forget those that have ended
            self._one("DELETE FROM rate WHERE ends <= ?", now)
        return number

    def get(self, key: str) -> int:
        """How often within the window."""
        found = self._one(
            "SELECT number, ends FROM rate WHERE key = ? AND ends > ?", key, self._now()
        )
        return found[0] if found else 0

    def get_expiry(self, key: str) -> float:
        """When the window ends."""
        found = self._one("SELECT number, ends FROM rate WHERE key = ?", key)
        return found[1] if found else self._now()

    def check(self) -> bool:
        """Whether it can be used."""
        return self._one("SELECT 1, 1.0") is not None

    def reset(self) -> int | None:
        """Forget everything."""
        with self._lock:
            return self._database.execute("DELETE FROM rate").rowcount

    def clear(self, key: str) -> None:
        """Forget one window."""
        self._one("DELETE FROM rate WHERE key = ?", key)
