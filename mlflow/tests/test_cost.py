"""What a request costs in MLflow's auth database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oidc_gate_mlflow import start
from support import KEY, Server

pytestmark = pytest.mark.server

# In one process, without a server, so that statements can be counted.
COUNT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from support import API, bearer
from sqlalchemy import event
from mlflow.server.auth import create_app, store
client = create_app().test_client()
said = []
def listen(connection, cursor, statement, *more):
    if not statement.startswith("PRAGMA"):
        said.append(statement)
event.listen(store.engine, "before_cursor_execute", listen)
def post(path, **body):
    return client.post(API + path, json=body, headers=bearer("alice")).get_json()
experiment = post("/experiments/create", name="e")["experiment_id"]
run = post("/runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
counts = {}
for person in ("alice", "bob"):
    for method, path, body in (
        ("GET", f"{API}/runs/get?run_id={run}", None),
        ("GET", f"{API}/experiments/search?max_results=5", None),
        ("POST", f"{API}/runs/search", {"experiment_ids": [experiment]}),
        ("POST", f"{API}/runs/set-tag", {"run_id": run, "key": "a", "value": "b"}),
        ("GET", "/ajax-api/2.0/mlflow/users/current", None),
        ("GET", "/version", None),
    ):
        for _ in range(2):
            said.clear()
            client.open(path, method=method, json=body, headers=bearer(person))
        counts[f"{person} {method} {path}"] = len(said)
print("COUNTS" + json.dumps(counts))
"""


def test_a_request_costs_at_most_three_statements(tmp_path: Path) -> None:
    server = Server(tmp_path)
    ini = tmp_path / "auth.ini"
    ini.write_text(start.make_ini(server.variables())[0])
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(Path(__file__).parent)],
        env={
            **server.variables(),
            "MLFLOW_AUTH_CONFIG_PATH": str(ini),
            "MLFLOW_AUTH_ADMIN_PASSWORD": os.urandom(16).hex(),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": KEY,
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{tmp_path / 'mlflow.db'}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": str(tmp_path / "artifacts"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("COUNTS"))[6:])
    assert max(counts.values()) <= 3, counts
    assert counts["alice GET /version"] == 0
    assert len(counts) == 12
