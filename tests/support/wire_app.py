"""The application and the commands of `qa` with a `WireServer` as their provider."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conftest import KEY, Invoke, migrated
from wire_server import WireServer

from qacli.config.settings import Settings
from qacli.web import state
from qacli.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask.testing import FlaskClient


@dataclass(frozen=True)
class WireApp:
    """The provider, a client of the application, and the settings of both; one history."""

    wire: WireServer
    client: FlaskClient
    settings: Settings

    def command(self, **env: str) -> Invoke:
        """Return `qa` with the same provider and history, and without the requests before."""
        self.wire.requests.clear()
        variables = {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": str(self.settings.base_url),
            "QA_DATA_DIR": str(self.settings.data_dir),
            "QA_MODEL": "m-1",
            "QA_RETRIES": "0",
            "QA_TIMEOUT": "10",
        }
        return Invoke({**variables, **env})

    def last_record(self) -> dict[str, Any]:
        """Return the newest record."""
        record: dict[str, Any]
        [record] = self.client.get("/qas?order=desc&limit=1").get_json()
        return record


@contextmanager
def wire_app(data_dir: Path, query: str = "") -> Iterator[WireApp]:
    """Run a provider and make the application; the base URL ends with the query."""
    with closing(WireServer()) as wire:
        settings = wire_settings(f"{wire.address}/v1{query}", data_dir)
        with wire_client(settings) as client:
            yield WireApp(wire, client, settings)


def wire_settings(base_url: str, data_dir: Path) -> Settings:
    """Migrate a history, and return settings for it without retries."""
    settings = Settings(
        api_key=KEY, base_url=base_url, model="m-1", data_dir=data_dir, retries=0, timeout=10
    )
    migrated(settings).close()
    return settings


@contextmanager
def wire_client(settings: Settings) -> Iterator[FlaskClient]:
    """Yield a client of the application; close its history at the end."""
    app = create_app(settings)
    yield app.test_client()
    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    running.all_records.close()
