"""The error for a part of a request that the other API does not have."""

from typing import Any

from qacli.errors import InvalidRequest

UNSUPPORTED_PARAMETER = "unsupported_parameter"
UNSUPPORTED_VALUE = "unsupported_value"
NO_SUCH_RESPONSE = "previous_response_not_found"


class Untranslatable(InvalidRequest):
    """A request has a part that the API of its provider does not have.

    Args:
        param: The place in the request, such as `tools[0].type`.
        what: One sentence: what happened.
        todo: One sentence: what the client can do.
        code: The code of OpenAI's API.
    """

    def __init__(self, param: str, what: str, todo: str, code: str = UNSUPPORTED_PARAMETER) -> None:
        super().__init__(what, todo)
        self.param = param
        self.code = code

    def to_dict(self) -> dict[str, Any]:
        """Return the error in the form of OpenAI's API."""
        error = {"message": str(self), "type": "invalid_request_error"}
        return {"error": {**error, "param": self.param, "code": self.code}}


def no_such_response(response_id: object) -> Untranslatable:
    """Return the error for the id of an earlier response that is not known, as OpenAI has it."""
    return Untranslatable(
        "previous_response_id",
        f"Previous response with id '{response_id}' not found.",
        "Send the whole conversation as input.",
        NO_SUCH_RESPONSE,
    )
