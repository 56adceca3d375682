import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any

import pytest
from conftest import KEY, texts_of
from fake_provider import FakeProvider
from fake_provider import Reply as Faked
from wire_server import raw_server

from qacli.config.defaults import OPENAI_BASE_URL
from qacli.config.settings import Settings
from qacli.cost import Usage
from qacli.domain import ChatRequest, Delta, Question
from qacli.errors import (
    BrokenAnswer,
    KeyRejected,
    ModelNotFound,
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnreachable,
)
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.endpoint import Endpoint
from qacli.provider.model_cache import ModelListCache
from qacli.provider.response import ChatResponse
from qacli.provider.retry import MAX_BACKOFF_SECONDS, Retry, backoff
from qacli.provider.sync import SyncProvider

ways = pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
apis = pytest.mark.parametrize("api", ["chat", "responses"])


@dataclass
class Asker:
    """A client of the provider, with the notices and the duration of the last request."""

    endpoint: Endpoint
    settings: Settings
    retried: list[Retry] = field(default_factory=list)
    reply: ChatResponse = field(default_factory=ChatResponse)
    seconds: float = 0.0

    def __call__(self, question: str = "Who?", *, whole: bool = False, **fields: Any) -> list[str]:
        provider = SyncProvider(self.endpoint, self.settings, self.retried.append)
        self.reply = ChatResponse()
        ask = Question(question=question, **{"params": {"model": "m"}, **fields})
        started = time.monotonic()
        try:
            request = ChatRequest(question=ask, stream=not whole)
            return texts_of(provider.stream(request, self.reply))
        finally:
            self.seconds = time.monotonic() - started
            provider.close()

    def fails(self, kind: type[ProviderError], question: str, *, whole: bool = False) -> Any:
        with pytest.raises(ProviderError) as caught:
            self(question, whole=whole)
        error = caught.value
        assert type(error) is kind, repr(error)
        assert "\n" not in str(error)
        assert error.what.endswith(".")
        assert error.todo.endswith(".") or "http" in error.todo
        assert KEY not in str(error)
        return error


Make = Callable[..., Asker]

PROMPT_SECONDS = 4.0
"""A limit for timeouts of 0.4 s: the faults last much longer, a busy machine adds much less."""


@pytest.fixture
def asker(provider: FakeProvider) -> Make:
    """Return a function that makes a client with these settings."""

    def make(*, key: str = KEY, base_url: str = "", **settings: Any) -> Asker:
        endpoint = Endpoint(base_url=base_url or provider.base_url, key=key, model="m")
        options = {"retries": 0, "timeout": 10.0, **settings}
        return Asker(endpoint, Settings(api_key=key or None, **options))

    return make


@ways
def test_client_answer_has_text_model_usage_and_ids(asker: Make, *, whole: bool) -> None:
    ask = asker()
    texts = ask("Who am I?", whole=whole)
    reply = ask.reply
    assert "".join(texts) == reply.text == "Answer to: Who am I?"
    assert len(texts) == (1 if whole else 5)
    assert reply.model == "m-2026-01-01"
    assert (reply.response_id or "").startswith("chatcmpl-")
    assert reply.finish_reason == "stop"
    assert reply.usage == Usage(3, 5)


@ways
def test_client_request_has_messages_key_and_options(
    provider: FakeProvider, asker: Make, *, whole: bool
) -> None:
    ask = asker()
    ask("Grüße 🌍\r\n", whole=whole, system="Be brief.")
    (request,) = provider.requests
    assert request.path == "/v1/chat/completions"
    assert request.key == KEY
    assert request.body.pop("stream") is not whole
    assert request.body.pop("stream_options", None) == (None if whole else {"include_usage": True})
    assert request.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Grüße 🌍\r\n"},
        ],
    }


@ways
def test_client_without_a_key_sends_no_authorization(asker: Make, *, whole: bool) -> None:
    with FakeProvider() as other:
        asker(key="", base_url=other.base_url)(whole=whole)
        assert "authorization" not in other.requests[0].headers


