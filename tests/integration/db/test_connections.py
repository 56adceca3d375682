"""How a connection to a database is set up."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from qacli.db.records import Store
from qacli.errors import DatabaseError


def test_store_postgresql_connection_has_timeouts(postgres_url: str) -> None:
    store = Store(f"postgresql+psycopg2://{postgres_url.partition('://')[2]}")
    with store.transaction() as connection:
        said = connection.connection.dbapi_connection.get_dsn_parameters()  # type: ignore[union-attr]
        assert connection.scalar(sa.text("SELECT 1")) == 1
    store.close()
    assert int(said["tcp_user_timeout"]) == 20_000
    wait = int(said["keepalives_idle"]) + int(said["keepalives_interval"]) * 3
    assert wait <= 20


def test_store_pooled_connection_closed_by_a_loss_is_replaced(postgres_url: str) -> None:
    url = f"postgresql+psycopg2://{postgres_url.partition('://')[2]}"
    store = Store(url, connections=1)
    with store.reading() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
        pooled = connection.connection.dbapi_connection
    assert pooled is not None
    pooled.close()
    with store.reading() as connection:
        assert connection.scalar(sa.text("SELECT 2")) == 2
    store.close()


@pytest.mark.parametrize("password", ["p", "qa", "pa55word"])
def test_store_open_error_is_readable_and_hides_the_password(password: str) -> None:
    with pytest.raises(DatabaseError, match="port 1 failed") as raised:
        Store.open(f"postgresql+psycopg2://qa:{password}@127.0.0.1:1/qa")
    assert "pa55word" not in str(raised.value)
    assert "?." not in raised.value.what
