"""MLflow's routes as this package needs them: the message of each, the ids of its object, and which are closed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from flask import Request
from mlflow.server import handlers

# Accounts are the provider's. A password here would be a second way in, past every sign-out.
LOCAL_ACCOUNTS = frozenset({"users/create", "users/create-ui", "users/update-password", "users/update-admin", "signup"})
OBJECT_FIELDS = (
    "experiment_id",
    "experiment_name",
    "run_id",
    "run_uuid",
    "model_id",
    "trace_id",
    "request_id",
    "dataset_id",
    "issue_id",
    "job_id",
    "webhook_id",
    "workspace_name",
    "queue_id",
    "role_id",
    "username",
    "name",
    "version",
    "path",
    "artifact_path",
    "key",
)

_API = re.compile(r"/(?:ajax-)?api/\d+\.\d+/?mlflow/(.+)")


def static_prefix() -> str:
    """The value of ``--static-prefix``, without a slash at the end."""
    return os.environ.get(handlers.STATIC_PREFIX_ENV_VAR, "").rstrip("/")


def unprefixed(path: str) -> str:
    prefix = static_prefix()
    return path[len(prefix) :] if prefix and path.startswith(prefix) else path


def operation(rule: str) -> str:
    """``runs/create`` for every address of it; other routes by their path without the first slash."""
    match = _API.fullmatch(unprefixed(rule))
    return match[1] if match else unprefixed(rule).lstrip("/")


def descriptors() -> dict[tuple[str, str], Any]:
    """The protobuf message of each route and method, from the table that MLflow registers its routes with."""
    found: dict[tuple[str, str], Any] = {}
    for path, message, methods in handlers.get_endpoints(lambda message: message):
        descriptor = getattr(message, "DESCRIPTOR", None)
        if descriptor is not None:
            found.update({(path, method): descriptor for method in methods})
    return found


def object_of(request: Request, body: Mapping[str, Any] | None) -> str:
    """The ids in a request, for the audit line."""
    said: dict[str, str] = {}
    for source in (request.view_args or {}, request.args, body or {}):
        for name in OBJECT_FIELDS:
            value = source.get(name)
            if isinstance(value, str | int) and name not in said:
                said[name] = str(value)[:100]
    return " ".join(f"{name}={value}" for name, value in said.items())
