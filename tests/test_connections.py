"""How a connection to a database is set up."""

from __future__ import annotations

import sqlalchemy as sa

from qacli.store import Store


def test_a_postgresql_that_is_gone_without_a_word_is_given_up(postgres_url: str) -> None:
    store = Store(f"postgresql+psycopg2://{postgres_url.partition('://')[2]}")
    with store.transaction() as connection:
        said = connection.connection.dbapi_connection.get_dsn_parameters()  # type: ignore[union-attr]
        assert connection.scalar(sa.text("SELECT 1")) == 1
    store.close()
    assert int(said["tcp_user_timeout"]) == 20_000
    wait = int(said["keepalives_idle"]) + int(said["keepalives_interval"]) * 3
    assert wait <= 20
