"""The upstreams of `qa serve`: the providers that it asks, chosen by the name of the model.

An upstream is a profile of the configuration file, a known provider, or the model on this machine.
It has the endpoint, the key, the headers and the extra fields of its own profile only: nothing of
the environment's provider is sent to it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from qacli.config import credentials
from qacli.config.defaults import LOCAL
from qacli.config.file import ConfigFile
from qacli.config.loader import config_file, profile_values, variables_of
from qacli.config.parsers import parse_list
from qacli.config.providers import KnownProvider, known_providers
from qacli.config.settings import Settings
from qacli.config.tables import FALLBACKS, ROUTES, read_tables, table_error, table_source
from qacli.errors import InvalidRequest, NotConfigured

OWN = "default"
"""The name of the provider of the settings themselves, which is not an upstream."""

OWN_KEY = "OPENAI_API_KEY"
PROVIDER_SETTINGS: Mapping[str, Any] = {
    **dict.fromkeys(("api_key", "key_command", "keyring", "key_variable", "base_url", "model")),
    "api": "auto",
    "headers": {},
    "extra_body": {},
}
"""The settings of a provider that an upstream takes from its own profile only, with their values
where that has none."""


@dataclass(frozen=True, slots=True)
class Target:
    """A model of an upstream.

    Attributes:
        upstream: The name of the upstream.
        model: The model as the upstream names it; empty for the model of its profile.
    """

    upstream: str
    model: str


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The upstreams, and the rules by which one is chosen.

    Attributes:
        settings: The settings of each upstream by its name; `OWN` is the server's own provider,
            first, where it has one.
        routes: The upstream for each pattern of a model's name, as `NAME` or `NAME/MODEL`.
        fallbacks: The upstreams that are asked next, for each upstream or pattern `NAME/MODEL`.
        own_model: The model of the settings, as `groq/llama-3.3-70b`; empty where they have none.
    """

    settings: Mapping[str, Settings]
    routes: Mapping[str, str]
    fallbacks: Mapping[str, tuple[str, ...]]
    own_model: str = ""

    @property
    def names(self) -> list[str]:
        """The names of the upstreams, without the server's own provider."""
        return [name for name in self.settings if name != OWN]

    @property
    def has_own(self) -> bool:
        """The settings name a provider besides the upstreams."""
        return OWN in self.settings

    def is_local(self, name: str) -> bool:
        """Return whether an upstream is the model on this machine."""
        return self.settings[name].model == LOCAL

    def default_name(self) -> str:
        """Return the name of the model to ask by default, where the server has no own provider."""
        if self.own_model:
            return self.own_model
        first = self.names[0]
        model = self.settings[first].model_name(None)
        return first if model is None or self.is_local(first) else f"{first}/{model}"

    def route(self, name: str) -> tuple[Target, ...]:
        """Return the models to ask for a model's name: the first, then its fallbacks.

        Raises:
            InvalidRequest: No upstream has the model, or the name is not complete.
        """
        first = self._choose(name)
        targets = [first]
        full_name = f"{first.upstream}/{first.model}"
        for pattern, others in self.fallbacks.items():
            if pattern == first.upstream or fnmatchcase(full_name, pattern):
                for text in others:
                    if (target := self._target(text, first.model)) not in targets:
                        targets.append(target)
                break
        return tuple(targets)

    def _choose(self, name: str) -> Target:
        prefix, _, rest = name.partition("/")
        if prefix in self.names:
            if rest and self.is_local(prefix):
                raise InvalidRequest(f"The upstream {prefix} has one model.", f"Name it {prefix}.")
            if not rest and self.settings[prefix].model is None:
                raise InvalidRequest(
                    f"The upstream {prefix} has no model of its own.", f"Name one: {prefix}/MODEL"
                )
            return Target(prefix, rest)
        for pattern, text in self.routes.items():
            if fnmatchcase(name, pattern):
                return self._target(text, name)
        if not self.has_own:
            raise InvalidRequest(
                f"No upstream of this server is for the model {name}.",
                f"Put its upstream before it, as in {self.names[0]}/{name}. The upstreams are "
                f"{', '.join(self.names)}.",
            )
        return Target(OWN, name)

    def _target(self, text: str, model: str) -> Target:
        """Return the model of `NAME/MODEL`, or this one for `NAME`."""
        name, _, own_model = text.partition("/")
        return Target(name, "" if self.is_local(name) else own_model or model)


def load_upstreams(settings: Settings, environ: Mapping[str, str] | None = None) -> Upstreams:
    """Return the upstreams that the settings name, checked; no key is read from elsewhere yet.

    Args:
        settings: The settings of the server; its own provider is the one that they name.
        environ: The environment; None means that of the process.

    Raises:
        NotConfigured: An upstream is unknown, has no endpoint or no key, or a rule names none.
    """
    names = parse_list(settings.upstreams)
    if not names:
        if settings.routes or settings.fallbacks:
            raise NotConfigured(
                "The settings routes and fallbacks need upstreams, and none is named.",
                "Name them in the setting upstreams or in QA_UPSTREAMS.",
            )
        return Upstreams({OWN: settings}, {}, {})
    file = ConfigFile.read(settings.config_path or config_file())
    providers = known_providers()
    variables = variables_of(os.environ if environ is None else environ)
    own = {OWN: settings} if _has_own(settings) else {}
    upstreams = {
        name: _upstream_settings(name, settings, file, providers.get(name), variables)
        for name in names
    }
    result = Upstreams(
        {**own, **upstreams},
        settings.routes or {},
        settings.fallbacks or {},
        settings.model_name(None) or "",
    )
    _check_rules(result, file, settings.sources)
    return result


