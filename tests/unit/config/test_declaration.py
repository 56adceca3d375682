"""The base class of the settings."""

from __future__ import annotations

import pytest

from qacli.config.settings import Settings


def test_settings_with_an_unknown_name_are_refused() -> None:
    with pytest.raises(TypeError, match="Settings has no modle"):
        Settings(modle="m")  # type: ignore[arg-type] # the mistake


def test_settings_cannot_be_changed() -> None:
    settings = Settings(model="m")
    with pytest.raises(AttributeError, match="model cannot be changed"):
        settings.model = "other"  # type: ignore[misc] # the mistake
    assert settings.model == "m"


def test_settings_replace_changes_only_a_copy() -> None:
    settings = Settings(model="m", retries=1)
    assert settings.replace(model="other") == Settings(model="other", retries=1)
    assert settings.model == "m"


def test_settings_equality_ignores_only_unset_fields() -> None:
    assert Settings() == Settings(misspelled=("QA_MODLE",))
    assert Settings() != Settings(aliases={"a": "b"})
    assert Settings() != "settings"