def test_client_stream_gives_text_as_it_arrives(provider: FakeProvider, asker: Make) -> None:
    provider.default = Faked(text="one two three", stall=2)
    made = asker()
    client = SyncProvider(made.endpoint, made.settings)
    request = ChatRequest(question=Question(question="q", params={"model": "m"}))
    stream = client.stream(request, ChatResponse())
    # The rest never arrives, so no text has waited for it.
    assert [next(stream), next(stream)] == [Delta("one"), Delta(" two")]
    stream.close()
    client.close()


@ways
@apis
def test_client_answer_without_usage_has_none(asker: Make, api: str, *, whole: bool) -> None:
    ask = asker(api=api)
    ask("Who? [[usage=0]]", whole=whole)
    assert ask.reply.usage is None


@ways
@apis
def test_client_unstorable_characters_are_replaced(asker: Make, api: str, *, whole: bool) -> None:
    ask = asker(api=api)
    text = "".join(ask("[[text=Hi nasty]]", whole=whole))
    assert text == ask.reply.text == "Hi NUL \ufffd surrogate \ufffd end"


@ways
@apis
def test_client_refusal_is_an_answer(asker: Make, api: str, *, whole: bool) -> None:
    assert "".join(asker(api=api)("[[refusal='I will not.']]", whole=whole)) == "I will not."


@ways
@apis
def test_client_answer_cut_by_token_limit_is_an_answer(
    asker: Make, api: str, *, whole: bool
) -> None:
    ask = asker(api=api)
    assert ask("Who? [[finish_reason=length]]", whole=whole)
    assert ask.reply.finish_reason == "length"


@apis
def test_client_json_in_place_of_a_stream_is_an_answer(asker: Make, api: str) -> None:
    ask = asker(api=api)
    assert ask("[[json text=Hello]]") == ["Hello"]
    assert ask.reply.usage is not None
    assert ask.reply.usage.completion_tokens == 1
    assert ask.reply.finish_reason == "stop"


@pytest.mark.parametrize("cut", [5, 6, 7], ids=["finish_reason", "usage", "done"])
@pytest.mark.parametrize("how", ["cut", "end"])
def test_client_fault_after_the_finish_reason_keeps_the_answer(
    asker: Make, how: str, cut: int
) -> None:
    ask = asker()
    text = "a b c d"  # four deltas, then finish_reason, usage and [DONE]
    assert "".join(ask(f"[[text='{text}' {how}={cut}]]")) == text
    assert ask.reply.finish_reason == "stop"


@pytest.mark.parametrize(
    ("fault", "kind", "arrived"),
    [
        ("[[reset]]", ProviderUnreachable, ""),
        ("[[drop]]", ProviderUnreachable, ""),
        ("[[cut=0]]", ProviderUnreachable, ""),
        ("[[cut=2]]", ProviderUnreachable, "Answer to:"),
        ("[[end=0]]", BrokenAnswer, ""),
        ("[[end=2]]", BrokenAnswer, "Answer to:"),
        ("[[error=0]]", ProviderUnavailable, ""),
        ("[[error=2]]", ProviderUnavailable, "Answer to:"),
        ("[[broken text='a b c']]", BrokenAnswer, "a b"),
        ("[[empty]]", BrokenAnswer, ""),
        ("[[text=' ']]", BrokenAnswer, " "),
        ("[[nothing]]", BrokenAnswer, ""),
        ("[[no_choices]]", BrokenAnswer, ""),
        ("[[html]]", BrokenAnswer, ""),
        ("[[empty finish_reason=length]]", BrokenAnswer, ""),
        ("[[empty finish_reason=content_filter]]", BrokenAnswer, ""),
    ],
)
@apis
def test_client_fault_in_a_stream_raises_and_keeps_the_text(
    asker: Make, fault: str, kind: type[ProviderError], arrived: str, api: str
) -> None:
    ask = asker(api=api)
    ask.fails(kind, fault)
    assert ask.reply.text == arrived


