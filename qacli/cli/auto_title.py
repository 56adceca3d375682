"""Name a thread after its first answer has been shown: `--auto-title`."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from qacli.errors import QaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from qacli.cli.console import Console
    from qacli.config.settings import Settings
    from qacli.domain import Result
    from qacli.services.ask import AskService


def name_thread(
    service: "AskService",
    result: "Result",
    settings: "Settings",
    console: "Console",
    stoppable: "Callable[[], AbstractContextManager[None]]" = nullcontext,
) -> None:
    """Let a model name the thread of a first answer, if the settings ask for it.

    The answer has been shown and recorded, so an error or Ctrl-C is only a note on stderr.

    Args:
        service: The service that has asked the question.
        result: Its result.
        settings: Whether and by which model threads are named.
        console: Shows a moving line until the title is there.
        stoppable: Makes a context that is entered while Ctrl-C may stop the request.
    """
    if not settings.auto_title:
        return
    from qacli.services.title import is_first_answer, title_thread

    if not is_first_answer(result):
        return
    command = f"qa title {result.record_id}"
    name = settings.title_model
    model = settings.model_name(name) if name is not None else result.question.model
    assert model is not None  # noqa: S101 - for the type checker: a name has a model
    try:
        with stoppable(), console.show_status(f"title: {model}"):
            title = title_thread(
                service,
                result,
                model=model,
                params=settings.default_params(model),
                stream=settings.stream,
            )
    except KeyboardInterrupt:
        console.info(f"The thread has no title; {command} TITLE names it.")
    except QaError as error:
        console.info(f"The thread has no title: {error.what} To name it: {command} TITLE")
    else:
        console.info(f"Titled: {title}")
