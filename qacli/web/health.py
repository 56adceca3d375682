"""`/is_up` and `/is_ready`."""

from flask import Blueprint

from qacli.web import service
from qacli.web.openapi import JSON, Answer, described
from qacli.web.replies import Well

blueprint = Blueprint("health", __name__)


@blueprint.get("/is_up")
@described({200: Answer("It lives.", {JSON: Well})}, is_open=True)
def is_up() -> dict[str, object]:
    """The process lives. Touches nothing else."""
    return {"status": 200, "message": "yes"}


@blueprint.get("/is_ready")
@described({200: Answer("It can keep what is asked.", {JSON: Well})}, errors=(503,), is_open=True)
def is_ready() -> dict[str, object]:
    """The database answers and its schema is current; else 503 that says which."""
    service.current().all_records.check()
    return {"status": 200, "message": "yes"}
