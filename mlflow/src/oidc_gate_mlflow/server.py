"""The ``authorization_function`` for ``mlflow server --app-name basic-auth``.

MLflow asks ``authorize`` who the caller is, several times in one request, and then decides what he may do. So nothing
here grants anything: it verifies the gate's assertion, makes MLflow's user and roles follow it, and makes the request
say what is true.
"""

from __future__ import annotations

import functools
import hmac
import logging
import os
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, after_this_request, g, has_request_context, request
from mlflow.exceptions import MlflowException
from mlflow.server import auth
from mlflow.version import VERSION
from werkzeug.datastructures import Authorization

from oidc_gate_mlflow import audit, body, bridge, otlp, owners, responses, routes
from oidc_gate_mlflow.accounts import Account, Accounts
from oidc_gate_mlflow.assertion import HEADER, Identity, InvalidAssertion, Verifier
from oidc_gate_mlflow.audit import Decision
from oidc_gate_mlflow.errors import ConfigurationError, Refusal, denied, unauthenticated, unavailable
from oidc_gate_mlflow.settings import Settings

JOB_TOKEN = "_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN"
MEMO = "_oidc_gate_mlflow"
ACCOUNT = "_oidc_gate_mlflow_account"

_logger = logging.getLogger("oidc_gate_mlflow.server")


def authorize() -> Authorization | Response:
    """The caller, or the answer that refuses the request. Decided once in a request."""
    known: Authorization | Response | None = g.get(MEMO)
    if known is None:
        known = _decide()
        setattr(g, MEMO, known)
    return known


@dataclass(frozen=True)
class _Gate:
    """What is made once in a process."""

    settings: Settings
    verifier: Verifier
    accounts: Accounts
    descriptors: dict[tuple[str, str], Any]


@functools.cache
def _gate() -> _Gate:
    settings = Settings.from_environment(os.environ)
    audit.show()
    otlp.install()
    responses.install()
    _share_the_row(auth.store)
    return _Gate(
        settings=settings,
        verifier=Verifier(settings.keys, issuer=settings.issuer, audience=settings.audience),
        accounts=Accounts(auth.store, settings),
        descriptors=routes.descriptors(),
    )


def _share_the_row(store: Any) -> None:
    """MLflow reads the caller's row up to three times more in a request. It gets the one that was read first."""
    find = store.get_user

    def get_user(username: str) -> Any:
        account: Account | None = g.get(ACCOUNT) if has_request_context() else None
        return account.user() if account is not None and account.name == username else find(username)

    store.get_user = get_user


def _decide() -> Authorization | Response:
    rule = request.url_rule.rule if request.url_rule is not None else request.path
    if routes.unprefixed(rule) == "/version" and request.method in ("GET", "HEAD"):
        # Promised to be public. MLflow's own check would ask for a user.
        return Response(VERSION, mimetype="text/html")
    arrived = bridge.arrived()
    decision = Decision(
        user="",
        method=request.method,
        route=request.path if arrived is not None else rule,
        object=routes.object_of(request, None),
        allowed=False,
        reason="",
        request_id=request.headers.get("X-Request-Id", ""),
    )
    try:
        gate = _gate()
    except ConfigurationError as error:
        _logger.error("MLflow is not configured: %s", error)
        return responses.of_refusal(unavailable("MLflow is not configured.", "configuration"))
    try:
        caller = _caller(gate, arrived)
        # Also where the name turns out to be somebody else's.
        decision = replace(decision, user=caller if isinstance(caller, str) else caller.name)
        account = gate.accounts.known(caller) if isinstance(caller, str) else gate.accounts.apply(caller)
        setattr(g, ACCOUNT, account)
        otlp.keeps_owners.set(account.is_admin)
        if arrived is None:
            content = body.read(request, rule)
            decision = replace(decision, object=routes.object_of(request, content))
            _check(gate, account, rule, content)
    except Refusal as refusal:
        audit.record(replace(decision, reason=refusal.reason, status=refusal.status), gate.settings.audit)
        return responses.of_refusal(refusal)
    if arrived is None:
        after_this_request(functools.partial(_finish, decision, gate.settings))
    else:
        # MLflow's own decision about this route can't be seen from here: this line says who asked.
        audit.record(replace(decision, allowed=True, reason="signed_in"), gate.settings.audit)
    return Authorization("bearer", {"username": account.name})


def _caller(gate: _Gate, arrived: Any | None) -> Identity | str:
    """Who the assertion says it is; for a job of MLflow's, the name of its user."""
    values = request.headers.getlist(HEADER) if arrived is None else arrived.headers.getlist(HEADER)
    job_user = _job_user(arrived)
    if job_user is not None and not values:
        return job_user
    try:
        return gate.verifier.verify_header(values)
    except InvalidAssertion as error:
        raise unauthenticated(error.reason) from None


def _job_user(arrived: Any | None) -> str | None:
    """The user of a job: MLflow's job processes call the model gateway with a token that the server gave them."""
    token = os.environ.get(JOB_TOKEN)
    basic = request.authorization
    if not token or arrived is None or basic is None or basic.type != "basic":
        return None
    if not routes.unprefixed(request.path).startswith("/gateway/") or not bridge.from_loopback(arrived):
        return None
    if not hmac.compare_digest((basic.password or "").encode(), token.encode()):
        return None
    return basic.username


def _check(gate: _Gate, account: Account, rule: str, content: dict[str, Any] | None) -> None:
    """Refuses or mends what the request says."""
    operation = routes.operation(rule)
    if operation in routes.LOCAL_ACCOUNTS:
        raise denied("Accounts and passwords are kept at the identity provider.", "local_account")
    fields = gate.descriptors.get((rule, request.method))
    body.refuse_ambiguous(request, content, fields)
    if not account.is_admin and request.method not in audit.READS:
        owners.fix(
            content if content is not None else {},
            operation,
            fields,
            dict(request.view_args or {}) | request.args.to_dict(),
            account.name,
            owners.Traces(_experiment_of_trace),
        )


def _experiment_of_trace(trace_id: str) -> str | None:
    from mlflow.server.handlers import _get_tracking_store

    try:
        experiment: str = _get_tracking_store().get_trace_info(trace_id).experiment_id
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise unavailable("MLflow's database is not available right now.", "database") from None
    return experiment


def _finish(decision: Decision, settings: Settings, response: Response) -> Response:
    allowed = response.status_code not in (401, 403)
    reason = "permitted" if allowed else "mlflow_permissions"
    audit.record(replace(decision, allowed=allowed, reason=reason, status=response.status_code), settings.audit)
    return responses.finish(response, page_script=settings.page_script)
