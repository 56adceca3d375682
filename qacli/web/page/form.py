"""What the page's forms send, made into what `POST /ask` takes."""

from collections.abc import Mapping

from qacli.errors import InvalidRequest
from qacli.web.schemas import AskBody


def asked(form: Mapping[str, str]) -> AskBody:
    """The question of a form; an empty field is one that nobody filled in.

    Raises:
        InvalidRequest: There is no question.
        ValidationError: It cannot be asked.
    """
    given = {name: form.get(name, "").strip() for name in ("model", "system")}
    follows = form.get("follows_id", "").strip()
    # A browser sends every end of a line as two characters; the person meant one.
    question = form.get("question", "").replace("\r\n", "\n")
    if not question.strip():
        raise InvalidRequest("The question is empty.", "Write one.")
    return AskBody.model_validate(
        {
            "question": question,
            "tags": tags_in(form.get("tags", "")),
            # A form knows no numbers.
            "follows_id": int(follows)
            if follows.isascii() and follows.isdigit()
            else follows or None,
            **{name: value.replace("\r\n", "\n") for name, value in given.items() if value},
        }
    )


def tags_in(text: str) -> list[str]:
    """The tags in a field, with commas between; each once."""
    return [tag for tag in dict.fromkeys(part.strip() for part in text.split(",")) if tag]
