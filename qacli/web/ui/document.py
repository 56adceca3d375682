"""Write records as one HTML file that looks like the page and needs no other file."""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from itertools import chain
from typing import Any

from flask import Flask
from markupsafe import Markup

from qacli.domain import Status
from qacli.web.ui.history_list import shorten
from qacli.web.ui.views import STATIC_FOLDER, blueprint

MAX_TITLE_CHARACTERS = 80
END = "</main>\n</body>\n</html>"


def html_document(documents: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the parts of a file with these records, each to be followed by a line end.

    The style is in the file, images are data URLs, and text of a record is never an element. A
    policy (Content Security Policy Level 3, section 3.3: the meta element) refuses scripts and
    everything from elsewhere in any case.

    Args:
        documents: The records as dicts, see `qacli.serializers.record_to_dict`.
    """
    app = Flask(__name__)
    app.register_blueprint(blueprint)
    style = (STATIC_FOLDER / "page.css").read_text(encoding="utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    records = iter(documents)
    first = next(records, None)
    with app.app_context():
        template: Any = app.jinja_env.get_template("document.html").module
        yield template.beginning(
            title=_title(first) if first else "No records",
            style=Markup(style),  # noqa: S704 - a file of qa
            policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'",
        ).strip()
        article: Any = getattr(app.jinja_env.get_template("record.html").module, "article")  # noqa: B009 - the name of a macro
        for document in chain([first] if first else [], records):
            record = {**document, "created_at": datetime.fromisoformat(document["created_at"])}
            yield article(record, Status, in_file=True).strip()
    yield END


def _title(document: dict[str, Any]) -> str:
    return document["title"] or shorten(document["question"], MAX_TITLE_CHARACTERS)
