"""A `.env` file is ignored unless the user trusts its path and its content."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from conftest import write_env_file

from qacli.config import env_file
from qacli.config.env_file import (
    EnvFile,
    Trust,
    all_records,
    delete_record,
    find_record,
    records_directory,
    save_record,
    trust_of,
)
from qacli.config.loader import env_file_settings, load_settings
from qacli.config.settings import setting_fields
from qacli.errors import NotConfigured
from qacli.provider.endpoint import resolve_endpoint

ENVIRON = {"QA_CONFIG": "/nowhere/config.toml"}
SECRET = "hunter2-is-no-secret-0123"


def read(directory: Path | None = None) -> EnvFile:
    file = EnvFile.read((directory or Path()) / ".env")
    assert file is not None
    return file


def model(directory: Path | None = None) -> str | None:
    return load_settings(ENVIRON, directory).model


@pytest.mark.parametrize("item", setting_fields(), ids=lambda item: item.name)
def test_untrusted_file_sets_nothing(item: object) -> None:
    env = item.env  # type: ignore[attr-defined]
    Path(".env").write_text(f"{env}=x\n")
    settings = load_settings(ENVIRON)
    assert settings == load_settings(ENVIRON, Path("elsewhere"))
    assert settings.sources == {}
    assert settings.ignored_env_file is not None
    assert settings.ignored_env_file.names == (env,)


def test_untrusted_file_with_mistakes_is_no_error() -> None:
    Path(".env").write_bytes(b"QA_TIMEOUT=soon\nQA_PAGER=touch made\n\xff\n")
    settings = load_settings(ENVIRON)
    assert settings.ignored_env_file is not None
    assert settings.ignored_env_file.names == ("QA_TIMEOUT", "QA_PAGER")


def test_trusted_file_counts_until_it_changes() -> None:
    path = write_env_file("QA_MODEL=one\n")
    assert model() == "one"
    assert load_settings(ENVIRON).ignored_env_file is None
    path.write_text("QA_MODEL=two\n")
    ignored = load_settings(ENVIRON).ignored_env_file
    assert model() is None
    assert ignored is not None
    assert ignored.trust is Trust.CHANGED
    assert "it has changed since it was trusted" in ignored.notice
    path.write_text("QA_MODEL=one\n")
    assert model() == "one"


def test_trust_belongs_to_the_path() -> None:
    for name in ("a", "b"):
        Path(name).mkdir()
    write_env_file("QA_MODEL=m\n", Path("a"))
    Path("b/.env").write_text("QA_MODEL=m\n")
    assert (model(Path("a")), model(Path("b"))) == ("m", None)


def test_directory_by_a_link_is_the_same_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("project").mkdir()
    Path("link").symlink_to("project")
    write_env_file("QA_MODEL=m\n", Path("link"))
    assert model(Path("project")) == model(Path("link")) == "m"
    assert find_record(Path("project").resolve() / ".env") is not None
    monkeypatch.chdir("link")
    assert model() == "m"


def test_link_to_a_trusted_file_is_not_that_file() -> None:
    Path("project").mkdir()
    write_env_file("QA_MODEL=m\n")
    Path("project/.env").symlink_to("../.env")
    assert model(Path("project")) is None
    save_record(read(Path("project")), trusted=True)
    assert model(Path("project")) == "m"
    Path(".env").write_text("QA_MODEL=other\n")
    assert model(Path("project")) is None


def test_directory_that_becomes_a_link_elsewhere_is_not_trusted() -> None:
    for name in ("old", "new"):
        Path(name).mkdir()
        Path(name, ".env").write_text("QA_MODEL=m\n")
    Path("current").symlink_to("old")
    save_record(read(Path("current")), trusted=True)
    assert model(Path("current")) == "m"
    Path("current").unlink()
    Path("current").symlink_to("new")
    assert model(Path("current")) is None


def test_parent_directories_and_home_are_not_searched(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = home / "project" / "inside"
    inside.mkdir(parents=True)
    write_env_file("QA_MODEL=parent\n", inside.parent)
    write_env_file("QA_MODEL=home\n", home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(inside)
    settings = load_settings(ENVIRON)
    assert settings.model is None
    assert settings.ignored_env_file is None


def test_file_in_home_needs_trust_like_any_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    (home / ".env").write_text("QA_MODEL=m\n")
    assert model() is None


@pytest.mark.parametrize(
    "text",
    ["", "OTHER=1\n", "QA_MODEL=\n", "# QA_MODEL=m\n", "QA_MODEL=''\n", 'QA_MODEL="" # none\n'],
)
def test_file_that_would_change_nothing_is_not_mentioned(text: str) -> None:
    Path(".env").write_text(text)
    assert load_settings(ENVIRON).ignored_env_file is None


def test_variable_that_the_environment_sets_is_not_mentioned() -> None:
    Path(".env").write_text("QA_MODEL=m\nQA_SYSTEM=s\n")
    ignored = load_settings({**ENVIRON, "QA_MODEL": "e"}).ignored_env_file
    assert ignored is not None
    assert ignored.names == ("QA_SYSTEM",)
    assert load_settings({**ENVIRON, "QA_MODEL": "e", "QA_SYSTEM": "e"}).ignored_env_file is None


@pytest.mark.parametrize(
    "text",
    ["QA_MODEL=m", "  export QA_MODEL = m\r\n", "'QA_MODEL'='m'\n", "A='\n\nQA_MODEL=m\n'\n"],
)
def test_env_file_names_are_found_in_every_spelling(text: str) -> None:
    Path(".env").write_text(text, newline="")
    assert read().names_in(["QA_MODEL", "A.B"]) == ("QA_MODEL",)


def test_notice_is_one_line_with_the_file_and_the_command(home: Path) -> None:
    names = [item.env for item in setting_fields()][:5]
    Path(".env").write_text("".join(f"{name}=x\n" for name in names))
    ignored = load_settings(ENVIRON).ignored_env_file
    assert ignored is not None
    assert ignored.notice == (
        f"{home / '.env'} is ignored: it is not trusted. It sets {', '.join(names[:3])} and 2 "
        "more. To see it and trust it: qa config trust"
    )


def test_missing_configuration_names_the_ignored_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    Path(".env").write_text("OPENAI_BASE_URL=https://a.example/v1\nQA_MODEL=m\n")
    with pytest.raises(NotConfigured) as caught:
        resolve_endpoint(load_settings(ENVIRON))
    assert f"{home / '.env'} sets OPENAI_BASE_URL and QA_MODEL but is ignored" in caught.value.todo
    assert "qa config trust" in caught.value.todo
    Path(".env").write_text("QA_TIMEOUT=3\n")
    with pytest.raises(NotConfigured) as caught:
        resolve_endpoint(load_settings(ENVIRON))
    assert "qa config trust" not in caught.value.todo


def test_records_are_private_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    previous = os.umask(0)
    try:
        write_env_file("QA_MODEL=m\n")
    finally:
        os.umask(previous)
    directory = records_directory()
    assert directory.is_relative_to(home / "share")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    (record,) = directory.iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    # A setting must not select records of trust that came with the project.
    monkeypatch.setenv("QA_DATA_DIR", str(home / "other"))
    monkeypatch.setenv("QA_CONFIG", str(home / "other" / "config.toml"))
    assert records_directory() == directory


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"path": 1}',
        '{"path": "/elsewhere/.env", "sha256": "DIGEST", "trusted": true}',
        '{"path": "PATH", "sha256": "DIGEST", "trusted": "yes"}',
        '{"path": "PATH", "sha256": null, "trusted": true}',
        '{"path": "PATH", "sha256": ["DIGEST"], "trusted": true}',
    ],
)
def test_record_incomplete_trusts_nothing(text: str) -> None:
    write_env_file("QA_MODEL=m\n")
    file = read()
    (record,) = records_directory().iterdir()
    whole = '{"path": "PATH", "sha256": "DIGEST", "trusted": true}'
    for written, expected in ((whole, Trust.TRUSTED), (text, None)):
        filled = written.replace("PATH", str(file.location)).replace("DIGEST", file.digest)
        record.write_text(filled)
        trust = trust_of(file)
        assert trust is expected if expected else trust is not Trust.TRUSTED


def test_refused_file_is_remembered_until_it_changes() -> None:
    path = Path(".env")
    path.write_text("QA_MODEL=m\n")
    save_record(read(), trusted=False)
    ignored = load_settings(ENVIRON).ignored_env_file
    assert ignored is not None
    assert ignored.trust is Trust.REFUSED
    path.write_text("QA_MODEL=other\n")
    assert trust_of(read()) is Trust.UNKNOWN
    assert delete_record(read().location)
    assert not delete_record(read().location)
    assert all_records() == []


def test_env_file_beyond_the_size_limit_is_never_trusted() -> None:
    Path(".env").write_text("QA_MODEL=m\n" + "#" * env_file.MAX_FILE_BYTES)
    save_record(read(), trusted=True)
    settings = load_settings(ENVIRON)
    assert settings.model is None
    assert settings.ignored_env_file is not None
    with pytest.raises(NotConfigured, match="larger than"):
        env_file_settings(read())


def test_path_with_invalid_utf8_can_be_trusted() -> None:
    directory = Path(os.fsdecode(b"\xff\n\x1b"))
    directory.mkdir()
    write_env_file("QA_MODEL=m\n", directory)
    assert model(directory) == "m"
    assert [record.path for record in all_records()] == [directory.resolve() / ".env"]


def test_trusted_file_sets_no_variable_of_the_process() -> None:
    names = ("SSL_CERT_FILE", "HTTPS_PROXY", "OPENAI_ORG_ID", "PGPASSWORD", "QA_MODEL", "NETRC")
    before = dict(os.environ)
    write_env_file("".join(f"{name}={SECRET}\n" for name in names))
    assert model() == SECRET
    assert dict(os.environ) == before


def test_record_keeps_no_value_of_the_file() -> None:
    write_env_file(f"OPENAI_API_KEY={SECRET}\n")
    (record,) = records_directory().iterdir()
    assert SECRET not in record.read_text()
    assert set(json.loads(record.read_text())) == {"path", "sha256", "trusted"}