@ways
def test_client_connection_closed_in_an_answer_is_named(asker: Make, whole: bool) -> None:
    error = asker().fails(ProviderUnreachable, "[[cut=2]]", whole=whole)
    assert error.what.endswith(" failed: it was closed in the middle of the response.")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("[[reset]]", ProviderUnreachable),
        ("[[drop]]", ProviderUnreachable),
        ("[[cut=2]]", ProviderUnreachable),
        ("[[error=2]]", ProviderUnavailable),
        ("[[broken]]", BrokenAnswer),
        ("[[empty]]", BrokenAnswer),
        ("[[nothing]]", BrokenAnswer),
        ("[[no_choices]]", BrokenAnswer),
        ("[[html]]", BrokenAnswer),
        ("[[empty finish_reason=length]]", BrokenAnswer),
    ],
)
@apis
def test_client_fault_in_a_whole_answer_raises(
    asker: Make, fault: str, kind: type[ProviderError], api: str
) -> None:
    ask = asker(api=api)
    ask.fails(kind, fault, whole=True)
    assert ask.reply.text == ""


@ways
@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("bad_key", KeyRejected, "Incorrect API key"),
        ("leak_key", KeyRejected, "Incorrect API key provided: ***"),
        ("quota", ProviderRefused, "exceeded your current quota"),
        ("status=400 message='Too long.'", ProviderRefused, "Too long."),
        ("status=403", ProviderRefused, "refused"),
        ("status=404", ModelNotFound, "The model does not exist."),
        ("status=422", ProviderRefused, "refused"),
        ("status=408", ProviderUnavailable, ""),
        ("status=409", ProviderUnavailable, ""),
        ("status=429", ProviderUnavailable, "Rate limit"),
        ("status=500", ProviderUnavailable, "server had an error"),
        ("status=503", ProviderUnavailable, "overloaded"),
        ("status=529", ProviderUnavailable, ""),
        ("html_502", ProviderUnavailable, "a web page titled 'Bad gateway'"),
        ("status=400 body=html", ProviderRefused, "a web page titled 'Bad gateway'"),
    ],
)
@apis
def test_client_error_status_raises_with_the_providers_message(
    asker: Make, fault: str, kind: type[ProviderError], said: str, api: str, *, whole: bool
) -> None:
    error = asker(api=api).fails(kind, f"[[{fault}]]", whole=whole)
    status = {"bad_key": 401, "leak_key": 401, "quota": 429, "html_502": 502}.get(fault)
    assert error.provider_status == (
        status or int(fault.split(maxsplit=1)[0].removeprefix("status="))
    )
    assert f"The provider answered {error.provider_status}: " in error.what
    assert said in error.what
    assert "<" not in error.what


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "model_not_found", "The model `x` does not exist or you do not have access to it."),
        (404, "", "The model `x` has been deprecated, learn more in our docs."),
        (400, "model_decommissioned", "The model `x` has been decommissioned."),
        (400, "", "x is not a valid model ID"),
        (404, "", "No endpoints found for x."),
        (404, "", "model 'x' not found, try pulling it first"),
        (404, "", "The model `x` does not exist."),
        (404, "", "model: x"),
        (404, "", "models/x is not found for API version v1beta, or is not supported for it."),
        (400, "1500", "Invalid model: x"),
        (400, "", "Model Not Exist"),
        (404, "model_not_available", "Unable to access model x."),
        (404, "DeploymentNotFound", "The API deployment for this resource does not exist."),
    ],
)
def test_client_error_about_the_model_is_model_not_found(
    provider: FakeProvider, asker: Make, status: int, code: str, message: str
) -> None:
    provider.script(Faked(status=status, code=code or None, message=message))
    assert asker().fails(ModelNotFound, "?").provider_status == status


def test_client_model_not_found_names_the_nearest_models(
    asker: Make,
) -> None:
    ask = asker()
    ModelListCache(ask.settings.data_path).put(ask.endpoint.base_url, ["n-large", "other"])
    with pytest.raises(ModelNotFound) as caught:
        ask("[[status=404]]", params={"model": "n-larg"})
    error = caught.value
    assert "The nearest that it serves: n-large. " in error.todo
    assert "serves the model n-larg," in error.todo


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model's maximum context length is 8192 tokens."),
        (400, "Unsupported parameter: 'temperature' is not supported with this model."),
        (404, "Not Found"),
        (403, "Project does not have access to model x"),
        (429, "The model x is not available: overloaded"),
    ],
)
def test_client_other_error_is_not_model_not_found(
    provider: FakeProvider, asker: Make, status: int, message: str
) -> None:
    provider.script(Faked(status=status, code="other", message=message))
    with pytest.raises(ProviderError) as caught:
        asker()("?")
    assert not isinstance(caught.value, ModelNotFound)


