"""Record an answer that the provider had only after its response to the question."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from qacli.domain import Status, now
from qacli.errors import ProviderError
from qacli.services.record_request import result_of

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer
    from qacli.services.ask import AskService


def record_late_answer(service: "AskService", record: "QuestionAnswer", document: bytes) -> None:
    """Record the answer of a question that has failed; do nothing if there is still no answer.

    Args:
        service: The prices and the history.
        record: The record of the question.
        document: The response of the Responses API, as the provider has it now.
    """
    if record.status is not Status.FAILED:
        return
    from qacli.provider.response import ChatResponse, ErrorInAnswer
    from qacli.provider.responses_api import ResponsesApi
    from qacli.provider.tool_calls import ToolCallWriter

    response = ChatResponse(endpoint=record.endpoint)
    try:
        ResponsesApi().read_document(json.loads(document), response)
    except (ValueError, RecursionError, ErrorInAnswer, ProviderError):
        return
    response.close()
    ToolCallWriter().finish(response)
    response.finish()
    waited = round((now() - record.created_at).total_seconds() * 1000)
    outcome = replace(response.outcome(service.prices), latency_ms=waited, first_token_ms=None)
    service.store().replace_failure(result_of(record).question, outcome)
