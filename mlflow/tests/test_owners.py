"""What clients may not say: each place, in each spelling, asked of a real MLflow."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from support import API, API3, Server, admin, bearer

pytestmark = pytest.mark.server

LIAR = "liar"
FORGED = "the-ceo"
TAG = {"key": "mlflow.user", "value": FORGED}
_numbers = itertools.count()

Json = Any


def unique(word: str) -> str:
    return f"{word}-{next(_numbers)}"


def camel(value: Json) -> Json:
    """Every field in its other spelling. Keys with a dot are the client's words."""
    if isinstance(value, dict):
        return {re.sub(r"_(\w)", lambda match: match[1].upper(), key): camel(inner) for key, inner in value.items()}
    return [camel(inner) for inner in value] if isinstance(value, list) else value


def same(value: Json) -> Json:
    return value


SPELLINGS: dict[str, tuple[str, Callable[[str], str], Callable[[Json], Json]]] = {
    "api": ("/api", same, same),
    "ajax-api": ("/ajax-api", same, same),
    "double slash": ("//api", same, same),
    "double slash inside": ("/api", lambda path: path.replace("/mlflow/", "/mlflow//"), same),
    "encoded slash": ("/api", lambda path: re.sub(r"/(?=[^/]*$)", "%2F", path), same),
    "encoded letter": ("/api", lambda path: path.replace("/mlflow/", "/%6dlflow/"), same),
    "camel case": ("/api", same, camel),
    "encoded twice": ("/api", same, json.dumps),
}
# These two are what MLflow's clients and its page send, so they have to work.
REAL = ("api", "ajax-api")


@dataclass
class Client:
    """Sends as one user, in one spelling."""

    server: Server
    spelling: str
    name: str = LIAR
    headers: dict[str, str] | None = None

    def send(self, method: str, path: str, body: Json) -> requests.Response:
        prefix, change_path, change_body = SPELLINGS[self.spelling]
        return self.server.ask(
            method, prefix + change_path(path), self.headers or bearer(self.name), json=change_body(body)
        )


@pytest.fixture(scope="module")
def home(server: Server) -> str:
    """An experiment that the liar owns."""
    return server.experiment(bearer(LIAR), unique("home"))


