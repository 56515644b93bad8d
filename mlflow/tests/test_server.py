"""The function in a real MLflow: who gets in, with which rights, and what MLflow's database then says."""

from __future__ import annotations

import concurrent.futures
import http.client
import sqlite3
import time
from collections.abc import Iterator

import pytest
import requests

from support import API, API3, HEADER, JOB_TOKEN, KEY, OTHER_KEY, Server, admin, bearer, mint, operate

pytestmark = pytest.mark.server

CURRENT = "/ajax-api/2.0/mlflow/users/current"
SEARCH = f"{API}/experiments/search?max_results=1"
FASTAPI = f"{API3}/mcp-servers"


def rows(server: Server, statement: str, *values: object) -> list[tuple[object, ...]]:
    with sqlite3.connect(server.auth_database, timeout=20) as database:
        return database.execute(statement, values).fetchall()


def current(server: Server, headers: dict[str, str]) -> dict[str, object]:
    answer = server.get(CURRENT, headers)
    assert answer.status_code == 200, answer.text
    user: dict[str, object] = answer.json()["user"]
    return user


def raw(server: Server, path: str, headers: list[tuple[str, str]]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("GET", path)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_user_and_an_administrator_are_known_by_name(server: Server) -> None:
    assert current(server, bearer("ann"))["is_admin"] is False
    assert current(server, admin("adam"))["is_admin"] is True


@pytest.mark.parametrize("path", ["/health", "/version"])
def test_health_and_version_are_open(server: Server, path: str) -> None:
    assert server.get(path).status_code == 200


@pytest.mark.parametrize("path", [SEARCH, FASTAPI, "/", "/graphql"])
@pytest.mark.parametrize(
    "header",
    [
        {},
        {HEADER: "Bearer nonsense"},
        {HEADER: f"Bearer {mint(key=OTHER_KEY)}"},
        {HEADER: f"Bearer {mint(age=120)}"},
        {"Authorization": f"Bearer {mint()}"},
        {"X-Forwarded-User": "root", "X-Forwarded-Groups": "mlflow_admins"},
    ],
)
def test_nobody_gets_in_without_a_valid_assertion(server: Server, path: str, header: dict[str, str]) -> None:
    answer = server.get(path, header)
    assert answer.status_code == 401
    assert answer.json()["error_code"] == "UNAUTHENTICATED"
    assert "Basic" not in answer.headers["WWW-Authenticate"]


def test_a_password_of_mlflows_own_does_not_help(server: Server) -> None:
    answer = requests.get(server.url + SEARCH, auth=("oidc-gate-bootstrap", "x"), timeout=10)
    assert answer.status_code == 401


@pytest.mark.parametrize("path", [SEARCH, FASTAPI])
def test_two_assertions_are_refused(server: Server, path: str) -> None:
    one = (HEADER, f"Bearer {mint()}")
    assert raw(server, path, [one])[0] == 200
    assert raw(server, path, [one, one])[0] == 401
    assert raw(server, path, [one, ("x_mlflow_authorization", "Bearer x")])[0] in (200, 401)


def test_rights_follow_from_one_request_to_the_next(server: Server) -> None:
    assert current(server, admin("dora"))["is_admin"] is True
    assert current(server, bearer("dora"))["is_admin"] is False
    assert server.get(f"{API}/users/list", bearer("dora")).status_code == 200
    assert server.get(f"{API}/webhooks", bearer("dora")).status_code == 403
    assert server.get(f"{API}/webhooks", admin("dora")).status_code == 200


def test_a_name_that_is_made_again_for_somebody_else_is_refused(server: Server) -> None:
    current(server, bearer("eve", sub="first"))
    for path in (CURRENT, FASTAPI):
        answer = server.get(path, bearer("eve", sub="second"))
        assert answer.status_code == 403
        assert "another account" in answer.json()["message"]
    assert 'reason=name_of_another_subject user="eve"' in server.log
    assert server.ask("DELETE", f"{API}/users/delete", admin(), json={"username": "eve"}).status_code == 200
    assert current(server, bearer("eve", sub="second"))["username"] == "eve"
    assert server.get(CURRENT, bearer("eve", sub="first")).status_code == 403


def test_a_released_name_is_taken_by_the_next_subject(server: Server) -> None:
    old, new = (bearer("finn", sub=sub, groups=["mlflow_users"]) for sub in ("first", "second"))
    experiment = server.experiment(old, "of finn")
    for path in (CURRENT, FASTAPI):
        assert server.get(path, old).status_code == 200
        answer = server.get(path, new)
        assert answer.status_code == 403
        assert "python -m oidc_gate_mlflow release NAME" in answer.json()["message"]
    line = next(line for line in server.log.splitlines() if 'name_of_another_subject user="finn"' in line)
    assert 'help="python -m oidc_gate_mlflow release NAME"' in line
    done = operate(server, "release", "finn", "no such name", "--apply", MLFLOW_BACKEND_STORE_URI="")
    assert done.returncode == 1
    assert "finn: released" in done.stdout
    assert "left out: no such name" in done.stderr
    change = {"experiment_id": experiment, "key": "a", "value": "b"}
    assert server.post(f"{API}/experiments/set-experiment-tag", new, json=change).status_code == 200
    for path in (CURRENT, FASTAPI):
        assert server.get(path, new).status_code == 200
        assert server.get(path, old).status_code == 403


def test_the_bootstrap_administrator_is_nobody(server: Server) -> None:
    assert server.get(CURRENT, bearer("oidc-gate-bootstrap")).status_code == 403


def test_a_local_account_is_not_taken_over(server: Server) -> None:
    with sqlite3.connect(server.auth_database, timeout=20) as database:
        database.execute("INSERT INTO users (username, password_hash, is_admin) VALUES ('lea', 'scrypt:1$a$b', 1)")
    answer = server.get(CURRENT, bearer("lea"))
    assert answer.status_code == 403
    assert "local account" in answer.json()["message"]


def test_a_user_who_was_made_ahead_is_taken_at_the_first_sign_in(server: Server) -> None:
    with sqlite3.connect(server.auth_database, timeout=20) as database:
        database.execute("INSERT INTO users (username, password_hash, is_admin) VALUES ('max', '!oidc-gate::', 0)")
    assert current(server, bearer("max", sub="his"))["username"] == "max"
    assert server.get(CURRENT, bearer("max", sub="hers")).status_code == 403


def role(server: Server, name: str) -> int:
    answer = server.post(f"{API3}/roles/create", admin(), json={"name": name, "workspace": "default"})
    assert answer.status_code == 200, answer.text
    identifier: int = answer.json()["role"]["id"]
    return identifier


def roles_of(server: Server, name: str) -> set[object]:
    statement = (
        "SELECT r.name FROM roles r JOIN user_role_assignments a ON a.role_id = r.id"
        " JOIN users u ON u.id = a.user_id WHERE u.username = ? AND r.name NOT LIKE '\\_\\_user%' ESCAPE '\\'"
    )
    return {name for (name,) in rows(server, statement, name)}


def test_groups_are_memberships_of_roles_with_their_name(server: Server) -> None:
    for name in ("vision", "speech", "by-hand"):
        role(server, name)
    current(server, bearer("gil", groups=["/vision", "speech", "no-such-role"]))
    assert roles_of(server, "gil") == {"vision", "speech"}
    current(server, bearer("gil", groups=["speech"]))
    assert roles_of(server, "gil") == {"speech"}
    current(server, bearer("gil", groups=[]))
    assert roles_of(server, "gil") == set()


def test_a_role_that_an_administrator_gave_stays(server: Server) -> None:
    given = role(server, "reviewers")
    current(server, bearer("hal"))
    answer = server.post(f"{API3}/roles/assign", admin(), json={"username": "hal", "role_id": given})
    assert answer.status_code == 200, answer.text
    current(server, bearer("hal", groups=["reviewers"]))
    current(server, bearer("hal", groups=[]))
    assert roles_of(server, "hal") == {"reviewers"}


def test_a_group_gives_the_permissions_of_its_role(server: Server) -> None:
    experiment = server.experiment(admin(), "only for the team")
    team = role(server, "team")
    grant = {"role_id": team, "resource_type": "experiment", "resource_pattern": experiment, "permission": "EDIT"}
    assert server.post(f"{API3}/roles/permissions/add", admin(), json=grant).status_code == 200
    change = {"experiment_id": experiment, "key": "a", "value": "b"}
    path = f"{API}/experiments/set-experiment-tag"
    assert server.post(path, bearer("ivy", groups=["team"]), json=change).status_code == 200
    assert server.post(path, bearer("ivy", groups=["other"]), json=change).status_code == 403


def test_a_group_cannot_be_a_users_private_role(server: Server) -> None:
    victim = current(server, bearer("jan"))["id"]
    server.experiment(bearer("jan"), "of jan")
    current(server, bearer("mallory", groups=[f"__user_{victim}__"]))
    statement = "SELECT count(*) FROM user_role_assignments a JOIN users u ON u.id = a.user_id WHERE u.username = ?"
    assert rows(server, statement, "mallory") == [(0,)]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{API}/users/create"),
        ("POST", "/ajax-api/2.0/mlflow/users/create"),
        ("POST", f"{API}/users/create-ui"),
        ("PATCH", f"{API}/users/update-password"),
        ("PATCH", f"{API}/users/update-admin"),
        ("GET", "/signup"),
    ],
)
def test_local_accounts_are_closed_for_administrators_too(server: Server, method: str, path: str) -> None:
    body = {"username": "mallory", "password": "a-long-password", "is_admin": True}
    answer = server.ask(method, path, admin(), json=None if method == "GET" else body)
    assert answer.status_code == 403
    assert "identity provider" in answer.json()["message"]


