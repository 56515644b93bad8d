"""``assign-owners``: a stack from before, its owners, and what they may do afterwards."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from support import API, Server, bearer, operate, operate_here

pytestmark = pytest.mark.server


def before(server: Server) -> None:
    """What was made without users: in MLflow's database, past the server."""
    uri = f"sqlite:///{server.folder / 'mlflow.db'}"
    client = MlflowClient(uri, uri)

    def experiment(name: str, *users: str, **more: Any) -> str:
        made: str = client.create_experiment(name, **more)
        for user in users:
            client.set_terminated(client.create_run(made, tags={"mlflow.user": user}).info.run_id)
        return made

    experiment("of anna", "anna", "anna")
    experiment("of two", "anna", "benno")
    experiment("of a container", "root")
    experiment("tagged", "root", tags={"mlflow.user": "clea"})
    experiment("empty")
    client.delete_experiment(experiment("deleted", "anna"))
    client.create_registered_model("model of anna")
    run = client.search_runs([client.get_experiment_by_name("of anna").experiment_id])[0]
    client.create_model_version("model of anna", "mlflow-artifacts:/x", run.info.run_id)
    client.register_prompt("prompt-of-benno", "Hello {{name}}", tags={"a": "b"})
    client.set_prompt_tag("prompt-of-benno", "mlflow.user", "benno")


def owned(said: str) -> int:
    found = re.search(r"(\d+) has an owner", said)
    return int(found[1]) if found else 0


def test_owners_of_before_get_their_permission(closed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server = closed
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    monkeypatch.chdir(server.folder)
    before(server)
    command = ("assign-owners", "--map", "benno=benjamin")

    def here(*words: str) -> str:
        done = operate_here(server, *command, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    dry = here()
    assert "(of anna) would belong to anna (a new user" in dry
    assert "(deleted) would belong to anna" in dry
    assert "(tagged) would belong to clea" in dry
    assert "registered_model model of anna would belong to anna" in dry
    assert "prompt prompt-of-benno would belong to benjamin" in dry
    assert "(of two): several users: anna, benjamin" in dry
    assert "(of a container): no user is known" in dry
    assert "nothing was changed" in dry
    assert "to assign" in dry
    assert here() == dry
    done = operate(server, *command, "--apply")
    assert done.returncode == 0, done.stderr
    assert "5 assigned" in done.stdout
    assert owned(here("--apply")) == owned(dry) + 5
    found = server.get(f"{API}/experiments/get-by-name?experiment_name=of anna", bearer("anna"))
    assert found.status_code == 200, found.text
    change = {"experiment_id": found.json()["experiment"]["experiment_id"], "new_name": "mine"}
    assert server.post(f"{API}/experiments/update", bearer("benno"), json=change).status_code == 403
    assert server.post(f"{API}/experiments/update", bearer("anna"), json=change).status_code == 200
    path = f"{API}/registered-models/get?name=prompt-of-benno"
    assert server.get(path, bearer("benjamin")).status_code == 200
    assert server.get(path, bearer("anna")).status_code == 403


@pytest.mark.parametrize(
    ("variables", "words", "complaint"),
    [
        ({"MLFLOW_BACKEND_STORE_URI": ""}, [], "MLFLOW_BACKEND_STORE_URI"),
        ({"MLFLOW_AUTH_DATABASE_URI": "", "MLFLOW_BACKEND_STORE_URI": "sqlite:///x"}, [], "MLFLOW_AUTH_DATABASE_URI"),
        ({}, ["--map", "ann"], "OLD=NEW"),
    ],
)
def test_missing_settings_are_named(
    tmp_path: Path, variables: dict[str, str], words: list[str], complaint: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oidc_gate_mlflow", "assign-owners", *words],
        env={**Server(tmp_path).variables(), **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert complaint in done.stderr
