"""The proxy and the certificate authorities for a URL, from the usual environment variables.

They are resolved here, once for an endpoint, so that every command uses the same ones with any
HTTP client. As in Go, a proxy is never used for this machine itself.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from qacli.errors import NotConfigured

if TYPE_CHECKING:
    from ssl import SSLContext

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
SYSTEM_SETTINGS = "the system's settings"


@dataclass(frozen=True, slots=True)
class Route:
    """The connection to one host.

    Attributes:
        proxy: The URL of the proxy, which can contain a password; None connects directly.
        variable: The environment variable that names the proxy.
        certificates: The context that checks the host's certificate; None trusts the authorities
            of the system.
    """

    proxy: str | None = None
    variable: str = ""
    certificates: "SSLContext | None" = None


def resolve_route(url: str, environ: Mapping[str, str] | None = None) -> Route:
    """Return the proxy and the certificate authorities for a URL.

    Args:
        url: An http or https URL.
        environ: The environment; None means that of the process.

    Raises:
        NotConfigured: A variable has a value that cannot be used; the error names it, and has no
            part of a proxy's URL, which can contain a password.
    """
    environ = os.environ if environ is None else environ
    target = urlsplit(url)
    certificates = _certificates(environ)
    variable, proxy = _proxy(target.scheme, environ)
    if not proxy or _is_exempt(target, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return Route(certificates=certificates)
    return Route(_check_proxy(variable, proxy), variable, certificates)


def _proxy(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    for name in (f"{scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            # In a CGI program, HTTP_PROXY comes from the client's header `Proxy` (httpoxy).
            is_header = variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ
            if environ.get(variable) and not is_header:
                return variable, environ[variable]
    if sys.platform in {"darwin", "win32"}:
        from urllib.request import getproxies

        return SYSTEM_SETTINGS, getproxies().get(scheme, "")
    return "", ""


def _check_proxy(variable: str, text: str) -> str:
    url = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
        parts = SplitResult("http", "", "", "", "")
    if is_address and parts.scheme in PROXY_SCHEMES and not set(url) & {" ", "\n", "\r", "\t"}:
        return url
    problem = (
        f"has the scheme {parts.scheme}, which is not supported"
        if is_address and parts.scheme not in PROXY_SCHEMES
        else "is not the address of a proxy"
    )
    raise NotConfigured(
        f"The value of {variable} {problem}.",
        f"Set {variable} to http://host:port or socks5://host:port, or unset it.",
    )


def _is_exempt(target: SplitResult, no_proxy: str) -> bool:
    """Return whether a host is this machine or in NO_PROXY: names, addresses, networks, `*`."""
    host = (target.hostname or "").rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or host.endswith(".localhost") or (address and address.is_loopback):
        return True
    for item in no_proxy.lower().split(","):
        entry = item.strip()
        if entry == "*":
            return True
        if address is not None:
            try:
                if address in ip_network(entry.strip("[]"), strict=False):
                    return True
            except ValueError:
                pass
        name, _, port = entry.partition(":")
        if port and port != str(target.port or {"http": 80, "https": 443}.get(target.scheme)):
            continue
        name = name.removeprefix("*").removeprefix(".")
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _certificates(environ: Mapping[str, str]) -> "SSLContext | None":
    """Return the context with the authorities of the environment; None if it names none.

    OpenSSL's variables have precedence over the one of the package requests, which other programs
    of Python read too.
    """
    file, directory = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    places = {"SSL_CERT_FILE": file, "SSL_CERT_DIR": directory}
    if not file and not directory:
        bundle = environ.get("REQUESTS_CA_BUNDLE")
        places = {"REQUESTS_CA_BUNDLE": bundle}
        is_directory = bundle is not None and Path(bundle).is_dir()
        file, directory = (None, bundle) if is_directory else (bundle, None)
    if not file and not directory:
        return None
    import ssl

    variable = next(name for name, value in places.items() if value)
    # OpenSSL ignores a directory that does not exist, and trusts no authority then.
    if directory and not any(Path(part).is_dir() for part in directory.split(os.pathsep)):
        name = "REQUESTS_CA_BUNDLE" if "REQUESTS_CA_BUNDLE" in places else "SSL_CERT_DIR"
        raise NotConfigured(
            f"{name} names {directory}, which is not a directory.",
            f"Correct {name} or unset it.",
        )
    try:
        changed = (Path(file).stat().st_mtime_ns, Path(file).stat().st_ino) if file else None
        return _context(file or None, directory or None, changed)
    except ssl.SSLError:
        problem = "which has no certificates in the PEM format"
    except OSError as error:
        problem = f"which cannot be read: {error.strerror}"
    raise NotConfigured(f"{variable} names {file}, {problem}.", f"Correct {variable} or unset it.")


@lru_cache(maxsize=8)
def _context(
    file: str | None, directory: str | None, _changed: tuple[int, int] | None
) -> "SSLContext":
    """Return the context with these authorities, which takes 40 ms to make.

    Args:
        file: The path of a file with certificates.
        directory: Directories that OpenSSL searches at each handshake.
        _changed: The time of the file's last change and its inode: a file that is replaced is read
            again.
    """
    import ssl

    return ssl.create_default_context(cafile=file, capath=directory)
