"""Sessions of signed-in browsers: a random id in a cookie, and a row in the database.

The cookie holds the caller's name and a random id of 256 bits, and nothing of the token. The
database holds an HMAC of that id whose key is the caller's token. This is the simplest design in
which each of these holds:

- After signing out, a copied cookie does not work: the row is deleted, for all workers and all
  servers on the database, and after a restart.
- A session ends when its token is changed or removed: no row has its HMAC then.
- A copy of the database cannot be used for signing in, or for finding a token.
- No secret file is needed, and no shared list of revoked sessions.

Each request of a signed-in browser makes one query by primary key.
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
        store: The database with the sessions.
    """

    def __init__(self, tokens: Mapping[str, str], store: Store) -> None:
        self._tokens = tokens
        self._store = store

    def start(self, name: str) -> str:
        """Start a session of a caller, and return the value of its cookie.

        Raises:
            DatabaseError: The database cannot store the session.
        """
        cookie = f"{name}:{token_urlsafe(32)}"
        digest = self._digest(cookie)
        assert digest is not None  # noqa: S101 - the name is that of a caller
        moment = now()
        add_session(self._store, digest, name, moment + LIFETIME, moment)
        return cookie

    def caller(self, cookie: str) -> str | None:
        """Return the name of the caller of a session; None if there is no such session.

        Raises:
            DatabaseError: The database cannot be read.
        """
        digest = self._digest(cookie)
        if digest is None or not has_session(self._store, digest, now()):
            return None
        return cookie.partition(":")[0]

    def end(self, cookie: str) -> None:
        """End a session; does nothing if it has ended already.

        Raises:
            DatabaseError: The database cannot delete the session.
        """
        if (digest := self._digest(cookie)) is not None:
            remove_session(self._store, digest)

    def _digest(self, cookie: str) -> str | None:
        """Return the primary key of the session; None if the cookie is not from this server."""
        name, _, session_id = cookie.partition(":")
        token = self._tokens.get(name)
        if token is None or not session_id:
            return None
        key, message = token.encode(), session_id.encode(errors="surrogatepass")
        return hmac.digest(key, message, "sha256").hex()
