"""Health checks: `/is_up` and `/is_ready`."""

from flask import Blueprint

from qacli.web import state
from qacli.web.api.responses import HealthResponse
from qacli.web.openapi import JSON, ResponseSpec, openapi_operation
from qacli.web.route_policy import Access, policy

blueprint = Blueprint("health", __name__)


@blueprint.get("/is_up")
@openapi_operation({200: ResponseSpec("The process runs.", {JSON: HealthResponse})})
@policy(Access.PUBLIC)
def is_up() -> dict[str, object]:
    """Check that the process runs. Nothing else is checked."""
    return {"status": 200, "message": "yes"}


@blueprint.get("/is_ready")
@openapi_operation(
    {200: ResponseSpec("The server can store records.", {JSON: HealthResponse})},
    errors=(503,),
)
@policy(Access.PUBLIC)
def is_ready() -> dict[str, object]:
    """Check that the database answers and its schema is current; otherwise 503 with the reason."""
    state.get_state().all_records.check()
    return {"status": 200, "message": "yes"}