@ways
def test_client_model_not_found_names_the_model(asker: Make, *, whole: bool) -> None:
    error = asker().fails(ModelNotFound, "[[status=404]]", whole=whole)
    assert "serves the model m" in error.todo


@pytest.mark.parametrize("key", ["sk-test-0123456789abcdef", "a key of another shape", "gsk_12345"])
def test_client_error_message_has_no_key_of_any_form(
    provider: FakeProvider, asker: Make, key: str
) -> None:
    ask = asker(key=key)
    message = "Key {key} is bad, {key}{key}! " * 30
    provider.api_key = None
    try:
        for fault in (Faked(status=401, message=message), Faked(error=0, message=message)):
            provider.script(fault)
            with pytest.raises(ProviderError) as caught:
                ask()
            assert key not in str(caught.value)
            assert "***" in str(caught.value)
            assert len(str(caught.value)) < 800
    finally:
        provider.api_key = KEY


@ways
def test_client_error_message_is_one_line(
    provider: FakeProvider, asker: Make, *, whole: bool
) -> None:
    provider.default = Faked(status=400, message="one\n  two\r\n\tthree...")
    error = asker().fails(ProviderRefused, "q", whole=whole)
    assert error.what == "The provider answered 400: one two three."


def test_client_error_message_can_be_stored(provider: FakeProvider, asker: Make) -> None:
    provider.default = Faked(status=400, message="bad \0 \ud800")
    error = asker().fails(ProviderRefused, "q")
    assert "\0" not in error.what
    error.what.encode()


def test_client_closed_port_is_unreachable(asker: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    ask = asker(base_url=f"http://127.0.0.1:{port}/v1")
    error = ask.fails(ProviderUnreachable, "q")
    assert f"http://127.0.0.1:{port}/v1" in error.what


def test_client_unknown_host_name_is_unreachable(asker: Make) -> None:
    asker(base_url="http://no-such-host.invalid/v1").fails(ProviderUnreachable, "q")


@ways
def test_client_path_without_an_api_is_refused(
    provider: FakeProvider, asker: Make, *, whole: bool
) -> None:
    ask = asker(base_url=provider.base_url.removesuffix("/v1") + "/nothing/v1")
    ask.fails(ProviderRefused, "q", whole=whole)


RETRYABLE = [
    *("status=408", "status=409", "status=429", "status=500", "status=503", "html_502"),
    *("reset", "drop", "cut=0", "end=0", "error=0", "empty", "nothing", "no_choices"),
]
SHORT = 139  # the seed of a short backoff
FINAL = ["bad_key", "quota", "status=400", "status=403", "status=404", "status=422", "html"]


@ways
@pytest.mark.parametrize("fault", RETRYABLE)
@apis
def test_client_retryable_fault_is_retried(
    provider: FakeProvider, asker: Make, fault: str, api: str, *, whole: bool
) -> None:
    ask = asker(api=api, retries=1)
    random.seed(SHORT)
    question = f"[[{fault} times=1]]"
    assert "".join(ask(question, whole=whole))
    assert provider.asked(question) == 2
    (retry,) = ask.retried
    assert retry.attempt == 1
    assert retry.error.retryable


@ways
@pytest.mark.parametrize("fault", FINAL)
@apis
def test_client_permanent_fault_is_not_retried(
    provider: FakeProvider, asker: Make, fault: str, api: str, *, whole: bool
) -> None:
    ask = asker(api=api, retries=3)
    with pytest.raises(ProviderError) as caught:
        ask(f"[[{fault}]]", whole=whole)
    assert not caught.value.retryable
    assert provider.asked(f"[[{fault}]]") == 1
    assert not ask.retried


@pytest.mark.parametrize("fault", ["cut=2", "end=2", "error=2", "broken"])
@apis
def test_client_fault_after_the_first_text_is_not_retried(
    provider: FakeProvider, asker: Make, fault: str, api: str
) -> None:
    ask = asker(api=api, retries=3)
    with pytest.raises(ProviderError):
        ask(f"[[{fault}]]")
    assert ask.reply.text
    assert provider.asked(f"[[{fault}]]") == 1
    assert not ask.retried


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_client_retries_limit_the_attempts(
    provider: FakeProvider, asker: Make, retries: int
) -> None:
    ask = asker(retries=retries)
    question = "[[status=500 retry-after-ms=1]]"
    ask.fails(ProviderUnavailable, question)
    assert provider.asked(question) == 1 + retries
    assert [retry.attempt for retry in ask.retried] == list(range(1, retries + 1))


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [
        ("retry_after=0.3", 0.3, 0.6),
        ("retry-after-ms=200", 0.2, 0.45),
        ("retry_after=9 retry-after-ms=200", 0.2, 0.45),
        ("retry_date=2", 0.5, 3.3),
        ("retry_after=0", 0, 0.1),
        ("retry-after=-5", 0, 0.1),
    ],
)
def test_client_retry_waits_as_long_as_retry_after(
    asker: Make, wait: str, least: float, most: float
) -> None:
    ask = asker(retries=1)
    ask(f"[[status=429 times=1 {wait}]]")
    (retry,) = ask.retried
    assert least <= retry.delay <= most
    assert retry.delay <= ask.seconds < most + PROMPT_SECONDS


