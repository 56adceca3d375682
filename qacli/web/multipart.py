"""Read and change the text fields of a `multipart/form-data` body (RFC 7578), byte for byte.

A parser of forms would write its own headers and boundary; the provider gets those of the client.
"""

from collections.abc import Callable

from werkzeug.http import parse_options_header

MIME_TYPE = "multipart/form-data"


def text_fields(data: bytes, content_type: str) -> dict[str, str]:
    """Return the fields that are no files, by name; of several with one name the first.

    Args:
        data: The body.
        content_type: Its Content-Type; a body of another type has no fields.
    """
    fields: dict[str, str] = {}

    def note(name: str, value: bytes) -> bytes:
        fields.setdefault(name, value.decode("utf-8", "replace"))
        return value

    _map_fields(data, content_type, note)
    return fields


def with_field(data: bytes, content_type: str, name: str, value: str) -> bytes:
    """Return the body with another value of a text field; without the field it stays as it is."""
    return _map_fields(
        data, content_type, lambda field, old: value.encode() if field == name else old
    )


def _map_fields(data: bytes, content_type: str, change: Callable[[str, bytes], bytes]) -> bytes:
    """Return the body with the text fields as a function of their name and value returns them."""
    mime_type, options = parse_options_header(content_type)
    boundary = options.get("boundary", "").encode("latin-1", "replace")
    if mime_type != MIME_TYPE or not boundary:
        return data
    # A boundary is at the beginning of a line (RFC 2046, 5.1.1), also at that of the body.
    delimiter = b"\r\n--" + boundary
    first, *parts = (b"\r\n" + data).split(delimiter)
    return delimiter.join([first, *(_map_part(part, change) for part in parts)])[2:]


def _map_part(part: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    head, separator, value = part.partition(b"\r\n\r\n")
    for line in head.decode("utf-8", "replace").split("\r\n"):
        header, _, text = line.partition(":")
        if separator and header.strip().lower() == "content-disposition":
            options = parse_options_header(text)[1]
            if "name" in options and not {"filename", "filename*"} & options.keys():
                return head + separator + change(options["name"], value)
    return part
