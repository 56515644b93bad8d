"""The request as it arrived, for routes that MLflow serves with FastAPI.

For those, MLflow calls the authorization function in a Flask request that it makes up: without the body, without the
client's address, and with only the first of several headers of one name. Two rules need more than that ("exactly one
assertion", "the job token on loopback only"), and MLflow passes no other way to it. So the caller's frame is read. The
start check refuses an MLflow in which this function or its argument has another name.
"""

from __future__ import annotations

import inspect
import ipaddress
import sys
from types import FrameType
from typing import Any

from mlflow.server import auth

CALLER = "_authenticate_custom_for_fastapi"
ARGUMENT = "request"
DEPTH = 8
# What proxies add. MLflow's own jobs, which call the server at its port, send none of these.
OF_PROXIES = ("x-forwarded", "x-envoy-", "x-real-ip", "forwarded", "via")


def supported() -> bool:
    """Whether this MLflow has the caller that ``arrived`` looks for."""
    caller = getattr(auth, CALLER, None)
    return callable(caller) and ARGUMENT in inspect.signature(caller).parameters


def arrived() -> Any | None:
    """Starlette's request, or None in a request that Flask itself serves."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(DEPTH):
        if frame is None:
            return None
        if frame.f_code.co_name == CALLER and frame.f_globals.get("__name__") == auth.__name__:
            return frame.f_locals[ARGUMENT]
        frame = frame.f_back
    return None


def from_loopback(request: Any) -> bool:
    """Whether the peer is this machine, and no proxy stands between: with one, every client would be."""
    if any(name.lower().startswith(OF_PROXIES) for name in request.headers):
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
