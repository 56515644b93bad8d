"""What leaves MLflow: our refusals, and what is done to MLflow's own answers.

``FINISHERS`` run on every answer of a Flask route, and ``page.with_script`` if it is wanted. Answers of MLflow's
permission check for FastAPI routes are made by ``error_as_json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi.responses import JSONResponse
from flask import Response
from mlflow.server import auth

from oidc_gate_mlflow import page
from oidc_gate_mlflow.errors import Refusal

MLFLOW_DENIED = b"Permission denied"
CHALLENGE = 'Bearer realm="mlflow"'
ERROR_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    503: "TEMPORARILY_UNAVAILABLE",
}


def of_refusal(refusal: Refusal) -> Response:
    """In the form that MLflow's client turns into a ``RestException``."""
    response = _json(refusal.status, refusal.error_code, refusal.message)
    if refusal.status == 401:
        # RFC 9110 11.6.1 asks for a challenge. Of this scheme no browser makes a password dialog.
        response.headers["WWW-Authenticate"] = CHALLENGE
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def denied_as_json(response: Response) -> Response:
    """MLflow says "Permission denied" as plain text, which its own client can't read as an error."""
    if response.status_code == 403 and not response.is_streamed and response.get_data() == MLFLOW_DENIED:
        return _json(403, "PERMISSION_DENIED", "Permission denied")
    return response


def error_as_json(content: Any, status_code: int = 200, headers: Any = None, **more: Any) -> JSONResponse:
    """In place of the plain text with which MLflow refuses a request to a FastAPI route."""
    said = {"error_code": ERROR_CODES.get(int(status_code), "INTERNAL_ERROR"), "message": str(content)}
    kept = {name: value for name, value in dict(headers or {}).items() if name.lower() != "www-authenticate"}
    if status_code == 401:
        kept["WWW-Authenticate"] = CHALLENGE
    return JSONResponse(said, status_code=int(status_code), headers=kept, **more)


def install() -> None:
    """MLflow uses the name for nothing but errors."""
    auth.PlainTextResponse = error_as_json


FINISHERS: tuple[Callable[[Response], Response], ...] = (denied_as_json,)


def finish(response: Response, *, page_script: bool) -> Response:
    for finisher in (*FINISHERS, page.with_script) if page_script else FINISHERS:
        response = finisher(response)
    return response


def _json(status: int, error_code: str, message: str) -> Response:
    response = Response(
        json.dumps({"error_code": error_code, "message": message}), status=status, mimetype="application/json"
    )
    response.headers["Cache-Control"] = "no-store"
    return response
