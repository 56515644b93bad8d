"""One log line for each decision: who wanted what, what was decided, and why."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass

from oidc_gate_mlflow.settings import Audit

LOGGER = "oidc_gate_mlflow.audit"
MAX_VALUE = 200
# What helps, where only who runs the server can help. The name is not put into the command: it comes from outside, and
# somebody will copy the line into a shell.
HELP = {"name_of_another_subject": "python -m oidc_gate_mlflow release NAME"}
READS = ("GET", "HEAD", "OPTIONS")

_logger = logging.getLogger(LOGGER)


@dataclass(frozen=True)
class Decision:
    """``object`` names what the request is about, by the ids that it contains."""

    user: str
    method: str
    route: str
    object: str
    allowed: bool
    reason: str
    status: int | None = None
    request_id: str = ""

    def line(self) -> str:
        words = {
            "decision": "allow" if self.allowed else "refuse",
            "reason": self.reason,
            "user": _quoted(self.user),
            "method": self.method,
            "route": _quoted(self.route),
            "object": _quoted(self.object),
        }
        if self.status is not None:
            words["status"] = str(self.status)
        if self.request_id:
            words["request_id"] = _quoted(self.request_id)
        if self.reason in HELP:
            words["help"] = _quoted(HELP[self.reason])
        return " ".join(f"{name}={value}" for name, value in words.items())


def record(decision: Decision, level: Audit) -> None:
    if not decision.allowed:
        _logger.warning(decision.line())
    elif level is Audit.ALL or (level is Audit.CHANGES and decision.method not in READS):
        _logger.info(decision.line())


def show() -> None:
    """Writes the lines to standard error, unless the operator's logging configuration has taken care of them."""
    if not _logger.handlers and not logging.getLogger("oidc_gate_mlflow").handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        package = logging.getLogger("oidc_gate_mlflow")
        package.addHandler(handler)
        package.setLevel(logging.INFO)
        package.propagate = False


def _quoted(value: str) -> str:
    """As a JSON string: a line break in a name must not begin a new line."""
    return json.dumps(value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "…")
