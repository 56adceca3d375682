"""Proxies and private certificate authorities: the same for ask, batch and the server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from conftest import KEY, Invoke
from fake_provider import FakeProvider
from flask import Flask
from relays import LOGIN, Proxy, Relay, SocksProxy, tls_relay

from qacli.config.settings import Settings
from qacli.provider.transport import system_context

HOST = "provider.example"
HTTP_URL = f"http://{HOST}/v1"
HTTPS_URL = f"https://{HOST}/v1"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
EXIT_CODES = {503: 3, 502: 6, 200: 0}

Ask = Callable[[str], tuple[int, str]]
"""Ask the provider at a URL; return the exit code and the whole output."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def database_url(home: Path) -> str:
    return f"sqlite:///{home / 'history.db'}"


@pytest.fixture(params=["ask", "batch", "serve"])
def ask(
    request: pytest.FixtureRequest, invoke: Invoke, settings: Settings, build: Callable[..., Flask]
) -> Ask:
    """Return the function that asks in one of the ways."""

    def ask_once(url: str) -> tuple[int, str]:
        if request.param == "serve":
            assert invoke("migrate").code == 0
            response = build(base_url=url).test_client().post("/ask", json={"question": "Who?"})
            kind = (response.get_json(force=True) or {}).get("kind")
            code = 3 if kind == "key-rejected" else EXIT_CODES[response.status_code]
            return code, response.text
        if request.param == "ask":
            done = invoke("ask", "Who?", OPENAI_BASE_URL=url)
        else:
            Path("questions.txt").write_text("Who?\n")
            done = invoke("batch", "questions.txt", "--max-outage", "2", OPENAI_BASE_URL=url)
        code = 6 if done.code == 8 else done.code  # a failed item, as its record says
        failed = invoke("list", "--json").out if code == 6 else ""
        return code, done.out + done.err + failed

    assert settings
    return ask_once


@pytest.fixture
def proxy(provider: FakeProvider) -> Iterator[Proxy]:
    with Proxy(provider.port) as relay:
        yield relay


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(provider: FakeProvider, authority: trustme.CA) -> Iterator[Relay]:
    with tls_relay(provider.port, authority, HOST, "localhost") as relay:
        yield relay


@pytest.fixture
def bundle(home: Path, authority: trustme.CA) -> Path:
    path = home / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


def test_http_proxy_gets_whole_urls(
    ask: Ask, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
    code, text = ask(HTTP_URL)
    assert (code, "Answer to: Who?" in text) == (0, True), text
    assert proxy.hosts == [f"http://{HOST}"]


def test_https_proxy_tunnels_to_a_private_authority(
    ask: Ask, provider: FakeProvider, tls: Relay, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with Proxy(tls.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        code, text = ask(HTTPS_URL)
    assert (code, "Answer to: Who?" in text) == (0, True), text
    assert proxy.hosts == [f"{HOST}:443"]
    assert provider.requests[-1].key == KEY


def test_socks_proxy_gets_the_host_name(
    ask: Ask, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SocksProxy(provider.port) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")
        code, text = ask(HTTP_URL)
    assert (code, "Answer to: Who?" in text) == (0, True), text
    assert proxy.hosts == [f"{HOST}:80"]


def test_proxy_with_login_is_sent_the_user_of_its_url(
    ask: Ask, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.login = LOGIN
    monkeypatch.setenv("HTTP_PROXY", f"http://{LOGIN}@127.0.0.1:{proxy.port}")
    assert ask(HTTP_URL)[0] == 0


@pytest.mark.parametrize("url", [HTTP_URL, HTTPS_URL])
def test_proxy_without_login_is_refused_as_configuration(
    ask: Ask, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    proxy.login = LOGIN
    name = f"{url.partition(':')[0].upper()}_PROXY"
    monkeypatch.setenv(name, f"http://user:wrong-one@127.0.0.1:{proxy.port}")
    code, text = ask(url)
    assert (code, name in text, "wrong-one" in text) == (3, True, False), text


def test_proxy_down_error_names_its_variable(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pass-word@127.0.0.1:9")
    code, text = ask(HTTPS_URL)
    assert (code, "HTTPS_PROXY" in text, "pass-word" in text) == (6, True, False), text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks4://user:pass-word@host:1080"),
        ("SSL_CERT_FILE", "/no/pass-word"),
    ],
)
def test_variable_unusable_is_an_error_with_its_name(
    ask: Ask, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    code, text = ask(HTTP_URL)
    assert (code, name in text) == (3, True), text
    assert "user:pass-word" not in text
    assert not provider.requests


def test_private_authority_of_requests_is_trusted(
    ask: Ask, tls: Relay, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert ask(f"https://localhost:{tls.port}/v1")[0] == 0


@pytest.mark.parametrize("through_proxy", [False, True])
def test_authority_of_the_system_is_trusted(
    ask: Ask, tls: Relay, bundle: Path, through_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_context().load_verify_locations(bundle)
    try:
        if not through_proxy:
            assert ask(f"https://localhost:{tls.port}/v1")[0] == 0
            return
        with Proxy(tls.port) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            assert ask(HTTPS_URL)[0] == 0
    finally:
        system_context.cache_clear()


def test_replaced_file_of_authorities_is_read_again(
    invoke: Invoke, tls: Relay, bundle: Path, home: Path
) -> None:
    file = home / "replaced.pem"
    trustme.CA().cert_pem.write_to_path(file)
    environ = {"OPENAI_BASE_URL": f"https://localhost:{tls.port}/v1", "SSL_CERT_FILE": str(file)}
    assert invoke("ask", "Who?", **environ).code == 6
    bundle.replace(file)
    assert invoke("ask", "Who?", **environ).code == 0


def test_certificate_of_an_unknown_authority_advises_ssl_cert_file(
    ask: Ask, provider: FakeProvider, tls: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QA_RETRIES", "5")
    code, text = ask(f"https://localhost:{tls.port}/v1")
    assert (code, not provider.requests) == (6, True), text
    assert "CERTIFICATE_VERIFY_FAILED" in text


def test_host_in_no_proxy_is_asked_directly(
    invoke: Invoke, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", HOST)
    done = invoke("ask", "Who?", OPENAI_BASE_URL=HTTP_URL)
    assert (done.code, proxy.hosts) == (6, [])  # there is no such host


def test_loopback_host_is_asked_without_a_proxy(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert invoke("ask", "Who?").code == 0


def test_attachment_url_is_fetched_through_the_proxy(
    invoke: Invoke, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    done = invoke("ask", "-f", "http://files.example/none.txt", "Who?")
    # The provider on the other side wants a key.
    assert (done.code, proxy.hosts) == (2, ["http://files.example"])
    assert "answered 401" in done.err


def test_attachment_url_with_an_unusable_variable_is_a_configuration_error(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks4://user:pass-word@host:1080")
    done = invoke("ask", "-f", "http://files.example/none.txt", "Who?")
    assert (done.code, "HTTP_PROXY" in done.err, "pass-word" in done.err) == (3, True, False)


def test_attachment_url_of_a_private_authority_is_fetched(
    invoke: Invoke, tls: Relay, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    done = invoke("ask", "-f", f"https://localhost:{tls.port}/none.txt", "Who?")
    assert "answered 401" in done.err
