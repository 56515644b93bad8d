"""What leaves MLflow: our refusals, and what is done to MLflow's own answers.

``FINISHERS`` run on every answer of a Flask route. What is to be added to MLflow's page is one more of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from flask import Response

from oidc_gate_mlflow.errors import Refusal

MLFLOW_DENIED = b"Permission denied"


def of_refusal(refusal: Refusal) -> Response:
    """In the form that MLflow's client turns into a ``RestException``."""
    response = _json(refusal.status, refusal.error_code, refusal.message)
    if refusal.status == 401:
        # RFC 9110 11.6.1 asks for a challenge. Of this scheme no browser makes a password dialog.
        response.headers["WWW-Authenticate"] = 'Bearer realm="mlflow"'
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def denied_as_json(response: Response) -> Response:
    """MLflow says "Permission denied" as plain text, which its own client can't read as an error."""
    if response.status_code == 403 and not response.is_streamed and response.get_data() == MLFLOW_DENIED:
        return _json(403, "PERMISSION_DENIED", "Permission denied")
    return response


FINISHERS: tuple[Callable[[Response], Response], ...] = (denied_as_json,)


def finish(response: Response) -> Response:
    for finisher in FINISHERS:
        response = finisher(response)
    return response


def _json(status: int, error_code: str, message: str) -> Response:
    response = Response(
        json.dumps({"error_code": error_code, "message": message}), status=status, mimetype="application/json"
    )
    response.headers["Cache-Control"] = "no-store"
    return response
