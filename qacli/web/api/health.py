"""`/is_up` and `/is_ready`."""

from flask import Blueprint

from qacli.web import state
from qacli.web.api.responses import HealthResponse
from qacli.web.openapi import JSON, ResponseSpec, describe
from qacli.web.policy import Access, policy

blueprint = Blueprint("health", __name__)


@blueprint.get("/is_up")
@describe({200: ResponseSpec("It lives.", {JSON: HealthResponse})})
@policy(Access.PUBLIC)
def is_up() -> dict[str, object]:
    """The process lives. Touches nothing else."""
    return {"status": 200, "message": "yes"}


@blueprint.get("/is_ready")
@describe(
    {200: ResponseSpec("It can keep what is asked.", {JSON: HealthResponse})},
    errors=(503,),
)
@policy(Access.PUBLIC)
def is_ready() -> dict[str, object]:
    """The database answers and its schema is current; else 503 that says which."""
    state.get_state().all_records.check()
    return {"status": 200, "message": "yes"}
