"""The older APIs of the fake provider: completions of a text, and embeddings."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING
from zlib import crc32

from .wire import Shape, deltas_of

if TYPE_CHECKING:
    from .behaviour import Json, Reply, Request

COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"


def embeddings_of(body: Json) -> Json:
    """Return two numbers for each text; of the model `words`, the number of its words by hash."""
    texts = body.get("input")
    texts = texts if isinstance(texts, list) else [texts]
    number = len(texts)
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _words(text) if body.get("model") == "words" else [0.1, index / 10],
        }
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": number, "total_tokens": number}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


def _words(text: str) -> list[float]:
    vector = [0.0] * 256
    for word in text.lower().split():
        vector[crc32(word.encode()) % 256] += 1
    return vector


def _frame(request: Request, text: str, finish: str | None) -> Json:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    identity = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": 1}
    return {**identity, "model": request.body["model"], "choices": [choice]}


def _whole(request: Request, reply: Reply) -> bytes:
    text = "".join(deltas_of(request, reply))
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return json.dumps({**_frame(request, text, reply.finish_reason), "usage": usage}).encode()


def _events(request: Request, reply: Reply) -> tuple[list[str], int, int]:
    pieces = deltas_of(request, reply)
    frames = [_frame(request, piece, None) for piece in pieces]
    frames.append(_frame(request, "", reply.finish_reason))
    return [*(f"data: {json.dumps(frame)}" for frame in frames), "data: [DONE]"], 0, len(pieces)


SHAPE = Shape(_whole, _events, lambda error: f"data: {json.dumps(error)}")