@pytest.mark.parametrize("header", ["retry-after=soon", "retry-after=''", "retry-after=9999-99-99"])
def test_client_invalid_retry_after_is_none(asker: Make, header: str) -> None:
    error = asker().fails(ProviderUnavailable, f"[[status=429 {header}]]")
    assert error.retry_after is None


def test_client_retry_after_nan_is_ignored(asker: Make) -> None:
    ask = asker(retries=1)
    ask("[[status=429 times=1 retry-after=nan]]")


@pytest.mark.parametrize("header", ["retry_after=3600", "retry_date=3600", "retry-after=inf"])
def test_client_retry_after_beyond_the_deadline_is_not_waited_for(asker: Make, header: str) -> None:
    ask = asker(retries=1, timeout=5)
    ask.fails(ProviderUnavailable, f"[[status=429 {header}]]")
    assert ask.seconds < PROMPT_SECONDS


def test_backoff_grows_to_a_limit_with_jitter() -> None:
    for attempt in range(1, 40):
        delays = [backoff(attempt, None) for _ in range(20)]
        assert all(0 <= delay <= min(MAX_BACKOFF_SECONDS, 0.5 * 2**attempt) for delay in delays)
        assert len(set(delays)) > 1
    assert all(3 <= backoff(1, 3) <= 3.25 for _ in range(20))
    assert backoff(1, 0) == 0


def test_client_retry_has_nothing_of_the_earlier_attempt(
    provider: FakeProvider, asker: Make
) -> None:
    ask = asker(retries=1)
    provider.script("status=500 retry-after-ms=1", "text=Hello")
    assert ask() == ["Hello"]
    assert ask.reply.usage is not None
    assert ask.reply.usage.completion_tokens == 1


@pytest.mark.parametrize("fault", ["cut=2", "end=2"])
def test_client_cut_answer_after_an_empty_one_raises(
    provider: FakeProvider, asker: Make, fault: str
) -> None:
    ask = asker(retries=1)
    random.seed(SHORT)
    provider.script("empty", fault)
    with pytest.raises(ProviderError):
        ask()


@ways
@pytest.mark.parametrize(
    "fault",
    [
        *("hang", "stall=1", "latency=5", "dribble=0.01", "delay=0.5 size=20000"),
    ],
)
def test_client_deadline_passed_raises_timeout(asker: Make, fault: str, *, whole: bool) -> None:
    ask = asker(timeout=0.4)
    error = ask.fails(ProviderTimeout, f"Who? [[{fault}]]", whole=whole)
    assert 0.35 < ask.seconds < PROMPT_SECONDS
    assert "within 0.4 s" in error.what
    assert "QA_TIMEOUT" in error.todo


