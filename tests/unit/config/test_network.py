from pathlib import Path

import pytest

from qacli.config.network import Route, resolve_route
from qacli.errors import NotConfigured

HTTP_URL = "http://api.example.com/v1"
HTTPS_URL = "https://api.example.com:8443/v1"
PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "environ", "proxy", "variable"),
    [
        (HTTP_URL, {"HTTP_PROXY": "proxy:3128"}, PROXY, "HTTP_PROXY"),
        (HTTP_URL, {"http_proxy": PROXY, "HTTP_PROXY": "http://other"}, PROXY, "http_proxy"),
        (HTTP_URL, {"HTTPS_PROXY": PROXY}, None, ""),
        (HTTPS_URL, {"HTTPS_PROXY": PROXY, "ALL_PROXY": "socks5://x"}, PROXY, "HTTPS_PROXY"),
        (HTTPS_URL, {"ALL_PROXY": "socks5h://u:p@[::1]:1"}, "socks5h://u:p@[::1]:1", "ALL_PROXY"),
        (HTTPS_URL, {"HTTPS_PROXY": ""}, None, ""),
        # A CGI server sets the variable to a header of the client (CVE-2016-5385).
        (HTTP_URL, {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None, ""),
        ("http://localhost:11434/v1", {"ALL_PROXY": PROXY}, None, ""),
        ("http://127.0.0.2/v1", {"ALL_PROXY": PROXY}, None, ""),
        ("http://[::1]:1/v1", {"ALL_PROXY": PROXY}, None, ""),
    ],
)
def test_resolve_route_variables_choose_the_proxy(
    url: str, environ: dict[str, str], proxy: str | None, variable: str
) -> None:
    assert resolve_route(url, environ) == Route(proxy, variable)


@pytest.mark.parametrize(
    ("host", "no_proxy", "exempt"),
    [
        ("api.example.com", "*", True),
        ("api.example.com", "example.com", True),
        ("api.example.com", " x, .EXAMPLE.com", True),
        ("api.example.com", "*.example.com", True),
        ("api.example.com", "api.example.com:80", True),
        ("api.example.com", "api.example.com:81", False),
        ("api.example.com", "ample.com", False),
        ("api.example.com", ",", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("[fd00::1]", "fd00::/8", True),
    ],
)
def test_resolve_route_no_proxy_exempts_hosts(host: str, no_proxy: str, exempt: bool) -> None:
    environ = {"HTTP_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert (resolve_route(f"http://{host}/v1", environ).proxy is None) == exempt


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("HTTP_PROXY", "http://user:pass-word@:80:90", "not the address"),
        ("HTTP_PROXY", "http://user:pass-word@host:99999", "not the address"),
        ("HTTP_PROXY", "http://user:pass-word@ho st", "not the address"),
        ("http_proxy", "ftp://user:pass-word@host", "scheme ftp"),
        ("ALL_PROXY", "socks4://user:pass-word@host:1080", "scheme socks4"),
        ("SSL_CERT_FILE", "/no/file", "/no/file"),
        ("SSL_CERT_FILE", "text.pem", "no certificates"),
        ("SSL_CERT_DIR", "/no/directory", "not a directory"),
        ("REQUESTS_CA_BUNDLE", "/no/file", "/no/file"),
    ],
)
def test_resolve_route_unusable_value_names_the_variable(
    home: Path, name: str, value: str, problem: str
) -> None:
    (home / "text.pem").write_text("no certificate")
    with pytest.raises(NotConfigured) as caught:
        resolve_route(HTTP_URL, {name: value})
    assert name in caught.value.what
    assert problem in caught.value.what
    assert name in caught.value.todo
    assert "pass-word" not in str(caught.value)
