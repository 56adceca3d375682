"""JSON for responses by pydantic, in a third of the time of Python's `json` module."""

from typing import Any

from flask.json.provider import DefaultJSONProvider
from flask.wrappers import Response
from pydantic_core import to_json


class PydanticJSONProvider(DefaultJSONProvider):
    """Flask's JSON provider with pydantic's encoder: no spaces, UTF-8, keys in their order."""

    sort_keys = False
    ensure_ascii = False

    def response(self, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401 - Flask's types
        """Return a response with a value as JSON; see `flask.jsonify`."""
        body = to_json(self._prepare_response_obj(args, kwargs)) + b"\n"
        return Response(body, mimetype=self.mimetype)
