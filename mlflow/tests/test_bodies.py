"""Requests that can be read in two ways, or not at all."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from support import API, Server, admin, bearer

pytestmark = pytest.mark.server

LIAR = "liar"
Json = Any
_numbers = itertools.count()


def unique(word: str) -> str:
    return f"{word} of bodies {next(_numbers)}"


@pytest.fixture(scope="module")
def home(server: Server) -> str:
    """An experiment that the liar owns."""
    return server.experiment(bearer(LIAR), unique("home"))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{API}/runs/set-tag", {"run_id": "RUN", "run_uuid": "OTHER", "key": "a", "value": "b"}),
        ("POST", f"{API}/runs/set-tag", {"run_id": "", "run_uuid": "OTHER", "key": "a", "value": "b"}),
        ("POST", f"{API}/runs/set-tag", {"run_id": "RUN", "runId": "OTHER", "key": "a", "value": "b"}),
        ("POST", f"{API}/runs/set-tag", {"run_id": "RUN", "runId": "RUN", "key": "a", "value": "b"}),
        ("POST", f"{API}/runs/set-tag", {"run_id": "RUN", "runUuid": "OTHER", "key": "a", "value": "b"}),
        ("POST", f"{API}/runs/set-tag?run_id=OTHER", {"run_id": "RUN", "key": "a", "value": "b"}),
        ("POST", f"{API}/runs/delete?run_uuid=RUN", {"run_id": "OTHER"}),
        ("GET", f"{API}/runs/get?run_id=RUN&run_uuid=OTHER", None),
        ("GET", f"{API}/runs/get?run_id=RUN&run_id=OTHER", None),
        ("GET", f"{API}/runs/get?run_id=RUN", {"run_id": "OTHER"}),
        ("PATCH", f"{API}/traces/tr-mine/tags", {"request_id": "tr-other", "key": "a", "value": "b"}),
        ("DELETE", f"{API}/registered-models/delete?name=mine", {"name": "other"}),
        ("POST", f"{API}/runs/log-batch", ["run"]),
        ("POST", f"{API}/runs/log-batch", json.dumps(json.dumps({"run_id": "RUN"}))),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(
    server: Server, home: str, method: str, path: str, body: Json
) -> None:
    ids = {"RUN": server.run(bearer(LIAR), home), "OTHER": server.run(admin(), server.experiment(admin(), unique("o")))}
    text = json.dumps({"path": path, "body": body})
    for word, identifier in ids.items():
        text = text.replace(word, identifier)
    request = json.loads(text)
    more = {} if body is None else {"json": request["body"]}
    answer = server.ask(method, request["path"], bearer(LIAR), **more)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"


def test_the_same_run_by_both_names_is_what_mlflows_client_sends(server: Server, home: str) -> None:
    run_id = server.run(bearer(LIAR), home)
    body = {"run_id": run_id, "run_uuid": run_id, "key": "a", "value": "b"}
    assert server.post(f"{API}/runs/set-tag", bearer(LIAR), json=body).status_code == 200


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{", b"\xff\xfe", b'{"a":'])
def test_a_body_that_is_not_json_is_400(server: Server, text: bytes) -> None:
    headers = {**bearer(LIAR), "Content-Type": "application/json"}
    assert server.post(f"{API}/runs/create", headers, data=text).status_code == 400