@pytest.mark.parametrize(
    "fault", ["status=500 dribble=0.05", "status=400 cut=1", "status=503 stall=1", "html_502 cut=1"]
)
def test_client_incomplete_error_body_raises_provider_error(asker: Make, fault: str) -> None:
    ask = asker(timeout=0.4)
    with pytest.raises(ProviderError):
        ask(f"[[{fault}]]")
    assert ask.seconds < PROMPT_SECONDS


@ways
def test_client_slow_headers_end_at_the_deadline(asker: Make, *, whole: bool) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.recv(65536)
        for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 40:
            connection.send(bytes((byte,)))
            time.sleep(0.1)

    with raw_server(trickle) as base_url:
        ask = asker(base_url=base_url, timeout=0.3)
        ask.fails(ProviderTimeout, "q", whole=whole)
    assert ask.seconds < PROMPT_SECONDS


def test_client_deadline_passed_keeps_the_received_text(asker: Make) -> None:
    ask = asker(timeout=0.6)
    ask.fails(ProviderTimeout, "[[stall=2]]")
    assert ask.reply.text == "Answer to:"


@ways
def test_client_retries_do_not_extend_the_deadline(
    provider: FakeProvider, asker: Make, *, whole: bool
) -> None:
    ask = asker(timeout=2, retries=9)
    ask.fails(ProviderTimeout, "[[hang]]", whole=whole)
    assert ask.seconds < PROMPT_SECONDS
    provider.reset()
    ask = asker(timeout=4, retries=9)
    ask.fails(ProviderUnavailable, "[[status=503 retry_after=2.5]]", whole=whole)
    assert ask.seconds < PROMPT_SECONDS
    assert len(provider.requests) == 2


@pytest.mark.parametrize("fault", ["hang", "stall=0", "stall=2", "first_token_delay=5"])
def test_client_first_token_timeout_passed_raises(asker: Make, fault: str) -> None:
    ask = asker(timeout=10, first_token_timeout=0.4)
    error = ask.fails(ProviderTimeout, f"[[{fault}]]")
    assert 0.3 < ask.seconds < PROMPT_SECONDS
    assert "within 0.4 s" in error.what
    assert "QA_FIRST_TOKEN_TIMEOUT" in error.todo


def test_client_slow_answer_without_silence_is_accepted(asker: Make) -> None:
    ask = asker(timeout=10, first_token_timeout=1.5)
    assert "".join(ask("[[text='a b c d e f' delay=0.4]]")) == "a b c d e f"
    assert ask.seconds > 1.5


@pytest.mark.parametrize("fault", ["stall=1", "cut=1", "dribble=0.02"])
def test_client_faulty_json_in_place_of_a_stream_raises(asker: Make, fault: str) -> None:
    ask = asker(timeout=0.6)
    with pytest.raises(ProviderError):
        ask(f"[[json {fault}]]")
    assert ask.seconds < PROMPT_SECONDS


def test_client_error_in_json_in_place_of_a_stream_is_shown(asker: Make) -> None:
    error = asker().fails(ProviderUnavailable, "[[json error=0 message='Out of order.']]")
    assert "Out of order" in error.what


def test_client_reused_connection_outlives_the_old_deadline(asker: Make) -> None:
    made = asker(timeout=0.5)
    client = SyncProvider(made.endpoint, made.settings)
    ask = Question(question="q", params={"model": "m"})
    assert list(client.stream(ChatRequest(question=ask), ChatResponse()))
    time.sleep(0.3)
    slow = Question(question="[[text='a b c' delay=0.1]]", params={"model": "m"})
    assert "".join(texts_of(client.stream(ChatRequest(question=slow), ChatResponse()))) == "a b c"
    client.close()


def test_client_stream_left_early_is_closed(
    provider: FakeProvider, asker: Make, wait_for: Callable[..., Any]
) -> None:
    made = asker()
    client = SyncProvider(made.endpoint, made.settings)
    ask = Question(question="[[size=100000 delay=0.05]]", params={"model": "m"})
    for _ in client.stream(ChatRequest(question=ask), ChatResponse()):
        break
    wait_for(lambda: provider.stats.get("client_gone"))
    client.close()


def test_client_stream_can_be_closed_by_another_thread(asker: Make) -> None:
    made = asker()
    client = SyncProvider(made.endpoint, made.settings)
    stream = client.stream(
        ChatRequest(question=Question(question="q [[delay=0.05]]", params={"model": "m"})),
        ChatResponse(),
    )
    assert next(stream)
    assert isinstance(stream, GeneratorType)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(stream.close).result(10)
    client.close()


