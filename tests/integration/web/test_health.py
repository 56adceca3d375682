from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]

UP = {"status": 200, "message": "yes"}


def test_health_of_a_ready_server_is_up_and_ready(client: FlaskClient) -> None:
    assert client.get("/is_up").get_json() == UP
    assert client.get("/is_ready").get_json() == UP


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_is_ready_with_the_database_down_is_503(
    build: Callable[..., Flask], tmp_path: Path, problem: Problem
) -> None:
    (tmp_path / "file").write_text("")
    away = ["postgresql://user:secret-pw@127.0.0.1:1/none", f"sqlite:///{tmp_path}/file/history.db"]
    for url in away:
        client = build(database_url=url).test_client()
        assert client.get("/is_up").get_json() == UP
        members = problem(client.get("/is_ready"), 503, "database")
        assert "secret-pw" not in members["detail"]
        problem(client.get("/qas"), 503, "database")
        problem(client.get("/qa/1"), 503, "database")
        problem(client.delete("/qa/1"), 503, "database")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_is_ready_with_an_unmigrated_database_is_503(
    build: Callable[..., Flask], problem: Problem
) -> None:
    client = build().test_client()
    members = problem(client.get("/is_ready"), 503, "schema-mismatch")
    assert "qa migrate" in members["detail"]
    assert client.get("/is_up").get_json() == UP


def test_is_ready_with_another_schema_is_503(
    client: FlaskClient, store: Store, problem: Problem
) -> None:
    with store.migrating() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    members = problem(client.get("/is_ready"), 503, "schema-mismatch")
    assert "0999" in members["detail"]
    assert client.get("/is_up").get_json() == UP
