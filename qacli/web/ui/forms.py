"""Parse the forms of the page into the request of `POST /ask`."""

import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from pydantic import BaseModel, field_validator
from werkzeug.datastructures import FileStorage

from qacli.attachments import MAX_IMAGE_BYTES, Attachment, make_attachment
from qacli.config.upstreams import OWN
from qacli.errors import InvalidRequest
from qacli.web.api.schemas import AskRequest, Id
from qacli.web.state import DEFAULT_MODEL_ALIAS

MAX_FILES = 10
MAX_NAME_CHARACTERS = 200


class LinksForm(BaseModel):
    """The fields with the ids of other records."""

    follows_id: Id | None = None
    repeats_id: Id | None = None


class SignInForm(BaseModel):
    """The fields of the sign-in page, from its form or its query string."""

    token: str = ""
    next: str = "/"

    @field_validator("token")
    @classmethod
    def _strip(cls, token: str) -> str:
        return token.strip()

    @field_validator("next")
    @classmethod
    def _local_address(cls, address: str) -> str:
        """Return the address if it is on this server, else the address of the home page."""
        try:
            parts = urlsplit(address)
        except ValueError:
            return "/"
        is_elsewhere = parts.scheme or parts.netloc or address.startswith("//")
        # A browser reads a backslash as a slash and drops tabs and line ends.
        is_path = address.startswith("/") and address.isprintable() and "\\" not in address
        return address if is_path and not is_elsewhere else "/"


def parse_ask_form(form: Mapping[str, str], profiles: Collection[str] = ()) -> AskRequest:
    """Return the request for a form; empty fields are left out.

    Args:
        form: The fields.
        profiles: The profiles that a form may choose: the upstreams of the server.

    Raises:
        InvalidRequest: The question is empty, or the profile is not one of these.
        ValidationError: A field is invalid.
    """
    options = {name: form.get(name, "").strip() for name in ("model", "system", "reasoning_effort")}
    options["model"] = _full_model(options["model"], form.get("profile", ""), profiles)
    # A browser sends a line break as two characters.
    question = form.get("question", "").replace("\r\n", "\n")
    if not question.strip():
        raise InvalidRequest("The question is empty.", "Write a question.")
    links = parse_links(form)
    return AskRequest.model_validate(
        {
            "question": question,
            "tags": parse_tags(form.get("tags", "")),
            "follows_id": links.follows_id,
            **{
                name: value.replace("\r\n", "\n")
                for name, value in options.items()
                # Emptied in the form of an earlier question, the field removes its system prompt.
                if value or (name == "system" and name in form and links.repeats_id is not None)
            },
        }
    )


def _full_model(model: str, profile: str, profiles: Collection[str]) -> str:
    """Return a model with its profile before it, as `POST /ask` takes it.

    A name that has a profile is taken as it is.
    """
    if profile and profile not in profiles:
        raise InvalidRequest(
            f"This server does not use the profile {profile!r}.",
            f"Choose one of these: {', '.join(profiles)}." if profiles else "Leave it out.",
        )
    if profile == OWN:
        return model or DEFAULT_MODEL_ALIAS
    if not profile or ("/" in model and model.partition("/")[0] in profiles):
        return model
    return f"{profile}/{model}" if model else profile


def parse_links(form: Mapping[str, str]) -> LinksForm:
    """Return the records that a form's question follows up and repeats.

    Raises:
        ValidationError: A text is not an id.
    """
    names = LinksForm.model_fields
    return LinksForm.model_validate({name: form.get(name, "").strip() or None for name in names})


def parse_files(files: Iterable[FileStorage]) -> list[Attachment]:
    """Return the files of a form; without a choice, a browser sends one without a name.

    Raises:
        InvalidRequest: There are too many, or one is too large or of another type.
    """
    chosen = [file for file in files if file.filename]
    if len(chosen) > MAX_FILES:
        raise InvalidRequest(
            f"A question can have {MAX_FILES} files; these are {len(chosen)}.", "Leave some out."
        )
    return [
        make_attachment(_file_name(file.filename or ""), file.stream.read(MAX_IMAGE_BYTES + 1))
        for file in chosen
    ]


def _file_name(path: str) -> str:
    """Return the end of a file's name, without the directories that some clients send."""
    return re.split(r"[/\\]", path)[-1][-MAX_NAME_CHARACTERS:] or "file"


def parse_tags(text: str) -> list[str]:
    """Return the tags in a field, which are separated by commas; each once."""
    return [tag for tag in dict.fromkeys(part.strip() for part in text.split(",")) if tag]
