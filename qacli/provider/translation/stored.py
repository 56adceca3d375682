"""Write a recorded answer again, in the form and with the ids in which a client first got it."""

from qacli.cost import Usage
from qacli.domain import Outcome, Question, Status
from qacli.provider.json_values import as_dict, as_list
from qacli.provider.response import calls_of
from qacli.provider.tool_exchange import is_calls_only
from qacli.provider.translation.chat_writer import ChatWriter
from qacli.provider.translation.response import Writer
from qacli.provider.translation.responses_writer import ResponsesWriter

TRANSLATED_TO = "translated_to"
"""The detail of a record with the API that the provider was asked by in place of the client's."""

RESPONSE_PREFIX = "resp_"


def stored_response(question: Question, outcome: Outcome) -> ResponsesWriter:
    """Return the writer of a recorded answer as a response of the Responses API."""
    params = {**question.params, "instructions": question.system}
    response_id = _own_id(outcome) or f"{RESPONSE_PREFIX}{question.uid}"
    created = int(question.created_at.timestamp())
    writer = ResponsesWriter(response_id, params, created, question.model, key=question.uid)
    _write(writer, outcome)
    if outcome.status is Status.ASKING:
        writer.response["status"] = "in_progress"
    elif outcome.status is not Status.ANSWERED:
        writer.response |= {
            "status": "failed",
            "error": {"code": "server_error", "message": outcome.error or "It has no answer."},
        }
    return writer


def stored_completion(question: Question, outcome: Outcome, *, with_usage: bool) -> ChatWriter:
    """Return the writer of a recorded answer as a chat completion.

    Args:
        question: The question.
        outcome: Its outcome.
        with_usage: The last chunk has the usage.
    """
    completion_id = _own_id(outcome) or f"chatcmpl-{question.uid}"
    created = int(question.created_at.timestamp())
    writer = ChatWriter(completion_id, created, question.model, with_usage=with_usage)
    _write(writer, outcome)
    return writer


def usage_in(outcome: Outcome) -> Usage | None:
    """Return the tokens of a recorded answer; None if they are unknown."""
    if outcome.prompt_tokens is None or outcome.completion_tokens is None:
        return None
    return Usage(
        outcome.prompt_tokens,
        outcome.completion_tokens,
        outcome.cached_tokens,
        outcome.reasoning_tokens,
    )


def _own_id(outcome: Outcome) -> str | None:
    """Return the id that the provider gave; None if the client got one of this server."""
    return None if TRANSLATED_TO in outcome.details else outcome.provider_response_id


def _write(writer: Writer, outcome: Outcome) -> None:
    details = outcome.details
    writer.start(outcome.model)
    if outcome.reasoning:
        writer.add_reasoning(outcome.reasoning)
    # A record without a text has the calls as its answer.
    text = "" if is_calls_only(outcome.answer, details) else outcome.answer or ""
    if text and details.get("refusal"):
        writer.add_refusal(text)
    elif text or not calls_of(details):
        writer.add_text(text, as_list(as_dict(details.get("logprobs")).get("content")))
        annotations = as_list(details.get("annotations"))
        writer.add_annotations([item for item in annotations if isinstance(item, dict)])
    calls = [call for call in as_list(details.get("tool_calls")) if isinstance(call, dict)]
    for place, call in enumerate(calls):
        [(name, arguments)] = calls_of({"tool_calls": [call]})
        writer.add_call(place, call.get("id"), name, arguments)
    writer.finish(outcome.finish_reason, usage_in(outcome))
