"""What the tests share: minting assertions, and starting the real MLflow."""

from __future__ import annotations

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
import requests

from oidc_gate_mlflow.assertion import Key

KEY = "kJ8vQ2mXw7RtY5nB3cF6hL9pS1dG4aZe0uKi"
OTHER_KEY = "Wq7Zx2Cv5Bn8Mk1Lj4Hg6Fd3Sa9Po0Iu2Yt5"
HEADER = "X-MLflow-Authorization"
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
