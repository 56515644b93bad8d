"""The commands: for people ``login``, ``logout``, ``status``, ``token``; for operators ``assign-owners``,
``release`` and ``import-permissions``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence

from oidc_gate_mlflow.client import login as sign_in
from oidc_gate_mlflow.client.cache import Stored
from oidc_gate_mlflow.client.config import CLIENT_ID, ISSUER, TRACKING_URI, Config, origin, secure
from oidc_gate_mlflow.client.errors import ProviderAway, TokenError
from oidc_gate_mlflow.client.oauth import Provider
from oidc_gate_mlflow.client.tokens import Tokens, stored

OFFLINE = "offline_access"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (TokenError, ProviderAway) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    return code


def login(options: argparse.Namespace) -> int:
    config = Config.from_environment()
    server = _server(options, config)
    tokens = Tokens(_of_a_person(config), server)
    before = tokens.cache.read()
    issuer = options.issuer or config.issuer or (before.issuer if before else None)
    if issuer is None:
        raise TokenError(f"which identity provider? Give --issuer, or set {ISSUER}")
    secure(issuer, "the issuer", insecure_http=config.insecure_http)
    client_id = options.client_id or os.environ.get(CLIENT_ID) or (before.client_id if before else config.client_id)
    provider = Provider(issuer, client_id, None, insecure_http=config.insecure_http)
    scope = " ".join(dict.fromkeys([*config.scope.split(), *([OFFLINE] if options.offline else [])]))
    how = options.how or ("browser" if sign_in.has_browser() else "device")
    grant = sign_in.with_browser(provider, scope) if how == "browser" else sign_in.with_device(provider, scope)
    new = stored(grant, server, provider, scope, time.time())
    with tokens.cache.locked():
        tokens.cache.write(new)
    print(f"signed in to {server}" + (f" as {new.user}" if new.user else ""))
    if grant.refresh_token is None:
        print(f"the token can't be renewed: it is good for {_minutes(grant.lifetime)}", file=sys.stderr)
    print(f"now: export {TRACKING_URI}={server} MLFLOW_TRACKING_AUTH=oidc-gate")
    return 0


def logout(options: argparse.Namespace) -> int:
    config = Config.from_environment()
    server = _server(options, config)
    cache = Tokens(_of_a_person(config), server).cache
    problem = ""
    with cache.locked():
        try:
            there = cache.read()
        except TokenError:
            # Its content can't be trusted, so nothing is sent anywhere. It has to go all the same.
            there = None
            problem = "the file could be read by others and was removed; end the session at the identity provider, too"
        cache.remove()
    if there is None:
        print(problem or f"nobody was signed in to {server}", file=sys.stderr)
        return 1 if problem else 0
    if there.refresh_token is not None:
        provider = Provider(there.issuer, there.client_id, None, insecure_http=config.insecure_http)
        try:
            # RFC 7009. With the refresh token, the provider ends what came from it.
            provider.post("revocation_endpoint", {"token": there.refresh_token, "token_type_hint": "refresh_token"})
        except (TokenError, ProviderAway) as error:
            problem = f"the tokens on this machine are gone, but {error}"
    print(f"signed out of {server}")
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def status(options: argparse.Namespace) -> int:
    config = Config.from_environment()
    server = _server(options, config)
    if config.token_file is not None:
        print(f"{server}: token from the file {config.token_file}")
        return 0
    if config.client_secret is not None:
        print(f"{server}: client {config.client_id} of {config.issuer}, with its secret")
        return 0
    there = Tokens(config, server).cache.read()
    if there is None:
        print(f"{server}: nobody is signed in")
        return 1
    left = there.expires_at - time.time()
    print(f"{server}: {there.user or 'somebody'}, signed in at {there.issuer} as client {there.client_id}")
    print(f"access token: {'good for ' + _minutes(left) if left > 0 else 'expired'}")
    print(f"refresh token: {_refresh(there)}")
    return 0 if left > 0 or there.refresh_token is not None else 1


def token(options: argparse.Namespace) -> int:
    config = Config.from_environment()
    print(Tokens(config, _server(options, config)).get())
    return 0


def assign_owners(options: argparse.Namespace) -> int:
    # MLflow's server is needed for this command only.
    from oidc_gate_mlflow import assign_owners as command

    return command.run(options)


def release(options: argparse.Namespace) -> int:
    from oidc_gate_mlflow import release as command

    return command.run(options)


def import_permissions(options: argparse.Namespace) -> int:
    from oidc_gate_mlflow.importing import command

    return command.run(options)


def _of_a_person(config: Config) -> Config:
    """Signing in is about a person also where the environment has a secret for jobs."""
    return Config(folder=config.folder, patience=config.patience, insecure_http=config.insecure_http)


def _server(options: argparse.Namespace, config: Config) -> str:
    if options.server:
        return origin(options.server)
    if config.server is None:
        raise TokenError(f"which MLflow? Give --server, or set {TRACKING_URI}")
    return config.server


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def _refresh(there: Stored) -> str:
    if there.refresh_token is None:
        return "none, so sign in again when the access token has expired"
    return "offline, so it outlives the session" if OFFLINE in there.scope.split() else "good as long as the session"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m oidc_gate_mlflow", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for run, text in (
        (login, "sign in, in a browser here or with a code anywhere"),
        (logout, "sign out, and remove the tokens of this machine"),
        (status, "who is signed in, and for how long"),
        (token, "print an access token, for curl and other programs"),
    ):
        command = commands.add_parser(run.__name__, help=text, description=text)
        command.add_argument("--server", metavar="URL", help=f"MLflow's public address (default: {TRACKING_URI})")
        command.set_defaults(run=run)
        if run is login:
            command.add_argument("--issuer", metavar="URL", help=f"the identity provider (default: {ISSUER})")
            command.add_argument("--client-id", metavar="ID", help=f"the public client there (default: {CLIENT_ID})")
            command.add_argument("--offline", action="store_true", help="for jobs that outlive the session")
            how = command.add_mutually_exclusive_group()
            how.add_argument("--device", dest="how", action="store_const", const="device", help="with a code")
            how.add_argument("--browser", dest="how", action="store_const", const="browser", help="in this machine's")
    command = commands.add_parser(
        "assign-owners",
        help="give experiments and models of before to their owners",
        description="Gives each experiment, registered model and prompt that nobody owns to the user of its tag"
        " mlflow.user, or of its runs. Run it where MLflow runs, with the variables that MLflow has. Without --apply"
        " it only prints what it would do.",
    )
    command.add_argument("--apply", action="store_true", help="do it")
    command.add_argument("--map", action="append", default=[], metavar="OLD=NEW", help="OLD in the tag is the user NEW")
    command.add_argument("--ignore", action="append", default=[], metavar="NAME", help="this name is no user")
    command.set_defaults(run=assign_owners)
    command = commands.add_parser(
        "release",
        help="let user names be taken by another account of the identity provider",
        description="A user name belongs to the sub that had it first. This makes MLflow forget which one, for a realm"
        " or an account that was made again. The name keeps its permissions, roles and objects, and WHOEVER SIGNS IN"
        " NEXT WITH IT TAKES THEM ALL: first make sure that the identity provider gives the name only to the person"
        " whom you mean. Run it where MLflow runs, with the variables that MLflow has. Without --apply it only prints"
        " what it would do.",
    )
    command.add_argument("names", nargs="*", metavar="NAME", help="a user name")
    command.add_argument("--all", action="store_true", help="every user name")
    command.add_argument("--apply", action="store_true", help="do it")
    command.set_defaults(run=release)
    command = commands.add_parser(
        "import-permissions",
        help="take over users, groups and permissions of mlflow-oidc-auth",
        description="Reads the database of mlflow-oidc-auth 5.6.1 or 11.0.2 and writes its users, and the permissions"
        " of its users and groups, into MLflow's own. Run it where MLflow runs, with the variables that MLflow has."
        " Without --apply it only prints what it would do. It removes and lowers nothing, and it only reads the other"
        " database.",
    )
    command.add_argument(
        "--from", dest="source", metavar="DATABASE_URI", help="of mlflow-oidc-auth (default: OIDC_USERS_DB_URI)"
    )
    command.add_argument("--apply", action="store_true", help="do it")
    command.add_argument("--map", action="append", default=[], metavar="OLD=NEW", help="the user OLD is NEW here")
    command.add_argument("--map-file", metavar="FILE", help="a file with such lines; # begins a remark")
    command.add_argument(
        "--expand-patterns", action="store_true", help="one permission for each object that a pattern fits today"
    )
    command.set_defaults(run=import_permissions)
    with contextlib.suppress(ValueError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return parser
