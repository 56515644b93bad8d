"""The server's settings, and the start check."""

from __future__ import annotations

import configparser
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from oidc_gate_mlflow import start
from oidc_gate_mlflow.errors import ConfigurationError
from oidc_gate_mlflow.settings import Audit, Settings, group_name
from support import KEY, Server

GOOD = {
    "ASSERTION_KEYS": KEY,
    "MLFLOW_AUTH_DATABASE_URI": "postgresql://mlflow:p%40ss@db/auth",
    "MLFLOW_DEFAULT_PERMISSION": "EDIT",
}


def test_defaults() -> None:
    settings = Settings.from_environment({"ASSERTION_KEYS": KEY})
    assert (settings.issuer, settings.audience, settings.audit) == ("oidc-gate", "mlflow", Audit.ALL)
    assert settings.admin_groups == {"mlflow_admins"}
    assert settings.page_script
    assert not Settings.from_environment({"ASSERTION_KEYS": KEY, "MLFLOW_PAGE_SCRIPT": "off"}).page_script


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(
            {
                "ASSERTION_KEYS": "x",
                "OIDC_ADMIN_GROUP_NAME": " , ",
                "MLFLOW_AUDIT": "loud",
                "MLFLOW_PAGE_SCRIPT": "maybe",
            }
        )
    assert len(caught.value.mistakes) == 4


def test_keys_and_a_file_of_keys_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="keep one"):
        Settings.from_environment({"ASSERTION_KEYS": KEY, "ASSERTION_KEYS_FILE": "/keys"})


def test_a_missing_file_of_keys_is_named() -> None:
    with pytest.raises(ConfigurationError, match="/nowhere"):
        Settings.from_environment({"ASSERTION_KEYS_FILE": "/nowhere"})


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("/mlflow_users", "mlflow_users"),
        ("mlflow_users", "mlflow_users"),
        ("/a/mlflow_users", "a/mlflow_users"),
        ("a/mlflow_users", "a/mlflow_users"),
        ("//mlflow_users", "/mlflow_users"),
    ],
)
def test_group_names_are_compared_whole(group: str, name: str) -> None:
    assert group_name(group) == name


def test_the_ini_that_is_written_survives_mlflows_parser() -> None:
    text, mistakes = start.make_ini(GOOD)
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert mistakes == []
    assert parser["mlflow"]["database_uri"] == GOOD["MLFLOW_AUTH_DATABASE_URI"]
    assert parser["mlflow"]["default_permission"] == "EDIT"
    assert parser["mlflow"]["authorization_function"] == "oidc_gate_mlflow.server:authorize"


