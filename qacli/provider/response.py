"""The part of a provider's answer that has arrived so far, in one form for every API."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from time import monotonic
from typing import Any

from qacli.cost import Pricing, Usage
from qacli.domain import Delta, Outcome, ReasoningDelta, Status, now
from qacli.errors import BrokenAnswer
from qacli.provider.cumulative import CumulativeText
from qacli.provider.error_body import ErrorBody
from qacli.provider.finish_reasons import FAILED, is_filtered
from qacli.provider.think_tags import OPENED_BY_TEMPLATE, ThinkTagSplitter
from qacli.validation import sanitize_text

MAX_DETAIL_DEPTH = 20
"""Levels of objects and lists in `details`; deeper values are left out."""

TextEvent = Delta | ReasoningDelta


class ErrorInAnswer(Exception):
    """The provider sent an error in place of an answer, with status 200.

    Args:
        error: The error as the provider describes it.
        status: The HTTP status that a file of results has for it; None if there is none.
    """

    def __init__(self, error: ErrorBody, status: int | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status


@dataclass(frozen=True, slots=True)
class Attempt:
    """The values that determine the price of an attempt."""

    usage: Usage
    model: str | None
    tier: object
    endpoint: str | None

    def cost(self, prices: Pricing) -> float | None:
        """Return US dollars; None if they are unknown."""
        return prices.cost(self.model, self.usage, endpoint=self.endpoint, tier=self.tier)


@dataclass(slots=True)
class ChatResponse:
    """The answer as far as it has arrived; filled in while it arrives.

    Attributes:
        texts: The pieces of the answer.
        reasoning_texts: The pieces of the model's reasoning, which is no part of the answer.
        details: Everything else that the provider sent, by its own names.
        usage: The tokens of this attempt; None while they are unknown.
        earlier_attempts: The attempts whose answers were discarded.
        is_done: The provider has marked the end of the answer.
        ends_with_reason: The newest piece has the finish reason, and no text.
        has_late_text: Text came after a finish reason: each piece of the endpoint may have one.
        is_in_pieces: The message comes in pieces: a whole one after them repeats them.
        call_places: The place in `details` of the tool call with each index, and with None that
            of the newest call.
        half_character: The first half of a character (a surrogate) whose second half comes in
            the next piece of the answer.
        half_of_reasoning: The same of the reasoning.
        headers: The headers of the response, or of the error response.
        endpoint: The name of the endpoint; see `Endpoint.name`.
        others: The answers besides the first, by their index, where several were asked for.
        billing_tier: The service tier by which the answer is charged; None means the one in
            `details`.
        cumulative: Recognises pieces of the text that each have all of it.
        cumulative_reasoning: The same for the reasoning.
        think_tags: Separates the reasoning in the text from the answer; None leaves it there.
        first_token_ms: Milliseconds from the start of the first attempt to the first token.
        latency_ms: Milliseconds from the start of the first attempt to the end of the answer.
        answered_at: The time at which the answer was complete; None while it is not.
    """

    texts: list[str] = field(default_factory=list)
    reasoning_texts: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    earlier_attempts: list[Attempt] = field(default_factory=list)
    is_done: bool = False
    ends_with_reason: bool = False
    has_late_text: bool = False
    is_in_pieces: bool = False
    call_places: dict[str | None, int] = field(default_factory=dict)
    half_character: str = ""
    half_of_reasoning: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    others: "dict[int, ChatResponse]" = field(default_factory=dict)
    billing_tier: str | None = None
    cumulative: CumulativeText = field(default_factory=CumulativeText)
    cumulative_reasoning: CumulativeText = field(default_factory=CumulativeText)
    think_tags: ThinkTagSplitter | None = None
    first_token_ms: int | None = None
    latency_ms: int | None = None
    answered_at: datetime | None = None
    started: float = field(default_factory=monotonic)

    @property
    def text(self) -> str:
        """The answer as far as it has arrived."""
        return "".join(self.texts) + sanitize_text(self.half_character)

    @property
    def has_begun(self) -> bool:
        """Some text or reasoning has arrived."""
        return bool(self.texts or self.reasoning_texts)

    @property
    def is_complete(self) -> bool:
        """The answer has begun, and its end has arrived."""
        return self.has_begun and (self.is_done or self.finish_reason is not None)

    @property
    def has_ended(self) -> bool:
        """The end of the answer has arrived; a connection that breaks then costs nothing."""
        return self.is_done or (self.finish_reason is not None and not self.has_late_text)

    @property
    def used_tokens(self) -> int:
        """The tokens of this attempt; 0 while they are unknown."""
        return 0 if self.usage is None else self.usage.total

    def reset(self) -> None:
        """Clear everything before the next attempt; the tokens that were used still count."""
        self.discard()
        self.texts.clear()
        self.reasoning_texts.clear()
        self.others.clear()
        self.call_places.clear()
        self.details = {}
        self.model = self.response_id = self.finish_reason = None
        self.is_done = self.is_in_pieces = self.ends_with_reason = self.has_late_text = False
        self.half_character = self.half_of_reasoning = ""
        self.cumulative, self.cumulative_reasoning = CumulativeText(), CumulativeText()

    def discard(self) -> None:
        """Discard a complete answer; the tokens that it used still count."""
        self.earlier_attempts = self._attempts()
        self.usage = self.answered_at = self.latency_ms = None

    def add_content(self, text: object) -> list[TextEvent]:
        """Add a piece of the text, from which reasoning is separated; return its events."""
        if not isinstance(text, str) or not text:
            return []
        if self.think_tags is None:
            return self.add_text(text)
        if not self.has_begun and OPENED_BY_TEMPLATE.search(self.model or ""):
            self.think_tags.starts_open = True
        reasoning, answer = self.think_tags.feed(text)
        return [*self.add_reasoning(reasoning), *self.add_text(answer)]

    def add_text(self, text: object) -> list[TextEvent]:
        r"""Add a piece of the answer; return its event, or none for an empty one.

        Servers in JavaScript may divide a character, as JSON can: "\ud83d" and "\ude00".
        """
        if not isinstance(text, str) or not text:
            return []
        text, self.half_character = _split_half(self.half_character + text)
        if not text:
            return []
        self.texts.append(text)
        self._note_first_token()
        return [Delta(text)]

    def add_reasoning(self, text: object) -> list[TextEvent]:
        """Add a piece of reasoning; return its event, or none for an empty one."""
        if not isinstance(text, str) or not text:
            return []
        text, self.half_of_reasoning = _split_half(self.half_of_reasoning + text)
        if not text:
            return []
        self.reasoning_texts.append(text)
        self._note_first_token()
        return [ReasoningDelta(text)]

    def add_detail(self, name: str, value: object, *, join: bool = False) -> None:
        """Add a field of the response to the details; it replaces an earlier value.

        Args:
            name: The field.
            value: Any JSON; an empty value adds nothing.
            join: Append a list to the earlier one, because it arrives in pieces.
        """
        value = sanitize_json(value)
        if value is None or value in ("", [], {}):
            return
        before = self.details.get(name)
        if join and isinstance(before, list) and isinstance(value, list):
            value = [*before, *value]
        self.details[sanitize_text(name)] = value

    def close(self) -> list[TextEvent]:
        """Return the events of the text that was held back; the response has ended."""
        reasoning = answer = ""
        if self.think_tags is not None:
            if self.think_tags.has_no_tag:
                self.reasoning_texts.clear()
            reasoning, answer = self.think_tags.close()
        events = [*self.add_reasoning(reasoning), *self.add_text(answer)]
        half, self.half_character = sanitize_text(self.half_character), ""
        return [*events, *self.add_text(half)]

    def outcome(self, prices: Pricing) -> Outcome:
        """Return the outcome; its status is `asking` while the answer is not complete."""
        attempts = self._attempts()
        usages = [attempt.usage for attempt in attempts]
        amounts = [attempt.cost(prices) for attempt in attempts]
        costs = [amount for amount in amounts if amount is not None]
        return Outcome(
            status=Status.ASKING if self.answered_at is None else Status.ANSWERED,
            answer=self.text or None,
            answered_at=self.answered_at,
            latency_ms=self.elapsed_ms() if self.latency_ms is None else self.latency_ms,
            first_token_ms=self.first_token_ms,
            model=self.model,
            provider_response_id=self.response_id,
            finish_reason=self.finish_reason,
            prompt_tokens=_sum(usage.prompt_tokens for usage in usages),
            completion_tokens=_sum(usage.completion_tokens for usage in usages),
            cached_tokens=_sum(usage.cached_tokens for usage in usages),
            reasoning_tokens=_sum(usage.reasoning_tokens for usage in usages),
            cost_usd=sum(costs) if costs and len(costs) == len(usages) else None,
            reasoning="".join(self.reasoning_texts).strip() or None,
            details=self._all_details(),
            endpoint=self.endpoint,
        )

    def _all_details(self) -> dict[str, Any]:
        """Return the details, with the answers besides the first under `choices`."""
        if not self.others:
            return self.details
        choices = [
            {
                "index": index,
                "content": other.text,
                "finish_reason": other.finish_reason,
                **other.details,
            }
            for index, other in sorted(self.others.items())
        ]
        return {**self.details, "choices": choices}

    def elapsed_ms(self) -> int:
        """Return the milliseconds since the start of the first attempt."""
        return round((monotonic() - self.started) * 1000)

    def finish(self) -> None:
        """Mark the answer as complete."""
        self.latency_ms = self.elapsed_ms()
        self.answered_at = now()

    def require_complete(self) -> None:
        """Check that a stream that has ended was a complete answer.

        Raises:
            BrokenAnswer: The stream ended without a finish reason and without its end mark.
        """
        if self.has_begun and self.finish_reason is None and not self.is_done:
            raise cut_off_error()

    def require_success(self) -> None:
        """Check that the provider did not fail in the middle of the answer.

        Raises:
            BrokenAnswer: The provider has failed, by the finish reason.
        """
        if self.finish_reason in FAILED:
            raise BrokenAnswer(
                f"The provider failed before the end of the answer: {self.finish_reason}.",
                "Ask again; what had arrived is kept.",
                retryable=True,
            )

    def require_text(self) -> None:
        """Check that the answer has text, and that the provider did not fail in the middle of it.

        Raises:
            BrokenAnswer: The answer has no text; the message has the provider's reason. Only a
                failure, or a response without any sign of an answer, is worth another request.
        """
        self.require_success()
        if self.text.strip():
            return
        if self.finish_reason in {"length", "max_output_tokens"}:
            used = "reasoning used all of it" if self.reasoning_texts else "nothing was written"
            raise BrokenAnswer(
                f"The token limit was reached before the first word of the answer: {used}.",
                "Allow more with --max-tokens, or less reasoning with --reasoning-effort.",
            )
        if self.finish_reason == "content_filter" or is_filtered(self.details):
            raise BrokenAnswer(
                "The provider's content filter withheld the answer.",
                "Put the question differently.",
            )
        if calls := calls_of(self.details):
            names = ", ".join(name for name, _arguments in calls)
            raise BrokenAnswer(
                f"The model called a tool instead of answering: {names}.",
                "Ask for an answer in text, or choose another --model.",
            )
        if "images" in self.details or "audio" in self.details:
            raise BrokenAnswer(
                "The answer has no text, only images or audio.",
                "See `details` of the record: qa show ID --format json.",
            )
        if self.reasoning_texts:
            raise BrokenAnswer(
                "The answer is empty: the model sent nothing but reasoning.",
                "Ask again, or allow more tokens with --max-tokens.",
            )
        # A complete answer that was paid for is not asked for again.
        is_paid = self.finish_reason is not None and bool(
            self.usage and self.usage.completion_tokens
        )
        raise BrokenAnswer("The provider's answer is empty.", "Ask again.", retryable=not is_paid)

    def _attempts(self) -> list[Attempt]:
        """Return the attempts with known tokens, this one last."""
        if self.usage is None:
            return self.earlier_attempts
        tier = self.billing_tier or self.details.get("service_tier")
        return [*self.earlier_attempts, Attempt(self.usage, self.model, tier, self.endpoint)]

    def _note_first_token(self) -> None:
        if self.first_token_ms is None:
            self.first_token_ms = self.elapsed_ms()


def cut_off_error() -> BrokenAnswer:
    """Return the error for an answer that ends in its middle."""
    return BrokenAnswer(
        "The answer was cut off: the provider closed the stream in the middle.",
        "Ask again; what had arrived is kept.",
        retryable=True,
    )


def sanitize_json(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON value that both databases can store; other values become None."""
    if isinstance(value, str):
        return sanitize_text(value)
    if isinstance(value, dict | list) and depth >= MAX_DETAIL_DEPTH:
        return None
    if isinstance(value, dict):
        return {
            sanitize_text(str(name)): sanitize_json(item, depth + 1) for name, item in value.items()
        }
    if isinstance(value, list):
        return [sanitize_json(item, depth + 1) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _split_half(text: str) -> tuple[str, str]:
    """Return a text that can be stored, and the first half of a character at its end."""
    end = len(text) - ("\ud800" <= text[-1] <= "\udbff")
    return sanitize_text(text[:end]), text[end:]


def _sum(counts: "Any") -> int | None:  # noqa: ANN401 - an iterable of numbers and None
    values = [count for count in counts if count is not None]
    return sum(values) if values else None


def calls_of(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the names and the arguments, as they were sent, of the tool calls in `details`.

    A custom tool of OpenAI has a text as its `input`.
    """
    calls = details.get("tool_calls")
    functions = [
        call.get("function", call.get("custom", call))
        for call in (calls if isinstance(calls, list) else [])
        if isinstance(call, dict)
    ]
    return [
        (
            str(function.get("name") or "?"),
            str(function.get("arguments") or function.get("input") or ""),
        )
        for function in functions
        if isinstance(function, dict)
    ]