def _has_own(settings: Settings) -> bool:
    is_local = (settings.model_name(None) or "").partition(":")[0] == LOCAL
    return credentials.is_configured(settings) or settings.base_url is not None or is_local


def _upstream_settings(
    name: str,
    settings: Settings,
    file: ConfigFile,
    provider: KnownProvider | None,
    variables: Mapping[str, str],
) -> Settings:
    """Return the settings of an upstream: its own provider, and the server's other settings."""
    source = settings.sources.get("upstreams", "the setting upstreams")
    source = source[0].upper() + source[1:]
    if name == OWN or "/" in name or any(letter in name for letter in "*?["):
        raise NotConfigured(
            f"{source} names {name!r}, which cannot be the name of an upstream.",
            "A name has no / and no * ? [, and default is the server's own provider.",
        )
    tables: dict[str, Any] = {}
    if name in file.profiles:
        values = profile_values(file, name)
        tables = read_tables(file, name, with_endpoint=True)
        todo = "Set base_url in the profile: an upstream does not use that of another place."
    elif name == LOCAL:
        return settings.replace(**{**PROVIDER_SETTINGS, "model": LOCAL})
    elif provider is not None:
        values = {
            "base_url": provider.base_url,
            "key_variable": provider.key,
            "model": provider.model,
        }
        todo = f"Write its profile: qa config use {name}"
    else:
        raise NotConfigured(
            f"{source} names {name!r}, which is neither a profile in {file.path} nor a known "
            "provider.",
            "Write a profile of that name; `qa config use` lists the known providers.",
        )
    if not values.get("base_url"):
        raise NotConfigured(f"The upstream {name} has no base_url.", todo)
    own = {item: value for item, value in {**values, **tables}.items() if item in PROVIDER_SETTINGS}
    sources = dict.fromkeys(own, f"the profile {name}")
    if variable := own.get("key_variable"):
        own_key = _key_in(variable, name, own["base_url"], settings, variables)
        if own_key:
            own["api_key"] = own_key
            sources["api_key"] = f"the environment variable {variable}"
        elif not (own.get("key_command") or own.get("keyring") or own.get("api_key")):
            raise NotConfigured(
                f"The upstream {name} needs the environment variable {variable}, which is not set.",
                f"Set {variable}, or take {name} out of the upstreams.",
            )
    others = {
        item: text for item, text in settings.sources.items() if item not in PROVIDER_SETTINGS
    }
    return settings.replace(**{**PROVIDER_SETTINGS, **own}, sources={**others, **sources})


def _key_in(
    variable: str, name: str, base_url: str, settings: Settings, variables: Mapping[str, str]
) -> str | None:
    """Return the key in a variable.

    Raises:
        NotConfigured: The variable is `OPENAI_API_KEY`, which is for the endpoint in
            OPENAI_BASE_URL.
    """
    own_url = settings.base_url
    if variable == OWN_KEY and own_url and urlsplit(own_url).netloc != urlsplit(base_url).netloc:
        raise NotConfigured(
            f"{OWN_KEY} is the key for OPENAI_BASE_URL, so the upstream {name} cannot use it.",
            f"Write a profile {name} with another key_variable.",
        )
    return variables.get(variable)


def _wrong_rule(
    file: ConfigFile, source: str, path: tuple[str, str], problem: str, upstreams: Upstreams
) -> NotConfigured:
    """Return the error for a rule, with its line where it is in a table of the file."""
    name, pattern = path
    todo = f"The upstreams are {', '.join(upstreams.settings)}."
    if source == table_source(file, name):
        return table_error(file, path, problem, todo)
    return NotConfigured(f"Invalid setting, {source}: {pattern} {problem}.", todo)


def _check_rules(upstreams: Upstreams, file: ConfigFile, sources: Mapping[str, str]) -> None:
    """Raise NotConfigured for a rule that names no upstream."""

    def wrong_rule(name: str, pattern: str, problem: str) -> NotConfigured:
        source = sources.get(name, f"the setting {name}")
        return _wrong_rule(file, source, (name, pattern), problem, upstreams)

    for pattern, text in upstreams.routes.items():
        if text.partition("/")[0] not in upstreams.settings:
            raise wrong_rule(ROUTES, pattern, f"names no upstream: {text}")
    for pattern, texts in upstreams.fallbacks.items():
        head = pattern.partition("/")[0]
        if not any(fnmatchcase(name, head) for name in upstreams.settings):
            raise wrong_rule(FALLBACKS, pattern, "is for no upstream")
        for text in texts:
            if text.partition("/")[0] not in upstreams.settings:
                raise wrong_rule(FALLBACKS, pattern, f"names no upstream: {text}")
    if not upstreams.has_own and upstreams.own_model:
        try:
            upstreams.route(upstreams.default_name())
        except InvalidRequest as error:
            raise NotConfigured(error.what, error.todo) from None
