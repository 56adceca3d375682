"""Sessions of browsers that have signed in: a random id in a cookie, and a row in the database.

The cookie holds the caller's name and a random id of 256 bits, and nothing of the token. The
database holds an HMAC of that id whose key is the caller's token. This is the simplest design in
which each of these holds:

- A copied cookie no longer works after signing out: the row is gone, for all workers and all
  servers on the database, and after a restart.
- A session ends when its token is changed or taken away: no row has its HMAC then.
- A copy of the database is of no use for signing in, nor for finding out a token.
- There is no secret to keep in a file, nor a list of revoked sessions to share and to clean up.

It costs one query by primary key for each request that a signed-in browser makes.
"""

import hmac
from collections.abc import Mapping
from datetime import timedelta
from secrets import token_urlsafe

from qacli.db.records import Store
from qacli.db.sessions import add_session, has_session, remove_session
from qacli.domain import now

COOKIE = "qa_session"
LIFETIME = timedelta(days=30)


class Sessions:
    """The sessions of one server.

    Args:
        tokens: The tokens by the names of their callers.
        store: Where the sessions are kept.
    """

    def __init__(self, tokens: Mapping[str, str], store: Store) -> None:
        self._tokens = tokens
        self._store = store

    def begin(self, name: str) -> str:
        """Begin a session of a caller; returns the cookie's value.

        Raises:
            DatabaseError: It cannot be kept.
        """
        cookie = f"{name}:{token_urlsafe(32)}"
        digest = self._digest(cookie)
        assert digest is not None  # noqa: S101 - the caller has just sent its token
        moment = now()
        add_session(self._store, digest, name, moment + LIFETIME, moment)
        return cookie

    def caller(self, cookie: str) -> str | None:
        """Return the name of the caller whose session it is; None where there is none, or no more.

        Raises:
            DatabaseError: It cannot be looked up.
        """
        digest = self._digest(cookie)
        if digest is None or not has_session(self._store, digest, now()):
            return None
        return cookie.partition(":")[0]

    def end(self, cookie: str) -> None:
        """End a session; one that has ended already is no error.

        Raises:
            DatabaseError: It cannot be ended.
        """
        if (digest := self._digest(cookie)) is not None:
            remove_session(self._store, digest)

    def _digest(self, cookie: str) -> str | None:
        """Return the primary key of the session's row; None for a cookie that cannot be ours."""
        name, _, session_id = cookie.partition(":")
        token = self._tokens.get(name)
        if token is None or not session_id:
            return None
        key, message = token.encode(), session_id.encode(errors="surrogatepass")
        return hmac.digest(key, message, "sha256").hex()