def test_client_idle_connection_closed_is_replaced(provider: FakeProvider, asker: Make) -> None:
    made = asker(retries=1)
    client = SyncProvider(made.endpoint, made.settings)
    provider.default = Faked(close=True)
    for number in range(3):
        ask = Question(question=str(number), params={"model": "m"})
        assert list(client.stream(ChatRequest(question=ask), ChatResponse()))
        time.sleep(0.05)
    client.close()


@pytest.mark.parametrize("usage", ["1e400", "9" * 400, "-1", "true", '"3"', "null", "[]", "3.0"])
def test_client_token_counts_of_any_type_are_accepted(asker: Make, usage: str) -> None:
    body = (
        '{"id": "i", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index":'
        ' 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],'
        f' "usage": {{"prompt_tokens": {usage}, "completion_tokens": {usage}}}}}'
    )

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        connection.sendall(f"{head}\r\nconnection: close\r\n\r\n{body}".encode())

    with raw_server(answer) as base_url:
        ask = asker(base_url=base_url)
        assert ask(whole=True) == ["Hello"]
    assert ask.reply.usage == (Usage(3, 3) if "3" in usage else None)


@pytest.mark.parametrize("official", [True, False])
def test_build_body_at_openai_uses_max_completion_tokens(*, official: bool) -> None:
    ask = Question(question="q", params={"model": "m", "max_tokens": 5, "temperature": 0.5})
    arguments = ChatCompletions().build_body(ChatRequest(question=ask), official=official)
    name, other = "max_tokens", "max_completion_tokens"
    if official:
        name, other = other, name
    assert arguments[name] == 5
    assert other not in arguments
    assert arguments["temperature"] == 0.5
    assert ask.params["max_tokens"] == 5


def test_openai_base_url_is_the_public_address() -> None:
    assert OPENAI_BASE_URL == "https://api.openai.com/v1"


def test_client_to_other_endpoints_sends_max_tokens(provider: FakeProvider, asker: Make) -> None:
    made = asker()
    client = SyncProvider(made.endpoint, made.settings)
    ask = Question(question="q", params={"model": "m", "max_tokens": 5})
    assert list(client.stream(ChatRequest(question=ask), ChatResponse()))
    client.close()
    assert provider.requests[0].body["max_tokens"] == 5


@ways
def test_client_in_fifty_threads_answers_all(
    provider: FakeProvider, asker: Make, *, whole: bool
) -> None:
    made = asker()
    client = SyncProvider(made.endpoint, made.settings)
    provider.default = Faked(latency=0.3, delay=0.01)
    go = threading.Barrier(50)

    def one(number: int) -> tuple[str, str | None]:
        reply = ChatResponse()
        go.wait()
        ask = Question(question=f"number {number}", params={"model": f"m{number}"})
        text = "".join(texts_of(client.stream(ChatRequest(question=ask, stream=not whole), reply)))
        return text, reply.model

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(one, range(50)))
    client.close()
    assert found == [(f"Answer to: number {n}", f"m{n}-2026-01-01") for n in range(50)]
    assert provider.max_concurrent == 50


def test_client_in_threads_raises_only_in_the_failed_one(asker: Make) -> None:
    made = asker(timeout=1)
    client = SyncProvider(made.endpoint, made.settings)

    def one(number: int) -> str:
        fault = ("", "[[hang]]", "[[stall=1]]", "[[dribble=0.05]]", "[[status=500]]")[number % 5]
        ask = Question(question=f"{number} {fault}", params={"model": "m"})
        try:
            return "".join(texts_of(client.stream(ChatRequest(question=ask), ChatResponse())))
        except ProviderError as error:
            return type(error).__name__

    with ThreadPoolExecutor(25) as pool:
        found = list(pool.map(one, range(25)))
    client.close()
    for number, what in enumerate(found):
        timeout, failed = "ProviderTimeout", "ProviderUnavailable"
        assert what == (f"Answer to: {number} ", timeout, timeout, timeout, failed)[number % 5]
