"""A request that can be read in one way only.

A request names each object once: in the query or in the body, as ``run_id`` or ``run_uuid``, as ``run_id`` or
``runId``. Two names are accepted where they agree, as MLflow's own client sends them. Anything else is refused, so
that a check and what follows it are about the same object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Request

from oidc_gate_mlflow.errors import invalid

# Two names of the same thing. MLflow's clients send both, with the same value.
ALIASES = {"run_uuid": "run_id", "request_id": "trace_id"}
# These read the request's stream themselves, and it may be gigabytes.
STREAMS = ("/mlflow-artifacts/artifacts/", "/mlflow/upload-artifact")
MAX_DEPTH = 64

_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")


def canonical(name: str) -> str:
    """The one name of a field: protobuf accepts ``run_id`` and ``runId`` for it."""
    return _CAMEL.sub(r"_\1", name).lower()


def read(request: Request, rule: str) -> dict[str, Any] | None:
    """The JSON object of the body, or None if there is no body.

    Everything that reads the body later gets this very object, so a change in it takes effect. Raises ``Refusal``.
    """
    if any(stream in rule for stream in STREAMS):
        return None
    try:
        body = request.get_json(force=True, silent=True)
        if isinstance(body, str):
            # Old clients encode their JSON twice.
            body = json.loads(body)
    except (ValueError, RecursionError):
        body = None
    if body is None:
        if request.get_data(cache=True).strip() not in (b"", b"null"):
            raise invalid("The body is not a JSON object.", "body_not_json")
        return None
    if not isinstance(body, dict):
        raise invalid("The body is not a JSON object.", "body_not_json")
    # One entry for silent=False and one for silent=True.
    request._cached_json = (body, body)
    return body


def refuse_ambiguous(request: Request, body: Mapping[str, Any] | None, fields: Any | None) -> None:
    """``fields`` is the protobuf descriptor of the request, where there is one. Raises ``Refusal``."""
    if body is not None and request.method in ("GET", "HEAD"):
        raise invalid("A GET request has no body.", "body_of_get")
    _refuse_two_spellings(body, fields)
    said: dict[str, str] = {}
    for name, value in (request.view_args or {}).items():
        _say(said, name, value)
    for name, values in request.args.lists():
        for value in values[:1] if _repeated(fields, name) else values:
            _say(said, name, value)
    for name, value in (body or {}).items():
        if value is None or isinstance(value, str | int | float):
            _say(said, name, value)


def _say(said: dict[str, str], name: str, value: object) -> None:
    name = canonical(name)
    name = ALIASES.get(name, name)
    text = "" if value is None else str(value)
    if said.setdefault(name, text) != text:
        raise invalid(f"The request has two values for '{name}'.", "two_values")


def _repeated(fields: Any | None, name: str) -> bool:
    """Without a descriptor nothing is known about the parameter, and a few of MLflow's routes take lists."""
    if fields is None:
        return True
    field = fields.fields_by_name.get(name)
    return field is not None and is_repeated(field)


def is_repeated(field: Any) -> bool:
    """Whether a protobuf field is a list or a map. Old versions of protobuf have no ``is_repeated``."""
    known = getattr(field, "is_repeated", None)
    return bool(known) if known is not None else field.label == field.LABEL_REPEATED


def _refuse_two_spellings(value: object, fields: Any | None, depth: int = 0) -> None:
    """Goes down only where the descriptor says that the keys are fields. Elsewhere they are the client's own words."""
    if not isinstance(value, Mapping) or depth > MAX_DEPTH:
        return
    seen: set[str] = set()
    for name in value:
        if canonical(name) in seen:
            raise invalid(f"The request has two spellings of '{canonical(name)}'.", "two_spellings")
        seen.add(canonical(name))
    for field, _, inner in messages(value, fields):
        for item in inner:
            _refuse_two_spellings(item, field.message_type, depth + 1)


def messages(value: Mapping[str, Any], fields: Any | None) -> Iterable[tuple[Any, str, list[Any]]]:
    """The parts of a JSON object that are protobuf messages: descriptor, key in the object, the messages."""
    if fields is None:
        return
    for field in fields.fields:
        if field.message_type is None or is_map(field) or field.message_type.full_name.startswith("google.protobuf."):
            continue
        for key in {field.name, field.json_name} & value.keys():
            inner = value[key]
            yield field, key, inner if isinstance(inner, list) else [inner]


def is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
