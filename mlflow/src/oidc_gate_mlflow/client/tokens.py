"""A token that is good for a while, for one tracking server."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from oidc_gate_mlflow.client.cache import Cache, Stored
from oidc_gate_mlflow.client.config import (
    CLIENT_SECRET,
    INSECURE_HTTP,
    ISSUER,
    TOKEN_FILE,
    TRACKING_URI,
    Config,
    secure,
)
from oidc_gate_mlflow.client.errors import LoginNeeded, OAuthError, ProviderAway, TokenError
from oidc_gate_mlflow.client.oauth import Grant, Provider, patiently

# A token is renewed when less than this is left, or less than half of its life where that is shorter.
MARGIN_SECONDS = 15.0

_logger = logging.getLogger("oidc_gate_mlflow.client")


def stored(grant: Grant, server: str, provider: Provider, scope: str, now: float) -> Stored:
    return Stored(
        server=server,
        issuer=provider.issuer,
        client_id=provider.client_id,
        scope=scope,
        access_token=grant.access_token,
        expires_at=now + grant.lifetime,
        lifetime=grant.lifetime,
        refresh_token=grant.refresh_token,
        user=user_of(grant.access_token),
    )


def user_of(token: str) -> str:
    """The name in an access token, to be shown. It is not verified, and may be missing."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return str(claims.get("preferred_username") or claims.get("sub") or "")
    except (IndexError, ValueError, AttributeError):
        return ""


class Tokens:
    """Where the token for ``server`` comes from: a file, a client secret, or a person's sign-in.

    One thread of one process renews it; the others wait and take the result.
    """

    def __init__(
        self,
        config: Config,
        server: str,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        secure(server, "the tracking server", insecure_http=config.insecure_http)
        if (config.token_file or config.client_secret) and config.server != server:
            # A secret of the environment belongs to the server of the environment, not to one that a program names.
            raise TokenError(
                f"the token of this environment is for {config.server or 'no server'} and is not sent to {server}."
                f" Set {TRACKING_URI} in the environment to the server that it is for"
            )
        self._config = config
        self._server = server
        self._clock = clock
        self._sleep = sleep
        self._mutex = threading.Lock()
        self._known: Stored | None = None
        kind = f"service {config.issuer} {config.client_id}" if config.client_secret else "person"
        self.cache = Cache(config.folder, server, kind)
        self._provider: Provider | None = None

    def reset_after_fork(self) -> None:
        """In the child, nobody will ever release a lock that a thread of the parent held."""
        self._mutex = threading.Lock()

    def get(self, refused: str | None = None) -> str:
        """An access token, but never ``refused``, which the server did not accept.

        Raises ``TokenError``, whose message says what to do, or ``ProviderAway``.
        """
        if self._config.token_file is not None:
            return self._from_file(refused)
        known = self._known
        if known is not None and self._fresh(known, refused):
            return known.access_token
        with self._mutex:
            if self._known is not None and self._fresh(self._known, refused):
                return self._known.access_token
            try:
                self._known = patiently(
                    lambda: self._renew(refused),
                    patience=self._config.patience,
                    on_wait=lambda away: _logger.warning("%s; trying again", away),
                    sleep=self._sleep,
                )
            except ProviderAway as away:
                raise ProviderAway(f"it did not answer for {self._config.patience:.0f} seconds") from away
            assert self._known is not None  # noqa: S101 (for mypy)
            return self._known.access_token

    def _fresh(self, stored: Stored, refused: str | None) -> bool:
        left = stored.expires_at - self._clock()
        return stored.access_token != refused and left > min(MARGIN_SECONDS, stored.lifetime / 2)

    def _usable(self, stored: Stored | None, refused: str | None) -> bool:
        return stored is not None and stored.access_token != refused and stored.expires_at > self._clock() + 1

    def _renew(self, refused: str | None) -> Stored:
        with self.cache.locked():
            there = self.cache.read()
            if there is not None and self._fresh(there, refused):
                return there
            try:
                new = self._ask(there)
            except ProviderAway:
                if there is not None and self._usable(there, refused):
                    return there
                raise
            self.cache.write(new)
            return new

    def _ask(self, there: Stored | None) -> Stored:
        if self._config.client_secret is not None:
            provider = self._service()
            grant = provider.grant("client_credentials", scope=self._config.scope)
            return stored(grant, self._server, provider, self._config.scope, self._clock())
        if there is None:
            raise LoginNeeded(
                f"nobody is signed in to {self._server}. Run: python -m oidc_gate_mlflow login --server {self._server}"
            )
        if there.server != self._server:
            raise TokenError(f"{self.cache.path} is for another server; run logout and login")
        if there.refresh_token is None:
            raise LoginNeeded(self._ended("it can't be renewed"))
        provider = self._person(there)
        try:
            grant = provider.grant("refresh_token", refresh_token=there.refresh_token)
        except OAuthError as error:
            if error.code != "invalid_grant":
                raise
            # Nothing can be done with it any more. The file stays, for the address of the provider.
            self.cache.write(replace(there, refresh_token=None))
            raise LoginNeeded(self._ended("it has expired, or somebody signed you out")) from None
        new = stored(grant, self._server, provider, there.scope, self._clock())
        # RFC 6749 6: without a new refresh token the old one stays good.
        return new if new.refresh_token else replace(new, refresh_token=there.refresh_token)

    def _ended(self, why: str) -> str:
        return (
            f"your sign-in to {self._server} has ended: {why}."
            f" Run: python -m oidc_gate_mlflow login --server {self._server}"
        )

    def _service(self) -> Provider:
        if self._config.issuer is None:
            raise TokenError(f"{CLIENT_SECRET} needs {ISSUER}, the address of the identity provider")
        if self._provider is None:
            self._provider = Provider(
                self._config.issuer,
                self._config.client_id,
                self._config.client_secret,
                insecure_http=self._config.insecure_http,
            )
        return self._provider

    def _person(self, there: Stored) -> Provider:
        if self._provider is None or self._provider.issuer != there.issuer:
            secure(there.issuer, f"the issuer (see {INSECURE_HTTP})", insecure_http=self._config.insecure_http)
            self._provider = Provider(there.issuer, there.client_id, None, insecure_http=self._config.insecure_http)
        return self._provider

    def _from_file(self, refused: str | None) -> str:
        """Read for every request: who keeps the file fresh says nothing when it has changed."""
        path = self._config.token_file
        assert path is not None  # noqa: S101 (for mypy)
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(f"{TOKEN_FILE}: {path} can't be read: {type(error).__name__}") from None
        if not token or not token.isprintable() or " " in token:
            raise TokenError(f"{TOKEN_FILE}: {path} does not contain one token")
        if token == refused:
            raise TokenError(f"{TOKEN_FILE}: the server refused the token in {path}, and nobody has renewed it")
        return token
