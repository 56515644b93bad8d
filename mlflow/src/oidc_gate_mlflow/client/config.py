"""Where tokens come from and where they may go, by the environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from oidc_gate_mlflow.client.errors import TokenError

ISSUER = "OIDC_GATE_ISSUER"
CLIENT_ID = "OIDC_GATE_CLIENT_ID"
CLIENT_SECRET = "OIDC_GATE_CLIENT_SECRET"
CLIENT_SECRET_FILE = "OIDC_GATE_CLIENT_SECRET_FILE"
SCOPE = "OIDC_GATE_SCOPE"
TOKEN_FILE = "OIDC_GATE_TOKEN_FILE"
CACHE_DIR = "OIDC_GATE_CACHE_DIR"
PATIENCE = "OIDC_GATE_PATIENCE"
INSECURE_HTTP = "OIDC_GATE_INSECURE_HTTP"
TRACKING_URI = "MLFLOW_TRACKING_URI"

DEFAULT_CLIENT_ID = "mlflow-cli"
DEFAULT_PATIENCE_SECONDS = 600.0
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Config:
    """``server`` is the one origin that a token from a secret or a file is sent to."""

    issuer: str | None = None
    client_id: str = DEFAULT_CLIENT_ID
    client_secret: str | None = field(default=None, repr=False)
    scope: str = "openid"
    token_file: Path | None = None
    folder: Path = Path()
    patience: float = DEFAULT_PATIENCE_SECONDS
    insecure_http: bool = False
    server: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Config:
        """Raises ``TokenError``."""
        env = os.environ if environment is None else environment
        insecure = env.get(INSECURE_HTTP, "").lower() in ("1", "true", "yes")
        issuer = env.get(ISSUER) or None
        if issuer is not None:
            secure(issuer, ISSUER, insecure_http=insecure)
        uri = env.get(TRACKING_URI, "")
        token_file = env.get(TOKEN_FILE)
        try:
            patience = float(env.get(PATIENCE) or DEFAULT_PATIENCE_SECONDS)
        except ValueError:
            raise TokenError(f"{PATIENCE} must be a number of seconds") from None
        return cls(
            issuer=issuer,
            client_id=env.get(CLIENT_ID) or DEFAULT_CLIENT_ID,
            client_secret=_secret(env),
            scope=env.get(SCOPE) or "openid",
            token_file=Path(token_file) if token_file else None,
            folder=_folder(env),
            patience=patience,
            insecure_http=insecure,
            server=origin(uri) if uri.startswith(("http://", "https://")) else None,
        )


def origin(url: str) -> str:
    """Scheme, host and port as RFC 6454 compares them. Raises ``TokenError``."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise TokenError(f"{url!r} is not an http or https address") from None
    if not parts.hostname:
        raise TokenError(f"{url!r} has no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def secure(url: str, what: str, *, insecure_http: bool) -> None:
    """Raises ``TokenError`` for an address to which a token would travel in the clear."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and (insecure_http or _is_loopback(parts.hostname)):
        return
    raise TokenError(
        f"{what} is {url!r}, which is not https. If the network in between is yours alone, set {INSECURE_HTTP}=yes"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _secret(env: Mapping[str, str]) -> str | None:
    secret, path = env.get(CLIENT_SECRET) or None, env.get(CLIENT_SECRET_FILE)
    if secret and path:
        raise TokenError(f"both {CLIENT_SECRET} and {CLIENT_SECRET_FILE} are set; keep one")
    if path:
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(f"{CLIENT_SECRET_FILE}: {path} can't be read: {type(error).__name__}") from None
        if not secret:
            raise TokenError(f"{CLIENT_SECRET_FILE}: {path} is empty")
    return secret


def _folder(env: Mapping[str, str]) -> Path:
    if own := env.get(CACHE_DIR):
        return Path(own)
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "oidc-gate-mlflow"
