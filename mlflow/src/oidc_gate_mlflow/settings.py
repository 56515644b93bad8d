"""What the server half reads from the environment. All mistakes are reported together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from oidc_gate_mlflow.assertion import FixedKeys, KeyFile, Keys, parse_keys
from oidc_gate_mlflow.errors import ConfigurationError

KEYS = "ASSERTION_KEYS"
KEYS_FILE = "ASSERTION_KEYS_FILE"
ISSUER = "ASSERTION_ISSUER"
AUDIENCE = "ASSERTION_AUDIENCE"
ADMIN_GROUPS = "OIDC_ADMIN_GROUP_NAME"
BOOTSTRAP_ADMIN = "MLFLOW_AUTH_ADMIN_USERNAME"
AUDIT = "MLFLOW_AUDIT"
PAGE_SCRIPT = "MLFLOW_PAGE_SCRIPT"

DEFAULT_BOOTSTRAP_ADMIN = "oidc-gate-bootstrap"


class Audit(Enum):
    """Which decisions get a line. A refusal always gets one."""

    ALL = "all"
    CHANGES = "changes"
    REFUSALS = "refusals"


@dataclass(frozen=True)
class Settings:
    keys: Keys
    issuer: str
    audience: str
    admin_groups: frozenset[str]
    bootstrap_admin: str
    audit: Audit
    page_script: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises ``ConfigurationError`` with every mistake."""
        mistakes: list[str] = []
        keys: Keys = FixedKeys(())
        try:
            keys = _keys(environment)
        except ConfigurationError as error:
            mistakes.extend(error.mistakes)
        admins = admin_groups(environment.get(ADMIN_GROUPS))
        if not admins:
            mistakes.append(f"{ADMIN_GROUPS} names no group, so nobody could administer MLflow")
        audit = Audit.ALL
        try:
            audit = Audit(environment.get(AUDIT) or "all")
        except ValueError:
            mistakes.append(f"{AUDIT} must be one of: {', '.join(level.value for level in Audit)}")
        page_script = environment.get(PAGE_SCRIPT) or "on"
        if page_script not in ("on", "off"):
            mistakes.append(f"{PAGE_SCRIPT} must be on or off")
        if mistakes:
            raise ConfigurationError(mistakes)
        return cls(
            keys=keys,
            issuer=environment.get(ISSUER) or "oidc-gate",
            audience=environment.get(AUDIENCE) or "mlflow",
            admin_groups=admins,
            bootstrap_admin=environment.get(BOOTSTRAP_ADMIN) or DEFAULT_BOOTSTRAP_ADMIN,
            audit=audit,
            page_script=page_script == "on",
        )


def admin_groups(text: str | None) -> frozenset[str]:
    """From the variable. None is the default, and an empty text no group."""
    return frozenset(group_name(word) for word in _words("mlflow_admins" if text is None else text))


def group_name(group: str) -> str:
    """Without one leading slash, as the gate compares groups: ``/a/b`` is ``a/b``, and never ``b``."""
    return group.removeprefix("/")


def role_name(group: str) -> str:
    """How a role for this group is written: with the leading slash of a path, and without that of a top-level group."""
    return group if "/" in group_name(group) else group_name(group)


def _keys(environment: Mapping[str, str]) -> Keys:
    text, path = environment.get(KEYS, ""), environment.get(KEYS_FILE, "")
    if text.strip() and path:
        raise ConfigurationError([f"both {KEYS} and {KEYS_FILE} are set; keep one"])
    if path:
        try:
            return KeyFile(Path(path))
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "not a text"
            raise ConfigurationError([f"{KEYS_FILE}: {path} can't be read: {problem}"]) from None
    if not text.strip():
        raise ConfigurationError(
            [f"{KEYS} is not set. The gate and MLflow need the same key; make one with: openssl rand -base64 32"]
        )
    return FixedKeys(parse_keys(text, KEYS))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
