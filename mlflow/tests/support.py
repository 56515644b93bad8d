"""What the tests share: minting assertions, and starting the real MLflow."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import jwt
import pytest
import requests

from oidc_gate_mlflow import assign_owners, cli
from oidc_gate_mlflow.assertion import Key
from oidc_gate_mlflow.importing import command as import_command
from oidc_gate_mlflow.stores import Stores

KEY = "kJ8vQ2mXw7RtY5nB3cF6hL9pS1dG4aZe0uKi"
OTHER_KEY = "Wq7Zx2Cv5Bn8Mk1Lj4Hg6Fd3Sa9Po0Iu2Yt5"
HEADER = "X-MLflow-Authorization"
JOB_TOKEN = "token-of-this-start"
API = "/api/2.0/mlflow"
API3 = "/api/3.0/mlflow"


def mint(
    name: str = "alice",
    *,
    key: str = KEY,
    groups: list[str] | None = None,
    sub: str | None = None,
    age: int = 0,
    life: int = 60,
    header: dict[str, Any] | None = None,
    algorithm: str = "HS256",
    without: tuple[str, ...] = (),
    **claims: Any,
) -> str:
    """An assertion as README.md describes it. ``claims`` replaces or adds claims."""
    now = int(time.time()) - age
    payload: dict[str, Any] = {
        "iss": "oidc-gate",
        "aud": "mlflow",
        "sub": sub or f"sub-of-{name}",
        "name": name,
        "groups": ["mlflow_users"] if groups is None else groups,
        "iat": now,
        "exp": now + life,
    }
    payload.update(claims)
    for claim in without:
        del payload[claim]
    return jwt.encode(
        payload,
        key if algorithm != "none" else "",
        algorithm=algorithm,
        headers={"kid": Key(key.encode()).id} if header is None else header,
    )


def bearer(name: str = "alice", **more: Any) -> dict[str, str]:
    return {HEADER: f"Bearer {mint(name, **more)}"}


def admin(name: str = "root") -> dict[str, str]:
    return bearer(name, groups=["mlflow_admins", "mlflow_users"])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Server:
    """A real ``mlflow server``, started by the package's own command."""

    folder: Path
    keys: str = KEY
    permission: str = "READ"
    workers: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "mlflow.log").read_text(errors="replace")

    @property
    def auth_database(self) -> Path:
        return self.folder / "auth.db"

    def variables(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "ASSERTION", "OIDC"))
        }
        # MLflow's sessions refuse to write in a read-only session while pytest runs, also in another process.
        kept.pop("PYTEST_CURRENT_TEST", None)
        return {
            **kept,
            "ASSERTION_KEYS": self.keys,
            "MLFLOW_DEFAULT_PERMISSION": self.permission,
            "MLFLOW_AUTH_DATABASE_URI": f"sqlite:///{self.auth_database}",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    def command(self) -> list[str]:
        store = self.environment.get("MLFLOW_BACKEND_STORE_URI") or f"sqlite:///{self.folder / 'mlflow.db'}"
        return [
            sys.executable,
            "-m",
            "oidc_gate_mlflow.start",
            f"--port={self.port}",
            "--host=127.0.0.1",
            f"--workers={self.workers}",
            f"--backend-store-uri={store}",
            f"--artifacts-destination={self.folder / 'artifacts'}",
            *self.arguments,
        ]

    def start(self) -> None:
        with (self.folder / "mlflow.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.variables(),
                cwd=self.folder,
                start_new_session=True,
            )
        limit = time.monotonic() + 120
        health = f"{self.url}{self.prefix}/health"
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"MLflow did not start:\n{self.log}")
            try:
                if requests.get(health, timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                pass
            if time.monotonic() > limit:
                raise AssertionError(f"MLflow is not up after two minutes:\n{self.log}")
            time.sleep(0.2)

    @property
    def prefix(self) -> str:
        return next((word.partition("=")[2] for word in self.arguments if word.startswith("--static-prefix=")), "")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> requests.Response:
        return requests.request(
            method, self.url + path, headers=headers or {}, timeout=60, allow_redirects=False, **more
        )

    def get(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> requests.Response:
        return self.ask("GET", path, headers, **more)

    def post(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> requests.Response:
        return self.ask("POST", path, headers, **more)

    def experiment(self, headers: dict[str, str], name: str) -> str:
        answer = self.post(f"{API}/experiments/create", headers, json={"name": name})
        assert answer.status_code == 200, answer.text
        identifier: str = answer.json()["experiment_id"]
        return identifier

    def run(self, headers: dict[str, str], experiment: str, **more: Any) -> str:
        answer = self.post(f"{API}/runs/create", headers, json={"experiment_id": experiment, **more})
        assert answer.status_code == 200, answer.text
        identifier: str = answer.json()["run"]["info"]["run_id"]
        return identifier


def operate(server: Server, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One of the operator's commands, as the operator calls it."""
    backend = f"sqlite:///{server.folder / 'mlflow.db'}"
    return subprocess.run(
        [sys.executable, "-m", "oidc_gate_mlflow", *words],
        env={**server.variables(), "MLFLOW_BACKEND_STORE_URI": backend, **variables},
        cwd=server.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def operate_here(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, where MLflow is imported already: this is what the command takes longest for."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._model_registry.utils import _get_store as registry_store
    from mlflow.tracking._tracking_service.utils import _get_store as tracking_store

    backend = f"sqlite:///{server.folder / 'mlflow.db'}"
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    auth = SqlAlchemyStore()
    with pytest.MonkeyPatch.context() as patch:
        # MLflow's sessions refuse to write in a read-only session while pytest runs.
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)
        patch.chdir(server.folder)
        auth.init_db(f"sqlite:///{server.auth_database}")
        stores = Stores(auth, tracking_store(backend), registry_store(backend), server.permission)
        for module in (assign_owners, import_command):
            patch.setattr(module, "open_stores", lambda: stores)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.main(words)
        finally:
            auth.engine.dispose()
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(list(words), code, *said)


def fill(server: Server) -> dict[str, str]:
    """What the permissions in the dumps of mlflow-oidc-auth are about, made by an administrator."""

    def post(path: str, **body: Any) -> Any:
        answer = server.post(path, admin(), json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert [server.experiment(admin(), name) for name in ("one", "tea two")] == ["1", "2"]
    post(f"{API}/registered-models/create", name="churn")
    prompt = {"key": "mlflow.prompt.is_prompt", "value": "true"}
    post(f"{API}/registered-models/create", name="greeting", tags=[prompt])
    scorer = {"name": "tone/formal", "builtin_scorer_class": "Safety", "builtin_scorer_pydantic_data": {}}
    post(f"{API3}/scorers/register", experiment_id="1", name="tone/formal", serialized_scorer=json.dumps(scorer))
    # An experiment that can be restored.
    deleted = server.experiment(admin(), "deleted before")
    post(f"{API3}/scorers/register", experiment_id=deleted, name="tone", serialized_scorer=json.dumps(scorer))
    post(f"{API}/experiments/delete", experiment_id=deleted)
    post(f"{API3}/mcp-servers", name="io.example/tools")
    secret = post(
        f"{API3}/gateway/secrets/create", secret_name="vault", secret_value={"api_key": "k"}, provider="openai"
    )["secret"]["secret_id"]
    definition = post(
        f"{API3}/gateway/model-definitions/create",
        name="small",
        secret_id=secret,
        provider="openai",
        model_name="gpt",
    )["model_definition"]["model_definition_id"]
    model = {"model_definition_id": definition, "linkage_type": "PRIMARY", "weight": 1}
    endpoint = post(f"{API3}/gateway/endpoints/create", name="chat", model_configs=[model])["endpoint"]["endpoint_id"]
    return {"secret": secret, "definition": definition, "endpoint": endpoint}
