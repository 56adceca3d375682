"""Let a model name a thread in the background, after its first answer (QA_AUTO_TITLE)."""

import logging
import threading
from typing import TYPE_CHECKING

from qacli.domain import Result
from qacli.errors import QaError
from qacli.services.title import is_first_answer, title_thread

if TYPE_CHECKING:
    from qacli.web.state import AppState

LOG = logging.getLogger("qa.web")


def name_thread(state: "AppState", result: Result) -> None:
    """Start to name the thread of a first answer, if the settings enable that.

    An error is logged: the answer is complete without a title.

    Args:
        state: The application's state.
        result: The result of a question.
    """
    if state.auto_title and is_first_answer(result):
        threading.Thread(target=_name, args=(state, result), name="qa-title", daemon=True).start()


def _name(state: "AppState", result: Result) -> None:
    try:
        model = state.model(state.title_model or result.question.model)
        with state.slot(), state.in_flight.track():
            title_thread(
                state.ask_service,
                result,
                model=model,
                params=state.default_params(model),
                stream=state.streams,
            )
    except QaError as error:
        LOG.warning("record %s has no title: %s", result.record_id, error)
    except Exception:
        LOG.exception("record %s has no title", result.record_id)
