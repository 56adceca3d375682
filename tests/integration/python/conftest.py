import pytest
from conftest import command_environment
from fake_provider import FakeProvider

from qacli.config.settings import Settings
from qacli.db.records import Store


@pytest.fixture
def history(
    provider: FakeProvider, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """An empty history, which the functions of `qacli` use with the fake provider."""
    for name, value in command_environment(provider, settings.database_url or "").items():
        monkeypatch.setenv(name, value)
    return store