def test_a_refusal_of_mlflow_is_json(server: Server) -> None:
    name = "io.example/of-ann"
    assert server.post(FASTAPI, bearer("ann"), json={"name": name}).status_code == 200
    for answer in (
        server.get(f"{API}/webhooks", bearer("kim")),
        server.ask("PATCH", f"{FASTAPI}/{name}", bearer("kim"), json={"description": "d"}),
        server.post("/gateway/mlflow/v1/chat/completions", bearer("kim"), json={"model": "none", "messages": []}),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
        assert answer.json()["message"] == "Permission denied"


@pytest.mark.parametrize("path", [CURRENT, FASTAPI])
def test_fifty_first_requests_at_once_make_one_user(server: Server, path: str) -> None:
    name = f"crowd{'-fastapi' if path == FASTAPI else ''}"
    role(server, f"role of {name}")
    headers = bearer(name, groups=[f"role of {name}", "mlflow_users"])
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: server.get(path, headers).status_code, range(50)))
    assert set(answers) == {200}
    assert rows(server, "SELECT count(*) FROM users WHERE username = ?", name) == [(1,)]
    assert roles_of(server, name) == {f"role of {name}"}


def test_every_decision_has_a_line_and_no_line_has_a_secret(server: Server) -> None:
    token = mint("nora")
    experiment = server.experiment({HEADER: f"Bearer {token}"}, "logged")
    server.post(
        f"{API}/runs/create", {HEADER: f"Bearer {token}", "X-Request-Id": "r-1"}, json={"experiment_id": experiment}
    )
    server.get(f"{API}/webhooks", bearer("nora\n"))
    deadline = time.monotonic() + 10
    while 'request_id="r-1"' not in server.log and time.monotonic() < deadline:
        time.sleep(0.1)
    log = server.log
    line = next(line for line in log.splitlines() if 'request_id="r-1"' in line)
    assert f'decision=allow reason=permitted user="nora" method=POST route="{API}/runs/create"' in line
    assert f'object="experiment_id={experiment}' in line
    assert "reason=assertion_name" in log
    assert token not in log
    assert token.split(".")[1] not in log
    assert KEY not in log


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow below a path, with its keys in a file, for the tests that change either."""
    folder = tmp_path_factory.mktemp("prefixed")
    keys = folder / "keys"
    keys.write_text(KEY)
    environment = {"ASSERTION_KEYS_FILE": str(keys)}
    with Server(folder, keys="", environment=environment, arguments=("--static-prefix=/ml",)) as running:
        yield running


def test_static_prefix(prefixed: Server) -> None:
    assert prefixed.get("/ml/version").status_code == 200
    assert prefixed.get("/ml/health").status_code == 200
    assert prefixed.get(f"/ml{SEARCH}").status_code == 401
    assert prefixed.get(f"/ml{SEARCH}", bearer()).status_code == 200
    assert prefixed.get(f"/ml{FASTAPI}", bearer()).status_code == 200
    assert prefixed.post(f"/ml{API}/users/create", admin(), json={}).status_code == 403


def test_keys_in_a_file_are_exchanged_without_a_refused_request(prefixed: Server) -> None:
    path = f"/ml{SEARCH}"
    assert prefixed.get(path, bearer()).status_code == 200
    assert prefixed.get(path, bearer(key=OTHER_KEY)).status_code == 401
    (prefixed.folder / "keys").write_text(f"{OTHER_KEY}\n{KEY}\n")
    time.sleep(0.6)
    assert prefixed.get(path, bearer(key=OTHER_KEY)).status_code == 200
    assert prefixed.get(path, bearer(key=KEY)).status_code == 200


def test_a_database_that_is_away_is_503_with_retry_after(prefixed: Server) -> None:
    path = f"/ml{SEARCH}"
    assert prefixed.get(path, bearer()).status_code == 200
    with sqlite3.connect(prefixed.auth_database, timeout=20) as database:
        database.execute("ALTER TABLE users RENAME TO away")
    answer = prefixed.get(path, bearer())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert str(prefixed.folder) not in answer.text
    with sqlite3.connect(prefixed.auth_database, timeout=20) as database:
        database.execute("ALTER TABLE away RENAME TO users")
    assert prefixed.get(path, bearer()).status_code == 200


def test_a_job_calls_the_model_gateway_as_the_user_who_started_it(server: Server) -> None:
    token = JOB_TOKEN
    server.get(CURRENT, bearer("jo"))

    def status(path: str = "/gateway/mlflow/v1/chat/completions", user: str = "jo", **more: str) -> int:
        password = more.pop("password", token)
        return requests.post(
            server.url + path,
            auth=(user, password),
            headers=more,
            json={"model": "none", "messages": []},
            timeout=30,
        ).status_code

    # There is no such model, so MLflow's permissions refuse it. Without the token it would be 401.
    assert status() == 403
    assert status(password="wrong") == 401
    assert status(user="never-seen") == 401
    assert status(user="oidc-gate-bootstrap") == 401
    assert status(path=f"{API}/experiments/search") == 401
    assert status(path=f"{API3}/mcp-servers") == 401
    assert status(path="/v1/traces") == 401
    assert status(**{"X-Forwarded-For": "203.0.113.7"}) == 401
    assert status(**{"X-Forwarded-For": "127.0.0.1"}) == 401
    assert status(**{"X-Forwarded-Proto": "https"}) == 401
    assert status(**{"Via": "1.1 proxy"}) == 401
    assert token not in server.log
