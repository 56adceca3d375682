"""The server and its settings in front of a `WireServer`; one history for all tests of a module."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from conftest import KEY, migrated
from wire_server import WireServer

from qacli.config.settings import Settings
from qacli.web import state
from qacli.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask.testing import FlaskClient


@contextmanager
def wire_server() -> Iterator[WireServer]:
    with closing(WireServer()) as server:
        yield server


def wire_settings(base_url: str, data_dir: Path) -> Settings:
    """Return settings without retries, with a history that is migrated."""
    settings = Settings(
        api_key=KEY, base_url=base_url, model="m-1", data_dir=data_dir, retries=0, timeout=10
    )
    migrated(settings).close()
    return settings


@contextmanager
def wire_client(settings: Settings) -> Iterator[FlaskClient]:
    """Yield a client of the application; its history is closed at the end."""
    app = create_app(settings)
    yield app.test_client()
    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    running.all_records.close()