def get(server: Server, path: str, **query: str) -> Json:
    answer = server.get(path, admin(), params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tag_of(tags: Json) -> list[str]:
    if isinstance(tags, dict):
        return [value for key, value in tags.items() if key == "mlflow.user"]
    return [tag["value"] for tag in tags or [] if tag["key"] == "mlflow.user"]


def run(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    body = {"experiment_id": home, "user_id": FORGED, "tags": [TAG]}

    def owners(answer: Json) -> list[str]:
        found = get(client.server, f"{API}/runs/get", run_id=answer["run"]["info"]["run_id"])["run"]
        return [found["info"]["user_id"], *tag_of(found["data"]["tags"])]

    return client.send("POST", "/2.0/mlflow/runs/create", body), owners


def experiment(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    def owners(answer: Json) -> list[str]:
        found = get(client.server, f"{API}/experiments/get", experiment_id=answer["experiment_id"])
        return tag_of(found["experiment"]["tags"])

    return client.send("POST", "/2.0/mlflow/experiments/create", {"name": unique("e"), "tags": [TAG]}), owners


def logged_model(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    def owners(answer: Json) -> list[str]:
        found = get(client.server, f"{API}/logged-models/{answer['model']['info']['model_id']}")
        return tag_of(found["model"]["info"]["tags"])

    body = {"experiment_id": home, "name": unique("m"), "tags": [TAG]}
    return client.send("POST", "/2.0/mlflow/logged-models", body), owners


def trace_body(home: str, trace_id: str, **more: Json) -> Json:
    return {
        "trace": {
            "trace_info": {
                "trace_id": trace_id,
                "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": home}},
                "request_time": "2026-01-01T00:00:00Z",
                "state": "OK",
                **more,
            }
        }
    }


def trace_info(server: Server, trace_id: str) -> Json:
    return get(server, f"{API3}/traces/{trace_id}")["trace"]["trace_info"]


def trace(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    trace_id = unique("tr-owner")
    human = {"source_type": "HUMAN", "source_id": FORGED}
    body = trace_body(
        home,
        trace_id,
        trace_metadata={"mlflow.user": FORGED, "mlflow.trace.user": "customer"},
        tags={"mlflow.user": FORGED},
        assessments=[{"assessment_name": "a", "source": human, "feedback": {"value": True}}],
    )

    def owners(answer: Json) -> list[str]:
        found = trace_info(client.server, trace_id)
        assert found["trace_metadata"].get("mlflow.trace.user") in ("customer", None)
        sources = [assessment["source"]["source_id"] for assessment in found["assessments"]]
        return [*tag_of(found["trace_metadata"]), *tag_of(found["tags"]), *sources]

    return client.send("POST", "/3.0/mlflow/traces", body), owners


def old_trace(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    body = {"experiment_id": home, "timestamp_ms": 1, "request_metadata": [TAG], "tags": [TAG]}

    def owners(answer: Json) -> list[str]:
        found = trace_info(client.server, answer["trace_info"]["request_id"])
        return [*tag_of(found["trace_metadata"]), *tag_of(found["tags"])]

    return client.send("POST", "/2.0/mlflow/traces", body), owners


def dataset(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    body = {
        "name": unique("d"),
        "experiment_ids": [home],
        "created_by": FORGED,
        "tags": json.dumps({"mlflow.user": FORGED, "colour": "red"}),
    }

    def owners(answer: Json) -> list[str]:
        found = get(client.server, f"{API3}/datasets/{answer['dataset']['dataset_id']}")["dataset"]
        assert json.loads(found["tags"])["colour"] == "red"
        return [found["created_by"], *tag_of(json.loads(found["tags"]))]

    return client.send("POST", "/3.0/mlflow/datasets/create", body), owners


def dataset_records(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    made = client.server.post(
        f"{API3}/datasets/create", bearer(LIAR), json={"name": unique("d"), "experiment_ids": [home]}
    ).json()["dataset"]["dataset_id"]
    records = [{"inputs": {"user_id": "kept"}, "tags": {"mlflow.user": FORGED}}]
    body = {"dataset_id": made, "records": json.dumps(records), "updated_by": FORGED}

    def owners(answer: Json) -> list[str]:
        found = json.loads(get(client.server, f"{API3}/datasets/{made}/records")["records"])[0]
        assert found["inputs"] == {"user_id": "kept"}
        return [found["created_by"], found["last_updated_by"], *tag_of(found["tags"])]

    return client.send("POST", f"/3.0/mlflow/datasets/{made}/records", body), owners


def issue(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    body = {"experiment_id": home, "name": "n", "description": "d", "created_by": FORGED}

    def owners(answer: Json) -> list[str]:
        return [get(client.server, f"{API3}/issues/{answer['issue']['issue_id']}")["issue"]["created_by"]]

    return client.send("POST", "/3.0/mlflow/issues", body), owners


def registered_model(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    def owners(answer: Json) -> list[str]:
        name = answer["registered_model"]["name"]
        return tag_of(get(client.server, f"{API}/registered-models/get", name=name)["registered_model"]["tags"])

    return client.send("POST", "/2.0/mlflow/registered-models/create", {"name": unique("m"), "tags": [TAG]}), owners


def assessment(client: Client, home: str) -> tuple[requests.Response, Callable[[Json], list[str]]]:
    trace_id = unique("tr-assessed")
    client.server.post(f"{API3}/traces", bearer(LIAR), json=trace_body(home, trace_id))
    body = {
        "assessment": {
            "assessment_name": "good",
            "trace_id": trace_id,
            "source": {"source_type": "HUMAN", "source_id": FORGED},
            "feedback": {"value": True},
        }
    }

    def owners(answer: Json) -> list[str]:
        return [found["source"]["source_id"] for found in trace_info(client.server, trace_id)["assessments"]]

    return client.send("POST", f"/3.0/mlflow/traces/{trace_id}/assessments", body), owners


PLACES = {
    place.__name__: place
    for place in (
        run,
        experiment,
        logged_model,
        trace,
        old_trace,
        dataset,
        dataset_records,
        issue,
        registered_model,
        assessment,
    )
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", PLACES)
def test_the_owner_is_the_caller(server: Server, home: str, place: str, spelling: str) -> None:
    answer, owners = PLACES[place](Client(server, spelling), home)
    assert answer.status_code == 200 or spelling not in REAL, answer.text
    assert answer.status_code < 500, answer.text
    if answer.status_code == 200:
        assert set(owners(answer.json())) == {LIAR}


@pytest.mark.parametrize("place", PLACES)
def test_what_an_administrator_sends_is_kept(server: Server, home: str, place: str) -> None:
    answer, owners = PLACES[place](Client(server, "api", headers=admin("importer")), home)
    assert answer.status_code == 200, answer.text
    assert set(owners(answer.json())) == {FORGED}


@pytest.mark.parametrize("source_type", ["HUMAN", "human", 1, "1", "SOURCE_TYPE_UNSPECIFIED", 0, None])
def test_a_human_source_in_any_spelling_is_the_caller(server: Server, home: str, source_type: Json) -> None:
    trace_id = unique("tr-source")
    source = {"source_type": source_type, "source_id": FORGED}
    info = {"assessments": [{"assessment_name": "a", "source": source, "feedback": {"value": True}}]}
    answer = server.post(f"{API3}/traces", bearer(LIAR), json=trace_body(home, trace_id, **info))
    assert answer.status_code < 500, answer.text
    if answer.status_code == 200:
        assert FORGED not in json.dumps(trace_info(server, trace_id))


@pytest.mark.parametrize("source_type", ["LLM_JUDGE", "CODE"])
def test_a_program_keeps_its_name(server: Server, home: str, source_type: str) -> None:
    trace_id = unique("tr-program")
    source = {"source_type": source_type, "source_id": "judge-7"}
    info = {"assessments": [{"assessment_name": "a", "source": source, "feedback": {"value": True}}]}
    assert server.post(f"{API3}/traces", bearer(LIAR), json=trace_body(home, trace_id, **info)).status_code == 200
    assert trace_info(server, trace_id)["assessments"][0]["source"]["source_id"] == "judge-7"


def tag_changes(server: Server, home: str) -> dict[str, tuple[str, str, Json]]:
    """Requests that are about nothing but the owner's tag: method, path, body."""
    run_id = server.run(bearer(LIAR), home)
    model = server.post(f"{API}/logged-models", bearer(LIAR), json={"experiment_id": home, "name": unique("m")}).json()[
        "model"
    ]["info"]["model_id"]
    trace_id = unique("tr-tags")
    server.post(f"{API3}/traces", bearer(LIAR), json=trace_body(home, trace_id))
    made = server.post(
        f"{API3}/datasets/create", bearer(LIAR), json={"name": unique("d"), "experiment_ids": [home]}
    ).json()["dataset"]["dataset_id"]
    name = unique("registered")
    server.post(f"{API}/registered-models/create", bearer(LIAR), json={"name": name})
    return {
        "run": ("POST", "/2.0/mlflow/runs/set-tag", {"run_id": run_id, **TAG}),
        "run, by its old name": ("POST", "/2.0/mlflow/runs/set-tag", {"run_uuid": run_id, **TAG}),
        "run, delete": ("POST", "/2.0/mlflow/runs/delete-tag", {"run_id": run_id, "key": "mlflow.user"}),
        "run, spaces": ("POST", "/2.0/mlflow/runs/set-tag", {"run_id": run_id, "key": "MLflow.User ", "value": "x"}),
        "experiment": ("POST", "/2.0/mlflow/experiments/set-experiment-tag", {"experiment_id": home, **TAG}),
        "experiment, delete": (
            "POST",
            "/2.0/mlflow/experiments/delete-experiment-tag",
            {"experiment_id": home, "key": "mlflow.user"},
        ),
        "logged model": ("PATCH", f"/2.0/mlflow/logged-models/{model}/tags", {"tags": [TAG]}),
        "logged model, delete": ("DELETE", f"/2.0/mlflow/logged-models/{model}/tags/mlflow.user", {}),
        "trace": ("PATCH", f"/3.0/mlflow/traces/{trace_id}/tags", TAG),
        "trace, delete": ("DELETE", f"/3.0/mlflow/traces/{trace_id}/tags", {"key": "mlflow.user"}),
        "trace, place": (
            "PATCH",
            f"/3.0/mlflow/traces/{trace_id}/tags",
            {"key": "mlflow.artifactLocation", "value": "mlflow-artifacts:/1"},
        ),
        "old trace": ("PATCH", f"/2.0/mlflow/traces/{trace_id}/tags", TAG),
        "dataset": ("PATCH", f"/3.0/mlflow/datasets/{made}/tags", {"tags": json.dumps({"mlflow.user": FORGED})}),
        "dataset, delete": ("DELETE", f"/3.0/mlflow/datasets/{made}/tags/mlflow.user", {}),
        "registered model": ("POST", "/2.0/mlflow/registered-models/set-tag", {"name": name, **TAG}),
    }


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_owners_tag_is_not_set_or_deleted(server: Server, home: str, spelling: str) -> None:
    for label, (method, path, body) in tag_changes(server, home).items():
        answer = Client(server, spelling).send(method, path, body)
        assert 300 <= answer.status_code < 500, (label, answer.status_code, answer.text)
        if spelling in REAL:
            assert answer.status_code == 403, (label, answer.text)
            assert answer.json()["error_code"] == "PERMISSION_DENIED"


def test_an_administrator_sets_the_owners_tag(server: Server, home: str) -> None:
    for label, (method, path, body) in tag_changes(server, home).items():
        if "delete" in label or "place" in label or "spaces" in label:
            continue
        answer = Client(server, "api", headers=admin()).send(method, path, body)
        assert answer.status_code == 200, (label, answer.text)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_log_batch_leaves_the_owner_and_logs_the_rest(server: Server, home: str, spelling: str) -> None:
    run_id = server.run(bearer(LIAR), home)
    body = {"run_id": run_id, "tags": [TAG, {"key": "colour", "value": "red"}]}
    answer = Client(server, spelling).send("POST", "/2.0/mlflow/runs/log-batch", body)
    assert answer.status_code < 500
    tags = get(server, f"{API}/runs/get", run_id=run_id)["run"]["data"]["tags"]
    assert tag_of(tags) == [LIAR]
    if answer.status_code == 200:
        assert {"key": "colour", "value": "red"} in tags


def test_an_editor_does_not_become_the_owner(server: Server) -> None:
    experiment_id = server.experiment(bearer("owner"), unique("shared"))
    run_id = server.run(bearer("owner"), experiment_id)
    trace_id = unique("tr-shared")
    metadata = {"mlflow.user": "x"}
    server.post(f"{API3}/traces", bearer("owner"), json=trace_body(experiment_id, trace_id, trace_metadata=metadata))
    server.get(f"{API}/users/current", bearer("editor"))
    grant = {
        "username": "editor",
        "resource_type": "experiment",
        "resource_id": experiment_id,
        "permission": "EDIT",
    }
    answer = server.post(f"{API3}/users/permissions/grant", admin(), json=grant)
    assert answer.status_code == 200, answer.text
    for body in ({"tags": [{"key": "mlflow.user", "value": "editor"}]}, {"tags": [{"key": "a", "value": "b"}]}):
        answer = server.post(f"{API}/runs/log-batch", bearer("editor"), json={"run_id": run_id, **body})
        assert answer.status_code == 200, answer.text
    # This trace exists, so the request is a change.
    again = trace_body(experiment_id, trace_id, trace_metadata={"mlflow.user": "editor"})
    server.post(f"{API3}/traces", bearer("editor"), json=again)
    end = {"request_id": trace_id, "timestamp_ms": 2, "status": "OK", "request_metadata": [TAG], "tags": [TAG]}
    server.ask("PATCH", f"{API}/traces/{trace_id}", bearer("editor"), json=end)
    found = get(server, f"{API}/runs/get", run_id=run_id)["run"]
    assert (found["info"]["user_id"], tag_of(found["data"]["tags"])) == ("owner", ["owner"])
    assert tag_of(trace_info(server, trace_id)["trace_metadata"]) == ["owner"]


def test_a_trace_of_another_experiment_is_not_taken(server: Server, home: str) -> None:
    elsewhere = server.experiment(bearer("owner"), unique("elsewhere"))
    trace_id = unique("tr-elsewhere")
    server.post(f"{API3}/traces", bearer("owner"), json=trace_body(elsewhere, trace_id))
    answer = server.post(f"{API3}/traces", bearer(LIAR), json=trace_body(home, trace_id))
    assert answer.status_code == 403
    place = trace_info(server, trace_id)["trace_location"]["mlflow_experiment"]["experiment_id"]
    assert place == elsewhere


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_only_administrators_choose_where_artifacts_are(server: Server, spelling: str) -> None:
    name = unique("placed")
    body = {"name": name, "artifact_location": "mlflow-artifacts:/chosen"}
    answer = Client(server, spelling).send("POST", "/2.0/mlflow/experiments/create", body)
    assert 300 <= answer.status_code < 500, answer.text
    assert spelling not in REAL or answer.status_code == 403
    assert server.post(f"{API}/experiments/create", admin(), json=body).status_code == 200


def test_a_promptlab_run_is_the_callers(server: Server, home: str) -> None:
    body = {
        "experiment_id": home,
        "user_id": FORGED,
        "prompt_template": "t",
        "prompt_parameters": [{"key": "a", "value": "b"}],
        "model_route": "r",
        "model_parameters": [],
        "model_input": "i",
        "model_output": "o",
        "model_output_parameters": [],
        "mlflow_version": "3",
    }
    answer = server.post("/ajax-api/2.0/mlflow/runs/create-promptlab-run", bearer(LIAR), json=body)
    assert answer.status_code == 200, answer.text
    found = get(server, f"{API}/runs/get", run_id=answer.json()["run"]["info"]["run_id"])["run"]
    assert found["info"]["user_id"] == LIAR


def test_words_of_the_client_that_look_like_fields_stay(server: Server, home: str) -> None:
    trace_id = unique("tr-words")
    feedback = {"value": {"user_id": "u", "userId": "U", "created_by": "c"}}
    source = {"source_type": "CODE", "source_id": "s"}
    info = {"assessments": [{"assessment_name": "a", "source": source, "feedback": feedback}]}
    assert server.post(f"{API3}/traces", bearer(LIAR), json=trace_body(home, trace_id, **info)).status_code == 200
    assert trace_info(server, trace_id)["assessments"][0]["feedback"]["value"] == feedback["value"]


def otlp(server: Server, headers: dict[str, str], home: str, trace_id: int) -> requests.Response:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id = trace_id.to_bytes(16, "big")
    span.span_id = (1).to_bytes(8, "big")
    span.name = "root"
    span.start_time_unix_nano, span.end_time_unix_nano = 1_000_000_000, 2_000_000_000
    for key, value in (
        ("mlflow.traceTag.mlflow.user", FORGED),
        ("mlflow.traceTag.MLflow.User", FORGED),
        ("mlflow.traceTag.mlflow.artifactLocation", "mlflow-artifacts:/elsewhere"),
        ("mlflow.traceTag.colour", "red"),
    ):
        attribute = span.attributes.add()
        attribute.key, attribute.value.string_value = key, value
    more = {"Content-Type": "application/x-protobuf", "X-MLflow-Experiment-Id": home}
    return server.post("/v1/traces", {**headers, **more}, data=message.SerializeToString())


def test_a_trace_that_arrives_by_otlp_names_no_owner(server: Server, home: str) -> None:
    for headers, trace_id in ((bearer(LIAR), 0xABC1), (admin("importer"), 0xABC2)):
        answer = otlp(server, headers, home, trace_id)
        assert answer.status_code == 200, answer.text
    tags = trace_info(server, f"tr-{0xABC1:032x}")["tags"]
    assert tags["colour"] == "red"
    assert FORGED not in tags.values()
    assert "elsewhere" not in json.dumps(tags)
    assert trace_info(server, f"tr-{0xABC2:032x}")["tags"]["mlflow.user"] == FORGED
