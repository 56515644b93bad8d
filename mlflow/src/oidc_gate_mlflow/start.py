"""``oidc-gate-mlflow-server``: checks everything, then becomes ``mlflow server``.

MLflow finds out late what is wrong with its authorization function: a wrong name gives a healthy ``/health`` and an
error for everything else, and a missing line falls back to passwords. Here such an MLflow does not start, and each
mistake is named.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import importlib
import os
import secrets
import shlex
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oidc_gate_mlflow import settings
from oidc_gate_mlflow.errors import ConfigurationError

FUNCTION = "oidc_gate_mlflow.server:authorize"
CONFIG_PATH = "MLFLOW_AUTH_CONFIG_PATH"
DATABASE_URI = "MLFLOW_AUTH_DATABASE_URI"
DEFAULT_PERMISSION = "MLFLOW_DEFAULT_PERMISSION"
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
FAIL_CLOSED = "MLFLOW_BASIC_AUTH_FAIL_CLOSED"
PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS")
# What is used of MLflow besides its documented hook. Another MLflow may not have it.
NEEDED = (
    (
        "mlflow.server.auth",
        ("store", "PlainTextResponse", "is_unprotected_route"),
    ),
    ("mlflow.server.auth.db.models", ("SqlUser", "SqlRole", "SqlUserRoleAssignment")),
    ("mlflow.server.otel_api", ("_get_tracking_store",)),
    ("mlflow.server.handlers", ("get_endpoints", "_get_tracking_store", "STATIC_PREFIX_ENV_VAR")),
)
REFUSED_OPTIONS = {
    "--gunicorn-opts": "only uvicorn, MLflow's default, serves all of MLflow's routes",
    "--waitress-opts": "only uvicorn, MLflow's default, serves all of MLflow's routes",
    "--dev": "it restarts workers behind the back of this check",
}
# MLflow takes the same from a variable where it has one.
REFUSED_VARIABLES = {"MLFLOW_GUNICORN_OPTS": "--gunicorn-opts"}
UVICORN_OPTIONS, UVICORN_VARIABLE = "--uvicorn-opts", "MLFLOW_UVICORN_OPTS"
# Uvicorn takes each of its options also from a variable.
REFUSED_OF_UVICORN = {
    "--reload": REFUSED_OPTIONS["--dev"],
    "--root-path": "a path in front of MLflow is set with --static-prefix",
}
PREFIX_OPTION, PREFIX_VARIABLES = "--static-prefix", ("MLFLOW_STATIC_PREFIX", "_MLFLOW_STATIC_PREFIX")
# MLflow keeps them for itself, whatever follows.
RESERVED_PATHS = ("/health", "/static", "/favicon.ico")
PREFIXED_ROUTES = ("/api/2.0/mlflow/runs/create", "/ajax-api/3.0/mlflow/traces", "/gateway/a", "/graphql", "/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns only if MLflow can't be started, or with ``--check``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        _parser().print_help()
        return 0
    check_only = words[:1] == ["--check"]
    if check_only:
        words = words[1:]
    try:
        start = prepare(words, os.environ)
    except ConfigurationError as error:
        print("MLflow does not start:", file=sys.stderr)
        for mistake in error.mistakes:
            print(f"  - {mistake}", file=sys.stderr)
        return 1
    if check_only:
        print("the configuration is complete")
        return 0
    sys.stdout.flush()
    os.execve(start.command[0], start.command, start.environment)


@dataclass(frozen=True)
class Start:
    """How MLflow is started."""

    command: list[str]
    environment: dict[str, str]


def prepare(words: Sequence[str], environment: Mapping[str, str]) -> Start:
    """Raises ``ConfigurationError`` with every mistake."""
    mistakes: list[str] = []
    prepared = dict(environment)
    _collect(mistakes, lambda: settings.Settings.from_environment(environment))
    mistakes.extend(_options(words))
    mistakes.extend(_variables(environment))
    mistakes.extend(_options_of_uvicorn(words, environment))
    prefixes = dict(_prefixes(words, environment))
    mistakes.extend(
        f"{name} must not begin with {', '.join(RESERVED_PATHS[:-1])} or {RESERVED_PATHS[-1]}:"
        " take another path, such as /mlflow"
        for prefix, name in prefixes.items()
        if prefix.startswith(RESERVED_PATHS)
    )
    if environment.get(FAIL_CLOSED, "true").strip().lower() in ("false", "0"):
        mistakes.append(f"{FAIL_CLOSED} is off: routes that MLflow has no rule for would be open; remove it")
    prepared.setdefault(settings.BOOTSTRAP_ADMIN, settings.DEFAULT_BOOTSTRAP_ADMIN)
    # MLflow wants an administrator with a password before it starts. Nobody is to know this one, and the assertion's
    # check refuses the name.
    prepared[ADMIN_PASSWORD] = secrets.token_urlsafe(32)
    # It protects a form that is closed here. All workers inherit it.
    if not prepared.get(SECRET_KEY):
        prepared[SECRET_KEY] = secrets.token_urlsafe(32)
    text = ""
    if path := environment.get(CONFIG_PATH):
        mistakes.extend(check_ini(Path(path)))
    else:
        text, more = make_ini(environment)
        mistakes.extend(more)
    if not mistakes:
        if not path:
            prepared[CONFIG_PATH] = str(_write(text))
        mistakes.extend(_check_mlflow(prepared, prefixes))
    if mistakes:
        raise ConfigurationError(mistakes)
    # `mlflow` is looked for beside this interpreter, so that the versions fit.
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *words]
    return Start(command, prepared)


def make_ini(environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """MLflow's auth configuration as a text, and what is wrong with the variables that it is made from."""
    mistakes = []
    permission = environment.get(DEFAULT_PERMISSION, "").strip() or "READ"
    if permission not in PERMISSIONS:
        mistakes.append(f"{DEFAULT_PERMISSION} is {permission!r}; it must be one of: {', '.join(PERMISSIONS)}")
    uri = environment.get(DATABASE_URI, "").strip()
    if not uri:
        mistakes.append(
            f"{DATABASE_URI} is not set: where users and permissions are kept, for example"
            " sqlite:////var/lib/mlflow/auth.db or postgresql+psycopg2://mlflow@postgres:5432/mlflow_auth"
        )
    elif "://" not in uri or not uri.isprintable():
        mistakes.append(f"{DATABASE_URI} is not an address of a database")
    # The parser of MLflow takes % for the beginning of a reference.
    lines = [
        "[mlflow]",
        f"default_permission = {permission}",
        f"database_uri = {uri.replace('%', '%%')}",
        f"admin_username = {environment.get(settings.BOOTSTRAP_ADMIN) or settings.DEFAULT_BOOTSTRAP_ADMIN}".replace(
            "%", "%%"
        ),
        f"authorization_function = {FUNCTION}",
    ]
    return "\n".join(lines) + "\n", mistakes


