"""What a client may not say: who made something.

MLflow takes these from the request as they are. Here they become the caller, in the parsed body, before MLflow reads
it. What an administrator sends is kept, so that an import keeps its owners.

Which fields there are is read from MLflow's own protobuf messages, so text that merely looks like a field stays as the
client wrote it, and a new message with a ``created_by`` is covered without a change here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from oidc_gate_mlflow.body import MAX_DEPTH, canonical, is_map, messages
from oidc_gate_mlflow.errors import denied

OWNER_TAG = "mlflow.user"
# MLflow's client never changes these either. They say where the server itself reads and writes.
LOCATION_TAGS = frozenset(
    {
        "mlflow.artifactlocation",
        "mlflow.trace.spanslocation",
        "mlflow.trace.archivelocation",
        "mlflow.trace.archivalfailure",
    }
)
OWNER_FIELDS = frozenset({"user_id", "created_by", "updated_by", "last_updated_by", "completed_by"})
TAG_FIELDS = frozenset({"tags", "request_metadata", "trace_metadata"})
SOURCE_MESSAGE = "mlflow.assessments.AssessmentSource"
# The sources that are a program. Every other source is a person, and the person is the caller.
PROGRAM_SOURCES = frozenset({"LLM_JUDGE", "CODE"})


class Mode(Enum):
    """What becomes of an owner's tag."""

    CREATE = "becomes the caller"
    CHANGE = "is left out: an editor is not the owner"
    TAG = "is refused, because the request is about nothing else"


PROMPTLAB = "runs/create-promptlab-run"
CHANGES = frozenset({"LogBatch", "EndTrace"})
TAGGERS = frozenset(
    {
        "SetTag",
        "DeleteTag",
        "SetExperimentTag",
        "DeleteExperimentTag",
        "SetTraceTag",
        "DeleteTraceTag",
        "SetTraceTagV3",
        "DeleteTraceTagV3",
        "SetLoggedModelTags",
        "DeleteLoggedModelTag",
        "SetDatasetTags",
        "DeleteDatasetTag",
        "SetRegisteredModelTag",
        "DeleteRegisteredModelTag",
        "SetModelVersionTag",
        "DeleteModelVersionTag",
        "SetGatewayEndpointTag",
        "DeleteGatewayEndpointTag",
    }
)


@dataclass(frozen=True)
class Traces:
    """How a trace that exists is found: its experiment, or None. Only asked when a client sends a trace's id."""

    experiment_of: Callable[[str], str | None]


def fix(
    body: dict[str, Any],
    operation: str,
    fields: Any | None,
    view_args: dict[str, Any],
    caller: str,
    traces: Traces,
) -> None:
    """Changes ``body`` so that it says nothing false about people. Raises ``Refusal``."""
    message = fields.name if fields is not None else ""
    mode = _mode(message)
    if mode is Mode.TAG:
        _refuse_tags(body, view_args)
    if message == "CreateExperiment" and any(body.get(key) for key in ("artifact_location", "artifactLocation")):
        raise denied("Only administrators choose where artifacts are stored.", "artifact_location")
    if message == "StartTraceV3" and _is_there(body, traces):
        mode = Mode.CHANGE
    _walk(body, fields, caller, mode)
    if message == "UpsertDatasetRecords":
        _records(body, caller)
    if message == "CreateRun":
        _sign(body, caller)
    elif operation == PROMPTLAB:
        # It has no message, and MLflow fails on any tag that is sent to it.
        body["user_id"] = caller


def refuse_tag(key: object) -> None:
    """For a tag that is named in the path."""
    if is_reserved(key):
        raise denied("Only administrators change who made something, and where it is stored.", "reserved_tag")


def _mode(message: str) -> Mode:
    if message in TAGGERS:
        return Mode.TAG
    return Mode.CHANGE if message in CHANGES else Mode.CREATE


def _is_owner(key: object) -> bool:
    # Some databases compare keys without regard to case and to spaces at the end.
    return isinstance(key, str) and key.strip().casefold() == OWNER_TAG


def is_reserved(key: object) -> bool:
    """Whether a tag says who made something, or where it is stored."""
    return _is_owner(key) or (isinstance(key, str) and key.strip().casefold() in LOCATION_TAGS)


def _refuse_tags(body: dict[str, Any], view_args: dict[str, Any]) -> None:
    keys: list[object] = [body.get("key"), view_args.get("key"), view_args.get("tag_key"), body.get("tag_key")]
    tags = body.get("tags")
    if isinstance(tags, str):
        tags = _decoded(tags)
    if isinstance(tags, dict):
        keys.extend(tags)
    elif isinstance(tags, list):
        keys.extend(tag.get("key") for tag in tags if isinstance(tag, dict))
    for key in keys:
        refuse_tag(key)