INI = """[mlflow]
default_permission = READ
database_uri = sqlite:///auth.db
authorization_function = oidc_gate_mlflow.server:authorize
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (INI, None),
        ("default_permission = READ", "not an ini file"),
        ("[other]\n", "no section"),
        (INI.replace("server:authorize", "server:authorise"), "authorization_function is"),
        (
            INI.replace("oidc_gate_mlflow.server:authorize", "mlflow.server.auth:authenticate_request_basic_auth"),
            "must be",
        ),
        ("\n".join(INI.splitlines()[:-1]), "no line authorization_function"),
        (INI.replace("READ", "SOME"), "default_permission must be"),
        (INI.replace("auth.db", "a%40b.db"), "single %"),
        (INI.replace("auth.db", "a%%40b.db"), None),
    ],
)
def test_an_ini_of_the_operator_is_checked(folder: Path, text: str, complaint: str | None) -> None:
    path = folder / "auth.ini"
    path.write_text(text)
    mistakes = start.check_ini(path)
    assert (complaint is None and mistakes == []) or any(complaint and complaint in mistake for mistake in mistakes)


@pytest.mark.parametrize(
    ("variables", "words", "complaint"),
    [
        ({"ASSERTION_KEYS": ""}, [], "ASSERTION_KEYS is not set"),
        ({"ASSERTION_KEYS": "weak"}, [], "less than 32 bytes"),
        ({"MLFLOW_DEFAULT_PERMISSION": "ALL"}, [], "MLFLOW_DEFAULT_PERMISSION is 'ALL'"),
        ({"MLFLOW_AUTH_DATABASE_URI": ""}, [], "MLFLOW_AUTH_DATABASE_URI is not set"),
        ({"MLFLOW_BASIC_AUTH_FAIL_CLOSED": "false"}, [], "FAIL_CLOSED is off"),
        ({"MLFLOW_AUTH_CONFIG_PATH": "/nowhere.ini"}, [], "can't be read"),
        ({}, ["--app-name=other"], "--app-name"),
        ({}, ["--gunicorn-opts", "x"], "--gunicorn-opts"),
        ({"MLFLOW_GUNICORN_OPTS": "-w 2"}, [], "MLFLOW_GUNICORN_OPTS is not supported: only uvicorn"),
        ({"MLFLOW_UVICORN_OPTS": "--log-level debug --reload"}, [], "--reload in MLFLOW_UVICORN_OPTS"),
        ({"MLFLOW_UVICORN_OPTS": "--root-path=/mlflow"}, [], "--root-path in MLFLOW_UVICORN_OPTS"),
        ({"MLFLOW_UVICORN_OPTS": "'"}, [], "MLFLOW_UVICORN_OPTS can't be read"),
        ({}, ["--uvicorn-opts=--reload"], "--reload in --uvicorn-opts"),
        ({}, ["--uvicorn-opts", "--root-path /mlflow"], "--root-path in --uvicorn-opts"),
        ({"UVICORN_RELOAD": "true"}, [], "UVICORN_RELOAD is not supported"),
        ({"UVICORN_ROOT_PATH": "/mlflow"}, [], "UVICORN_ROOT_PATH is not supported"),
        ({}, ["--static-prefix", "/healthcare/mlflow"], "--static-prefix must not begin with"),
        ({}, ["--static-prefix=/static-site"], "--static-prefix must not begin with"),
        ({}, ["--static-prefix", "/a", "--static-prefix", "/favicon.ico"], "--static-prefix must not begin with"),
        ({"MLFLOW_STATIC_PREFIX": "/health"}, [], "MLFLOW_STATIC_PREFIX must not begin with"),
        ({"_MLFLOW_STATIC_PREFIX": "/health/a"}, [], "_MLFLOW_STATIC_PREFIX must not begin with"),
    ],
)
def test_mlflow_does_not_start_and_says_why(variables: dict[str, str], words: list[str], complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        start.prepare(words, {**GOOD, **variables})
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ["--static-prefix", "/mlflow"]),
        ({}, ["--static-prefix=/team/health"]),
        ({"MLFLOW_STATIC_PREFIX": "/mlflow", "MLFLOW_GUNICORN_OPTS": ""}, []),
        ({"MLFLOW_UVICORN_OPTS": "--log-level debug"}, ["--uvicorn-opts", "--timeout-keep-alive 20"]),
    ],
)
def test_other_prefixes_and_options_of_uvicorn_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, folder: Path, variables: dict[str, str], words: list[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = dict(os.environ)
    ready = start.prepare(words, {**GOOD, "MLFLOW_AUTH_DATABASE_URI": f"sqlite:///{folder}/auth.db", **variables})
    assert ready.command[-len(words) :] == words or not words
    assert dict(os.environ) == before


def test_mlflow_itself_is_asked_about_the_prefix(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr("mlflow.server.auth.is_unprotected_route", lambda path: path.startswith("/status"))
    variables = {**GOOD, "MLFLOW_AUTH_DATABASE_URI": f"sqlite:///{folder}/auth.db"}
    with pytest.raises(ConfigurationError, match="this MLflow can't be at /status/mlflow"):
        start.prepare(["--static-prefix=/status/mlflow"], variables)
    start.prepare(["--static-prefix=/mlflow"], variables)


@pytest.mark.server
def test_the_command_checks_and_says_what_is_wrong(folder: Path) -> None:
    server = Server(folder)
    checked = subprocess.run(
        [sys.executable, "-m", "oidc_gate_mlflow.start", "--check"],
        env={**server.variables(), "TMPDIR": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    # One folder, however often MLflow starts.
    assert [path.name for path in folder.iterdir()] == [f"oidc-gate-mlflow-{os.getuid()}"]
    refused = subprocess.run(
        server.command(),
        env={**server.variables(), "ASSERTION_KEYS": "weak-secret"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "MLflow does not start" in refused.stderr
    assert "weak-secret" not in refused.stderr


def test_an_mlflow_that_lacks_what_is_used_of_it_does_not_start(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(start, "NEEDED", (("mlflow.server.auth", ("store", "gone")),))
    with pytest.raises(ConfigurationError, match=r"is not supported: it lacks mlflow\.server\.auth\.gone"):
        start.prepare([], {**GOOD, "MLFLOW_AUTH_DATABASE_URI": f"sqlite:///{folder}/auth.db"})


def test_the_ini_is_for_its_owner(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path = start._write("secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert start._write("secret") == path
    assert len(list(path.parent.iterdir())) == 1
    path.parent.chmod(0o755)
    with pytest.raises(ConfigurationError, match="others"):
        start._write("secret")