def check_ini(path: Path) -> list[str]:
    """What is wrong with an ini that the operator wrote. Values are not repeated: an address may have a password."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except OSError as error:
        return [f"{CONFIG_PATH}: {path} can't be read: {error.strerror}"]
    except (UnicodeDecodeError, configparser.Error) as error:
        return [f"{path} is not an ini file: {type(error).__name__}"]
    if "mlflow" not in parser:
        return [f"{path} has no section [mlflow]"]
    section = parser["mlflow"]
    mistakes = []
    values: dict[str, str | None] = {}
    for name in ("default_permission", "database_uri", "authorization_function"):
        try:
            values[name] = section.get(name)
        except configparser.InterpolationError:
            mistakes.append(f"{path}: {name} has a single %; write it twice: %%")
            continue
        if not values[name]:
            mistakes.append(f"{path} has no line {name}")
    permission = values.get("default_permission")
    if permission and permission not in PERMISSIONS:
        mistakes.append(f"{path}: default_permission must be one of: {', '.join(PERMISSIONS)}")
    function = values.get("authorization_function")
    if function and function != FUNCTION:
        mistakes.append(f"{path}: authorization_function is {function!r}; it must be {FUNCTION}")
    return mistakes


def _options(words: Sequence[str]) -> list[str]:
    mistakes = []
    for word in words:
        name, _, _ = word.partition("=")
        if name == "--app-name":
            mistakes.append("--app-name is set by this command")
        elif name in REFUSED_OPTIONS:
            mistakes.append(f"{name} is not supported: {REFUSED_OPTIONS[name]}")
    return mistakes


def _variables(environment: Mapping[str, str]) -> Iterator[str]:
    for name, option in REFUSED_VARIABLES.items():
        if environment.get(name):
            yield f"{name} is not supported: {REFUSED_OPTIONS[option]}; remove it"
    for option, reason in REFUSED_OF_UVICORN.items():
        name = "UVICORN_" + option.lstrip("-").replace("-", "_").upper()
        if environment.get(name):
            yield f"{name} is not supported: {reason}; remove it"


def _options_of_uvicorn(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    given = [(UVICORN_OPTIONS, text) for text in _values(words, UVICORN_OPTIONS)]
    given.append((UVICORN_VARIABLE, environment.get(UVICORN_VARIABLE, "")))
    for source, text in given:
        try:
            names = {word.partition("=")[0] for word in shlex.split(text)}
        except ValueError:
            yield f"{source} can't be read: a quote is open"
            continue
        for option in sorted(names & REFUSED_OF_UVICORN.keys()):
            yield f"{option} in {source} is not supported: {REFUSED_OF_UVICORN[option]}"


def _prefixes(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each path that somebody put in front of MLflow, and where it is said."""
    for name in PREFIX_VARIABLES:
        if prefix := environment.get(name):
            yield prefix, name
    for prefix in _values(words, PREFIX_OPTION):
        yield prefix, PREFIX_OPTION