def _walk(value: object, fields: Any | None, caller: str, mode: Mode, depth: int = 0) -> None:
    if not isinstance(value, dict) or depth > MAX_DEPTH:
        return
    if fields is None:
        # A route without a message: only what is certain, at the top.
        for key in [key for key in value if canonical(key) in OWNER_FIELDS]:
            value[key] = caller
        return
    if fields.full_name == SOURCE_MESSAGE:
        _source(value, fields, caller)
        return
    for field in fields.fields:
        for key in {field.name, field.json_name} & value.keys():
            if field.message_type is None and field.name in OWNER_FIELDS:
                value[key] = caller
            elif field.name in TAG_FIELDS:
                value[key] = _tags(value[key], caller, mode, of_map=is_map(field))
    for field, _, inner in messages(value, fields):
        for item in inner:
            _walk(item, field.message_type, caller, mode, depth + 1)


def _tags(tags: object, caller: str, mode: Mode, *, of_map: bool) -> object:
    """Tags are a list of key and value, a map, or (for datasets) a text with JSON in it."""
    if isinstance(tags, str):
        inner = _decoded(tags)
        return json.dumps(_tags(inner, caller, mode, of_map=True)) if isinstance(inner, dict) else tags
    if isinstance(tags, dict) and of_map:
        had = any(_is_owner(key) for key in tags)
        kept = {key: value for key, value in tags.items() if not is_reserved(key)}
        return {**kept, OWNER_TAG: caller} if had and mode is Mode.CREATE else kept
    if isinstance(tags, list):
        had = any(isinstance(tag, dict) and _is_owner(tag.get("key")) for tag in tags)
        rest = [tag for tag in tags if not (isinstance(tag, dict) and is_reserved(tag.get("key")))]
        return [*rest, {"key": OWNER_TAG, "value": caller}] if had and mode is Mode.CREATE else rest
    return tags


def _source(source: dict[str, Any], fields: Any, caller: str) -> None:
    values = fields.fields_by_name["source_type"].enum_type
    kind = source.get("source_type", source.get("sourceType"))
    # Protobuf takes an enum by its name and by its number, and the number also as a text.
    if isinstance(kind, int) or (isinstance(kind, str) and kind.lstrip("-").isdigit()):
        known = values.values_by_number.get(int(kind))
        kind = known.name if known is not None else None
    if kind in PROGRAM_SOURCES:
        return
    source.pop("sourceId", None)
    source["source_id"] = caller


def _is_there(body: dict[str, Any], traces: Traces) -> bool:
    """Whether a trace with this id exists already. Then the request is a change, and not a creation."""
    info = _part(_part(body, "trace"), "trace_info")
    trace_id = info.get("trace_id", info.get("traceId"))
    if not isinstance(trace_id, str) or not trace_id:
        return False
    experiment = traces.experiment_of(trace_id)
    if experiment is None:
        return False
    place = _part(_part(info, "trace_location"), "mlflow_experiment")
    if str(place.get("experiment_id", place.get("experimentId"))) != experiment:
        raise denied("A trace with this id is in another experiment.", "trace_of_another_experiment")
    return True


def _part(value: dict[str, Any], name: str) -> dict[str, Any]:
    first, *rest = name.split("_")
    part = value.get(name, value.get(first + "".join(word.title() for word in rest)))
    return part if isinstance(part, dict) else {}


def _records(body: dict[str, Any], caller: str) -> None:
    """Records of a dataset are a text with JSON in it, and each has its tags and its source."""
    records = _decoded(body.get("records"))
    if not isinstance(records, list):
        return
    for record in records:
        if not isinstance(record, dict):
            continue
        if isinstance(record.get("tags"), dict):
            record["tags"] = _tags(record["tags"], caller, Mode.CREATE, of_map=True)
        for key in [key for key in record if canonical(key) in OWNER_FIELDS]:
            record[key] = caller
        source = record.get("source")
        if isinstance(source, dict) and source.get("source_type") not in (*PROGRAM_SOURCES, "TRACE", "DOCUMENT"):
            data = source.get("source_data")
            if isinstance(data, dict) and "user_name" in data:
                data["user_name"] = caller
    body["records"] = json.dumps(records)


def _sign(body: dict[str, Any], caller: str) -> None:
    """A run always says who made it, also where the client does not."""
    body.pop("userId", None)
    body["user_id"] = caller
    tags = body.get("tags") or []
    if isinstance(tags, list) and not any(isinstance(tag, dict) and _is_owner(tag.get("key")) for tag in tags):
        body["tags"] = [*tags, {"key": OWNER_TAG, "value": caller}]


def _decoded(text: object) -> object:
    if not isinstance(text, str):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
