"""The repair of an answer that does not fit its schema: whether and how it is asked for again."""

import json
from collections.abc import Mapping
from typing import Any

from qacli.errors import UnfitAnswer

MAX_REPEATED_CHARS = 8_000
"""The longest schema that the request for another answer repeats."""


def is_repairable(error: BaseException, finish_reason: str | None) -> bool:
    """Return whether the model should be asked once more after this error.

    After a check that took too long, or an answer that was cut off at the token limit, it should
    not: the next answer would have the same problem.
    """
    return isinstance(error, UnfitAnswer) and not error.fatal and finish_reason != "length"


def repair_prompt(error: UnfitAnswer, params: Mapping[str, Any]) -> str:
    """Return the question that asks for another answer after one that does not fit.

    It repeats the schema, unless that is long: some endpoints ignore the one in the request, for
    example Anthropic's for OpenAI clients.

    Args:
        error: The reason why the answer does not fit.
        params: The question's params, with the schema.
    """
    request = f"{error.what} Answer again, with nothing but JSON that fits the schema"
    schema = json.dumps(params["response_format"]["json_schema"]["schema"], ensure_ascii=False)
    return f"{request}." if len(schema) > MAX_REPEATED_CHARS else f"{request}:\n\n{schema}"
