"""The options of `qa batch FILE` for the provider's Batch API."""

import gc
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.options import with_options_of
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.config.settings import Settings
    from qacli.db.batches import Batches
    from qacli.db.models import Batch
    from qacli.provider.endpoint import Endpoint


GC_THRESHOLD = 5_000
"""New objects after which Python's garbage collector runs."""


class Via(StrEnum):
    """The ways in which the questions of a batch get to the provider."""

    DIRECT = "direct"
    BATCH_API = "batch-api"
    FILE = "file"


class Rest(StrEnum):
    """The values of `--rest`, for questions that the Batch API has not answered."""

    DIRECT = "direct"
    AGAIN = "again"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """The values of these options.

    Attributes:
        via: The way of the questions.
        detach: End after the submission.
        window: The time within which the provider answers, such as `24h`.
        rest: The treatment of questions without an answer.
    """

    via: Via
    detach: bool
    window: str
    rest: Rest

    def offline_endpoint(self, settings: "Settings", model: str | None) -> "Endpoint | None":
        """Return an endpoint without a key, for questions that are only loaded; None otherwise."""
        if self.via is not Via.FILE:
            return None
        from qacli.config.defaults import DEFAULT_MODEL, OPENAI_BASE_URL
        from qacli.provider.endpoint import Endpoint, split_user

        base_url, _user = split_user(settings.base_url or OPENAI_BASE_URL)
        name = settings.model_name(model) or DEFAULT_MODEL
        return Endpoint(base_url=base_url, key="", model=name)

    def check(self, batches: "Batches", batch: "Batch | None") -> None:
        """Check that a batch which is asked in another way is not at the provider's Batch API.

        Raises:
            InvalidRequest: The batch is at the provider's Batch API.
        """
        if batch is not None and self.via is not Via.BATCH_API:
            from qacli.batch.claims import refuse_open_parts

            refuse_open_parts(batches, batch)

    def to_dict(self) -> dict[str, object]:
        """Return the options to store with the batch, for `qa batch collect`."""
        if self.via is not Via.BATCH_API:
            return {}
        return {"remote": {"window": self.window, "rest": self.rest.value, "filled": False}}


def remote_options(
    *,
    via: Annotated[
        Via,
        typer.Option(
            metavar="WAY",
            help="direct asks at once; batch-api uses the provider's Batch API, at half the price "
            "and within a day; file only loads the questions, for qa batch requests.",
        ),
    ] = Via.DIRECT,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="With --via batch-api: do not wait; see qa batch collect."),
    ] = False,
    window: Annotated[
        str,
        typer.Option(metavar="TIME", help="With --via batch-api: the time that the provider has."),
    ] = "24h",
    rest: Annotated[
        Rest,
        typer.Option(
            metavar="WHAT",
            help="With --via batch-api, the treatment of questions without an answer: ask them "
            "direct, submit them again, or leave them.",
        ),
    ] = Rest.DIRECT,
) -> RemoteOptions:
    """Return the options.

    Raises:
        InvalidRequest: An option is for another way.
    """
    if via is not Via.BATCH_API and (detach or window != "24h" or rest is not Rest.DIRECT):
        raise InvalidRequest(
            "--detach, --window and --rest are for --via batch-api.", "Add --via batch-api."
        )
    return RemoteOptions(via, detach, window, rest)


with_remote_options = with_options_of(remote_options, "remote")
"""Add the options to a command, as its parameter `remote`."""


def collect_garbage_often() -> None:
    """Collect garbage in a long run, but do not examine the loaded modules each time."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
