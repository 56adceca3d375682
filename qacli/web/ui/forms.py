"""What the page's forms send, made into what `POST /ask` takes."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import BaseModel, field_validator

from qacli.errors import InvalidRequest
from qacli.web.api.schemas import AskRequest, Id


class FollowsForm(BaseModel):
    """The field that names what a question follows up."""

    follows_id: Id | None = None


class SignInForm(BaseModel):
    """The fields of the sign-in page, from its form or its address."""

    token: str = ""
    next: str = "/"

    @field_validator("token")
    @classmethod
    def _stripped(cls, token: str) -> str:
        return token.strip()

    @field_validator("next")
    @classmethod
    def _local(cls, address: str) -> str:
        """The address of a page of this server; of anything else the home page."""
        try:
            parts = urlsplit(address)
        except ValueError:
            return "/"
        elsewhere = parts.scheme or parts.netloc or address.startswith("//")
        # A browser reads a backslash as a slash and drops tabs and line ends.
        usable = address.startswith("/") and address.isprintable() and "\\" not in address
        return address if usable and not elsewhere else "/"


def parse_ask_form(form: Mapping[str, str]) -> AskRequest:
    """The question of a form; an empty field is one that nobody filled in.

    Raises:
        InvalidRequest: There is no question.
        ValidationError: It cannot be asked.
    """
    given = {name: form.get(name, "").strip() for name in ("model", "system")}
    # A browser sends every end of a line as two characters; the person meant one.
    question = form.get("question", "").replace("\r\n", "\n")
    if not question.strip():
        raise InvalidRequest("The question is empty.", "Write one.")
    return AskRequest.model_validate(
        {
            "question": question,
            "tags": parse_tags(form.get("tags", "")),
            # The API takes a number of JSON, a form has only text.
            "follows_id": follows_in(form),
            **{name: value.replace("\r\n", "\n") for name, value in given.items() if value},
        }
    )


def follows_in(form: Mapping[str, str]) -> int | None:
    """The id of the record that a form's question follows up.

    Raises:
        ValidationError: It is no id.
    """
    given = form.get("follows_id", "").strip()
    return FollowsForm.model_validate({"follows_id": given or None}).follows_id


def parse_tags(text: str) -> list[str]:
    """The tags in a field, with commas between; each once."""
    return [tag for tag in dict.fromkeys(part.strip() for part in text.split(",")) if tag]
