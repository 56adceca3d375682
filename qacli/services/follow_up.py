"""The options of a follow-up, or of a question that is asked again: those of its record."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qacli.config.defaults import LOCAL
from qacli.errors import NotConfigured
from qacli.model_options import OPTION_NAMES, RESERVED, merge_params

if TYPE_CHECKING:
    from qacli.config.settings import Settings
    from qacli.db.models import QuestionAnswer


@dataclass(frozen=True, slots=True)
class FollowUpOptions:
    """The options that a follow-up takes over from its record.

    Attributes:
        model: The model that was asked for; None if the present endpoint did not answer.
        system: The system prompt; "" if the record has none; None if there is no record.
        params: The options that go to the model. The schema of an answer is not one of them.
    """

    model: str | None = None
    system: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, record: "QuestionAnswer", endpoint: str) -> "FollowUpOptions":
        """Return the options of a record.

        Args:
            record: The record that is followed up.
            endpoint: The name of the present endpoint: another one may not have the model, and may
                refuse the options.
        """
        system = record.system or ""
        if record.endpoint not in {None, endpoint}:
            return cls(system=system)
        # A record of /v1 has options that belong to its client, such as functions.
        is_from_api = record.context_digest is not None
        params = {
            name: value
            for name, value in record.params.items()
            if name in OPTION_NAMES or (name not in RESERVED and not is_from_api)
        }
        model = record.params.get("model")
        if endpoint == LOCAL and model != LOCAL:
            model = None  # the name of its file is not the way to choose it
        return cls(model, system, params)

    def merge(
        self,
        model: str,
        default_params: Callable[[str], Mapping[str, Any]],
        *own: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the options of a question: its own, then those of the record, then the defaults.

        Args:
            model: The model to ask.
            default_params: Returns the default options of a model.
            own: The options of the question itself; the first mapping has the highest precedence.
        """
        return merge_params(*own, self._params_for(model, default_params), default_params(model))

    def _params_for(
        self, model: str, default_params: Callable[[str], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Return the record's options, for another model without the defaults of its own model."""
        if model == self.model:
            return self.params
        defaults = default_params(self.model or "")
        return {
            name: value
            for name, value in self.params.items()
            if name not in defaults or defaults[name] != value
        }


def thread_settings(record: "QuestionAnswer", settings: "Settings") -> "Settings":
    """Return the settings with the profile whose endpoint answered a record.

    They are the given ones if that endpoint is the present one, if the user has chosen a profile
    (`--profile` or `QA_PROFILE`), or if no profile leads to that endpoint.
    """
    from qacli.config.loader import chosen_profile, with_profile
    from qacli.provider.endpoint import resolve_endpoint

    def leads_there(settings: "Settings") -> bool:
        with suppress(NotConfigured):
            return resolve_endpoint(settings, with_key=False).name == record.endpoint
        return False

    if record.endpoint is None or chosen_profile() is not None or leads_there(settings):
        return settings
    others = (with_profile(settings, name) for name in profiles_of(record.endpoint, settings))
    return next((other for other in others if leads_there(other)), settings)


def profiles_of(endpoint: str, settings: "Settings") -> list[str]:
    """Return the profiles of the configuration file with the base URL of an endpoint."""
    from qacli.config.file import ConfigFile
    from qacli.provider.endpoint import host_of

    profiles = ConfigFile.read(settings.config_path).profiles if settings.config_path else {}
    urls = {name: str(table.get("base_url") or "") for name, table in profiles.items()}
    return [name for name, url in urls.items() if url and host_of(url) == endpoint]


def first_system(*layers: str | None) -> str | None:
    """Return the first system prompt that is not None; "" removes the others."""
    return next((text for text in layers if text is not None), None)


def schema_of(record: "QuestionAnswer") -> dict[str, Any] | None:
    """Return the JSON schema of a record's answer; None if it has none."""
    form = record.params.get("response_format")
    inner = form.get("json_schema") if isinstance(form, dict) else None
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return schema if isinstance(schema, dict) else None
