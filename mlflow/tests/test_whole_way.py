"""From MLflow's client with the plugin, through a stand-in for the gate, to MLflow with the function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from fake_provider import FakeProvider, Http
from oidc_gate_mlflow.client.cache import Cache
from oidc_gate_mlflow.client.config import origin
from oidc_gate_mlflow.client.oauth import Grant, Provider
from oidc_gate_mlflow.client.tokens import stored
from support import API, API3, HEADER, JOB_TOKEN, Server, admin, bearer

pytestmark = pytest.mark.server

HOPS = ("connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive", "host")

# What a training job does, in the order in which people write it.
JOB = """
import sys, time
import mlflow
from mlflow import MlflowClient
mlflow.set_experiment("job")
with mlflow.start_run() as run:
    for step in range(int(sys.argv[1])):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
        time.sleep(float(sys.argv[2]))
    mlflow.log_params({"a": 1, "b": 2})
    mlflow.set_tag("colour", "red")
    mlflow.log_text("hello", "greeting.txt")
    client = MlflowClient()
    client.create_registered_model("job-model")
    client.create_model_version("job-model", f"{run.info.artifact_uri}/greeting.txt", run.info.run_id)
    client.set_registered_model_alias("job-model", "best", 1)
    with mlflow.start_span("work") as span:
        span.set_inputs({"q": 1})
assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/greeting.txt") == "hello"
mlflow.flush_trace_async_logging()
found = mlflow.search_traces(locations=[run.info.experiment_id], return_type="list")
feedback = mlflow.log_feedback(trace_id=found[0].info.trace_id, name="good", value=True)
print("RUN", run.info.run_id, MlflowClient().get_run(run.info.run_id).data.tags["mlflow.user"], len(found))
print("SOURCE", feedback.source.source_type)
"""


class Gate(Http):
    """Makes an assertion of a token that the provider gave, and removes what a client must not send."""

    def __init__(self, provider: FakeProvider, server: Server) -> None:
        self.provider = provider
        self.server = server
        super().__init__()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if headers.get("Authorization", "").removeprefix("Bearer ") not in self.provider.tokens:
            said = b'{"error_code": "UNAUTHENTICATED", "message": "sign in"}'
            return 401, {"Content-Type": "application/json"}, said
        removed = (*HOPS, HEADER.lower(), "authorization")
        kept = {name: value for name, value in headers.items() if name.lower() not in removed}
        answer = requests.request(
            method,
            self.server.url + path,
            headers={**kept, **bearer("alice")},
            data=body,
            timeout=60,
            allow_redirects=False,
        )
        returned = {name: value for name, value in answer.headers.items() if name.lower() not in HOPS}
        return answer.status_code, returned, answer.content


@pytest.fixture
def gate(idp: FakeProvider, server: Server) -> Iterator[Gate]:
    made = Gate(idp, server)
    yield made
    made.close()


def variables(gate: Gate, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "OIDC"))}
    kept.pop("PYTEST_CURRENT_TEST", None)
    return {
        **kept,
        "MLFLOW_TRACKING_URI": gate.url,
        "MLFLOW_TRACKING_AUTH": "oidc-gate",
        "OIDC_GATE_CACHE_DIR": str(folder / "cache"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def test_a_job_outlives_its_token_by_far(idp: FakeProvider, gate: Gate, server: Server, folder: Path) -> None:
    idp.lifetime = 4.0
    cache = Cache(folder / "cache", origin(gate.url), "person")
    provider = Provider(idp.url, "mlflow-cli", None, insecure_http=False)
    cache.write(stored(granted(idp), origin(gate.url), provider, "openid", time.time()))
    expiring = threading.Event()

    def expire() -> None:
        # The gate refuses what the provider gave more than a lifetime ago.
        known: dict[str, float] = {}
        while not expiring.wait(0.2):
            for token in list(idp.tokens):
                if time.monotonic() - known.setdefault(token, time.monotonic()) > idp.lifetime:
                    idp.tokens.discard(token)

    thread = threading.Thread(target=expire, daemon=True)
    thread.start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", JOB, "20", "0.7"],
            env=variables(gate, folder),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        expiring.set()
        thread.join()
    assert done.returncode == 0, done.stderr
    run_id, user, traces = next(line for line in done.stdout.splitlines() if line.startswith("RUN")).split()[1:]
    assert (user, traces) == ("alice", "1")
    found = server.get(f"{API}/runs/get", admin(), params={"run_id": run_id}).json()["run"]
    assert found["info"]["status"] == "FINISHED"
    assert found["info"]["user_id"] == "alice"
    # Once in two seconds at most, whatever the job does.
    assert 3 <= idp.grants["refresh_token"] <= 60


def granted(idp: FakeProvider) -> Grant:
    given = idp.grant(refreshable=True)
    return Grant(given["access_token"], given["expires_in"], given["refresh_token"])


class ModelProvider(Http):
    """Answers every request with one completion, and remembers the headers."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        super().__init__()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.seen.append({name.lower(): value for name, value in headers.items()})
        message = {"role": "assistant", "content": "hello"}
        said = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        return 200, {"Content-Type": "application/json"}, json.dumps(said).encode()


def test_a_model_provider_does_not_get_the_assertion(server: Server) -> None:
    provider = ModelProvider()
    try:
        made = server.post(
            f"{API3}/gateway/secrets/create",
            admin(),
            json={
                "secret_name": "s",
                "secret_value": {"api_key": "key-of-the-provider"},
                "provider": "openai",
                "auth_config": {"api_base": f"{provider.url}/v1"},
            },
        )
        assert made.status_code == 200, made.text
        definition = server.post(
            f"{API3}/gateway/model-definitions/create",
            admin(),
            json={
                "name": "d",
                "secret_id": made.json()["secret"]["secret_id"],
                "provider": "openai",
                "model_name": "gpt",
            },
        ).json()["model_definition"]["model_definition_id"]
        model = {"model_definition_id": definition, "linkage_type": "PRIMARY", "weight": 1}
        answer = server.post(
            f"{API3}/gateway/endpoints/create", admin(), json={"name": "chat", "model_configs": [model]}
        )
        assert answer.status_code == 200, answer.text
        ask = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        for path in ("/gateway/mlflow/v1/chat/completions", "/gateway/openai/v1/chat/completions"):
            answer = server.post(path, admin(), json=ask)
            assert answer.status_code == 200, answer.text
        # A judge of MLflow's, in a job of the administrator.
        answer = requests.post(
            server.url + "/gateway/mlflow/v1/chat/completions",
            auth=("root", JOB_TOKEN),
            json=ask,
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
    finally:
        provider.close()
    assert len(provider.seen) == 3
    for headers in provider.seen:
        assert HEADER.lower() not in headers
        assert "eyJ" not in json.dumps(headers)
        assert "key-of-the-provider" in headers["authorization"]
