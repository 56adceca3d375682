"""`/is_up` and `/is_ready`."""

from flask import Blueprint

from qacli.web import service

blueprint = Blueprint("health", __name__)


@blueprint.get("/is_up")
def is_up() -> dict[str, object]:
    """The process lives. Touches nothing else."""
    return {"status": 200, "message": "yes"}


@blueprint.get("/is_ready")
def is_ready() -> dict[str, object]:
    """The database answers and its schema is current; else 503 that says which."""
    service.current().store.check()
    return {"status": 200, "message": "yes"}
