"""Parse the provider's JSON, in which any field may be missing or of the wrong type."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

from qacli.cost import Pricing
from qacli.domain import Outcome, Status, now
from qacli.errors import BrokenAnswer
from qacli.validation import parse_count, sanitize_text


class ErrorInAnswer(Exception):
    """The provider sent an error message in place of an answer."""


@dataclass(slots=True)
class ChatResponse:
    """The answer as far as it has arrived; filled in while it arrives.

    Attributes:
        headers: The headers of the response, or of the error response.
        first_token_ms: Milliseconds from the start of the first attempt; so is latency_ms.
        answered_at: The time at which the answer was complete; None while it is not.
        discarded_usage: Prompt and completion tokens of a discarded answer, where they are known.
    """

    texts: list[str] = field(default_factory=list)
    model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    first_token_ms: int | None = None
    latency_ms: int | None = None
    answered_at: datetime | None = None
    started: float = field(default_factory=monotonic)
    discarded_usage: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        """The answer as far as it has arrived."""
        return "".join(self.texts)

    def reset(self) -> None:
        """Clear the text and metadata before the next attempt."""
        self.texts.clear()
        self.model = self.response_id = self.finish_reason = None
        self.prompt_tokens = self.completion_tokens = None

    def discard(self) -> None:
        """Discard a complete answer; the tokens that it used still count."""
        if self.prompt_tokens is not None and self.completion_tokens is not None:
            self.discarded_usage = self.prompt_tokens, self.completion_tokens
        self.prompt_tokens = self.completion_tokens = self.answered_at = self.latency_ms = None

    def feed(self, data: object) -> str:
        """Parse a chunk of a stream, or a whole answer; return the text that it adds.

        Raises:
            BrokenAnswer: It is not a JSON object.
            ErrorInAnswer: It is an error that the provider sent in place of an answer.
        """
        if not isinstance(data, dict):
            raise BrokenAnswer(
                "The provider's answer is not an API's.",
                "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
                retryable=True,
            )
        if error := data.get("error"):
            message = error.get("message") if isinstance(error, dict) else error
            raise ErrorInAnswer(str(message))
        self.model = _text(data.get("model")) or self.model
        self.response_id = _text(data.get("id")) or self.response_id
        usage = data.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = parse_count(usage.get("prompt_tokens"))
            self.completion_tokens = parse_count(usage.get("completion_tokens"))
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
        part: Any = choice.get("delta") or choice.get("message")
        if not isinstance(part, dict):
            return ""
        text = _text(part.get("content")) or _text(part.get("refusal")) or ""
        if text:
            self.texts.append(text)
            if self.first_token_ms is None:
                self.first_token_ms = self.elapsed_ms()
        return text

    def outcome(self, prices: Pricing) -> Outcome:
        """Return the outcome; its status is `asking` while the answer is not complete."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        if self.discarded_usage is not None:
            prompt, completion = (
                self.discarded_usage[0] + (prompt or 0),
                self.discarded_usage[1] + (completion or 0),
            )
        return Outcome(
            status=Status.ASKING if self.answered_at is None else Status.ANSWERED,
            answer=self.text or None,
            answered_at=self.answered_at,
            latency_ms=self.elapsed_ms() if self.latency_ms is None else self.latency_ms,
            first_token_ms=self.first_token_ms,
            model=self.model,
            provider_response_id=self.response_id,
            finish_reason=self.finish_reason,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_usd=prices.cost(self.model, prompt, completion),
        )

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
            BrokenAnswer: It ended without a finish reason, or as `require_text`.
        """
        if self.texts and self.finish_reason is None:
            raise BrokenAnswer(
                "The answer was cut off: the provider closed the stream in the middle.",
                "Ask again; what had arrived is kept.",
                retryable=True,
            )
        self.require_text()

    def require_text(self) -> None:
        """Check that the answer has text.

        Raises:
            BrokenAnswer: It has none; the message has the provider's reason.
        """
        if self.text.strip():
            return
        if self.finish_reason == "length":
            raise BrokenAnswer(
                "The token limit was reached before the first word of the answer.",
                "Allow more with --max-tokens.",
            )
        if self.finish_reason == "content_filter":
            raise BrokenAnswer(
                "The provider's content filter withheld the answer.",
                "Put the question differently.",
            )
        raise BrokenAnswer("The provider's answer is empty.", "Ask again.", retryable=True)


def _text(value: object) -> str | None:
    return sanitize_text(value) if isinstance(value, str) else None
