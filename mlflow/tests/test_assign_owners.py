"""``assign-owners``: a stack from before, its owners, and what they may do afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import API, Server, bearer

pytestmark = pytest.mark.server

BEFORE = """
import mlflow
from mlflow import MlflowClient
client = MlflowClient()
def experiment(name, *users, **more):
    made = client.create_experiment(name, **more)
    for user in users:
        client.set_terminated(client.create_run(made, tags={"mlflow.user": user}).info.run_id)
    return made
experiment("of ann", "ann", "ann")
experiment("of two", "ann", "ben")
experiment("of a container", "root")
experiment("tagged", "root", tags={"mlflow.user": "cleo"})
experiment("empty")
client.delete_experiment(experiment("deleted", "ann"))
client.create_registered_model("model of ann")
run = client.search_runs([client.get_experiment_by_name("of ann").experiment_id])[0]
client.create_model_version("model of ann", "mlflow-artifacts:/x", run.info.run_id)
mlflow.genai.register_prompt("prompt-of-ben", "Hello {{name}}", tags={"a": "b"})
client.set_prompt_tag("prompt-of-ben", "mlflow.user", "ben")
"""


def call(server: Server, *words: str) -> str:
    uri = f"sqlite:///{server.folder / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, *words],
        env={**server.variables(), "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_TRACKING_URI": uri},
        cwd=server.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_owners_of_before_get_their_permission(tmp_path: Path) -> None:
    server = Server(tmp_path, permission="NO_PERMISSIONS")
    call(server, "-c", BEFORE)
    command = ("-m", "oidc_gate_mlflow", "assign-owners", "--map", "ben=benjamin")
    dry = call(server, *command)
    assert "(of ann) would belong to ann (a new user" in dry
    assert "(deleted) would belong to ann" in dry
    assert "(tagged) would belong to cleo" in dry
    assert "registered_model model of ann would belong to ann" in dry
    assert "prompt prompt-of-ben would belong to benjamin" in dry
    assert "(of two): several users: ann, benjamin" in dry
    assert "(of a container): no user is known" in dry
    assert "nothing was changed" in dry
    assert "to assign" in dry
    assert call(server, *command) == dry
    done = call(server, *command, "--apply")
    assert "5 assigned" in done
    assert "5 has an owner" in call(server, *command, "--apply")
    with server:
        found = server.get(f"{API}/experiments/get-by-name?experiment_name=of ann", bearer("ann"))
        assert found.status_code == 200, found.text
        change = {"experiment_id": found.json()["experiment"]["experiment_id"], "new_name": "mine"}
        assert server.post(f"{API}/experiments/update", bearer("ben"), json=change).status_code == 403
        assert server.post(f"{API}/experiments/update", bearer("ann"), json=change).status_code == 200
        path = f"{API}/registered-models/get?name=prompt-of-ben"
        assert server.get(path, bearer("benjamin")).status_code == 200
        assert server.get(path, bearer("ann")).status_code == 403


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