def _values(words: Sequence[str], option: str) -> Iterator[str]:
    """What is given to an option, as ``--option value`` or ``--option=value``. There are no other spellings."""
    for place, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name == option and (sign or place + 1 < len(words)):
            yield value if sign else words[place + 1]


def _check_mlflow(environment: Mapping[str, str], prefixes: Mapping[str, str]) -> list[str]:
    """Whether this MLflow has what is used of it. Imports it, with the configuration that it will get."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with warnings.catch_warnings():
            # MLflow says the same again when it starts.
            warnings.simplefilter("ignore")
            missing = list(_missing())
            mistakes = [] if missing else list(_unfit(prefixes))
            mistakes.extend(_foreign(environment[CONFIG_PATH]))
    except ImportError as error:
        return [f"MLflow with its extra 'auth' is not installed: {error}; pip install 'mlflow[auth]'"]
    finally:
        _restore(os.environ, before)
    if missing:
        version = importlib.import_module("mlflow.version").VERSION
        return [f"MLflow {version} is not supported: it lacks {', '.join(missing)}"]
    return mistakes


def _unfit(prefixes: Mapping[str, str]) -> Iterator[str]:
    """Asks MLflow itself, which may keep more paths than are known here. The caller restores the environment."""
    from mlflow.server import auth, handlers

    for prefix, name in prefixes.items():
        os.environ[handlers.STATIC_PREFIX_ENV_VAR] = prefix
        if any(auth.is_unprotected_route(prefix.rstrip("/") + route) for route in PREFIXED_ROUTES):
            yield f"{name}: this MLflow can't be at {prefix}: take another path, such as /mlflow"


def _foreign(path: str) -> list[str]:
    """A database that does not answer is left to MLflow, which waits for it."""
    from sqlalchemy.exc import SQLAlchemyError

    from oidc_gate_mlflow import stores

    parser = configparser.ConfigParser()
    parser.read(path, encoding="utf-8")
    try:
        return [stores.FOREIGN] if stores.has_foreign_tables(parser["mlflow"]["database_uri"]) else []
    except (SQLAlchemyError, ImportError):
        return []


def _missing() -> Iterator[str]:
    for module, names in NEEDED:
        for name in names:
            if not hasattr(importlib.import_module(module), name):
                yield f"{module}.{name}"
    module, _, function = FUNCTION.partition(":")
    if not callable(getattr(importlib.import_module(module), function, None)):
        yield FUNCTION
    if not importlib.import_module("oidc_gate_mlflow.bridge").supported():
        yield "mlflow.server.auth._authenticate_custom_for_fastapi"


def _restore(environment: MutableMapping[str, str], before: Mapping[str, str]) -> None:
    for name in set(environment) - set(before):
        del environment[name]
    environment.update(before)


def _write(text: str) -> Path:
    """Into a folder that only this user can enter: the database's address may have a password.

    The name follows from the content, so a restart writes the same file again and leaves no other behind.
    """
    folder = Path(tempfile.gettempdir()) / f"oidc-gate-mlflow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigurationError([f"{folder} must be a folder of this user that others can't enter; remove it"])
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.ini"
    descriptor, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)
    return path


def _collect(mistakes: list[str], check: object) -> None:
    try:
        check()  # type: ignore[operator]
    except ConfigurationError as error:
        mistakes.extend(error.mistakes)


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="oidc-gate-mlflow-server",
        usage="oidc-gate-mlflow-server [--check] [options of mlflow server]",
        description="Starts MLflow behind oidc-gate, or says why not. With --check it only checks.",
        epilog="README.md of this package lists the environment variables.",
    )


if __name__ == "__main__":
    sys.exit(main())
