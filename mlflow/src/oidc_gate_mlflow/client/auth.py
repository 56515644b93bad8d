"""A request with the token of its server, for everything that sends requests with ``requests``."""

from __future__ import annotations

import os
import threading
from typing import Any

import requests
from requests.auth import AuthBase

from oidc_gate_mlflow.client.config import Config, origin
from oidc_gate_mlflow.client.tokens import Tokens

REPEATED = "_oidc_gate_repeated"

_tokens: dict[tuple[str, Config], Tokens] = {}
_lock = threading.Lock()


def tokens_for(url: str) -> Tokens:
    """The tokens for the server of ``url``, and for no other. A notebook may change its environment at any time."""
    server, config = origin(url), Config.from_environment()
    with _lock:
        if (server, config) not in _tokens:
            _tokens[server, config] = Tokens(config, server)
        return _tokens[server, config]


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for tokens in _tokens.values():
        tokens.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class OidcGateAuth(AuthBase):
    """Adds the token to a request, and repeats it once with a new token if the server refuses the first."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = request.url or ""
        tokens = tokens_for(url)
        token = tokens.get()
        request.headers["Authorization"] = f"Bearer {token}"
        start = _position(request.body)

        def renew(response: requests.Response, **more: Any) -> requests.Response:
            if response.status_code != 401 or getattr(response.request, REPEATED, False):
                return response
            # After a redirect this is another request, perhaps to another host.
            if origin(response.request.url or "") != origin(url) or not _rewind(response.request, start):
                return response
            fresh = tokens.get(refused=token)
            # The connection is given back only when the answer has been read.
            _ = response.content
            response.close()
            again = response.request.copy()
            setattr(again, REPEATED, True)
            again.headers["Authorization"] = f"Bearer {fresh}"
            repeated: requests.Response = response.connection.send(again, **more)
            repeated.history.append(response)
            repeated.request = again
            return repeated

        request.register_hook("response", renew)  # type: ignore[no-untyped-call]
        return request


def session() -> requests.Session:
    """For exporters of OpenTelemetry: ``OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER=oidc-gate``."""
    made = requests.Session()
    made.auth = OidcGateAuth()
    return made


def _position(body: object) -> int | None:
    """Where a body that is a file begins. None for a body that can't be read twice."""
    if body is None or isinstance(body, bytes | str):
        return 0
    try:
        return int(body.tell())  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None


def _rewind(request: requests.PreparedRequest, start: int | None) -> bool:
    if start is None:
        return False
    if request.body is not None and not isinstance(request.body, bytes | str):
        try:
            request.body.seek(start)
        except (AttributeError, OSError):
            return False
    return True
