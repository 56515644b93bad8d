"""The gate's signed statement about the user of a request: keys, and verification.

The contract with the gate is in README.md, "The assertion". This module knows nothing of MLflow.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jwt

from oidc_gate_mlflow.errors import ConfigurationError

HEADER = "X-MLflow-Authorization"
ALGORITHM = "HS256"
MAX_LIFETIME_SECONDS = 60
LEEWAY_SECONDS = 5
MIN_KEY_BYTES = 32
# As the gate has it: about one in ten thousand keys of 32 random hexadecimal digits has fewer.
MIN_DIFFERENT_BYTES = 10
MAX_TOKEN_BYTES = 32 * 1024
MAX_NAME_CHARACTERS = 255
KEY_ID_LABEL = b"oidc-gate assertion key id"
FILE_CHECK_SECONDS = 5.0
REQUIRED_CLAIMS = ("iss", "aud", "sub", "name", "groups", "iat", "exp")

_logger = logging.getLogger("oidc_gate_mlflow.assertion")


class InvalidAssertion(Exception):
    """``reason`` is a fixed label: it never contains a part of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Identity:
    """What a verified assertion says."""

    subject: str
    name: str
    groups: frozenset[str]
    client_id: str | None = None


@dataclass(frozen=True)
class Key:
    """One HMAC key. It is not printed."""

    value: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Both sides compute the ``kid`` from the key, so there is no second setting that could be wrong."""
        return hmac.new(self.value, KEY_ID_LABEL, hashlib.sha256).hexdigest()[:16]


def parse_keys(text: str, source: str) -> tuple[Key, ...]:
    """The keys of a list with commas or line breaks, as ``SECRET_KEY`` of the gate has them.

    Raises ``ConfigurationError``, which names places and never values.
    """
    words = [word.strip() for word in text.replace("\n", ",").split(",")]
    words = [word for word in words if word]
    mistakes = []
    if not words:
        mistakes.append(f"{source} has no key; make one with: openssl rand -base64 32")
    for place, word in enumerate(words, start=1):
        if len(word.encode()) < MIN_KEY_BYTES:
            mistakes.append(
                f"{source}: key {place} has less than {MIN_KEY_BYTES} bytes; make one with: openssl rand -base64 32"
            )
        elif len(set(word.encode())) < MIN_DIFFERENT_BYTES:
            mistakes.append(f"{source}: key {place} is not random; make one with: openssl rand -base64 32")
    if len(set(words)) != len(words):
        mistakes.append(f"{source} has the same key twice")
    if mistakes:
        raise ConfigurationError(mistakes)
    return tuple(Key(word.encode()) for word in words)


class Keys(Protocol):
    """Where the verifier finds a key."""

    def find(self, key_id: str) -> Key | None: ...


class FixedKeys:
    """Keys that stay as they are until the process ends."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._by_id = {key.id: key for key in keys}

    def find(self, key_id: str) -> Key | None:
        return self._by_id.get(key_id)


class KeyFile:
    """Keys in a file that is read again when it has changed, so that a rotation needs no restart.

    A changed file with mistakes is ignored: the keys from before stay, because without them nobody could sign in.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._looked = clock()
        self._keys = FixedKeys(self._read())

    def find(self, key_id: str) -> Key | None:
        with self._lock:
            found = self._keys.find(key_id)
            # A key that is unknown may be a new one. The gate never signs with more keys than a rotation has, but a
            # stranger can invent key ids, so even then the file is not looked at for every request.
            if self._clock() - self._looked >= (FILE_CHECK_SECONDS if found else FILE_CHECK_SECONDS / 10):
                self._looked = self._clock()
                self._reload()
                found = self._keys.find(key_id)
            return found

    def _reload(self) -> None:
        try:
            if self._stat() != self._stamp:
                self._keys = FixedKeys(self._read())
        except (OSError, UnicodeDecodeError, ConfigurationError) as error:
            problem = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
            _logger.error("%s was not read again, so the keys from before stay: %s", self._path, problem)

    def _stat(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def _read(self) -> tuple[Key, ...]:
        stamp = self._stat()
        keys = parse_keys(self._path.read_text(encoding="utf-8"), str(self._path))
        self._stamp = stamp
        return keys


class Verifier:
    """Turns the text of a header into an ``Identity``, or raises ``InvalidAssertion``."""

    def __init__(self, keys: Keys, *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    def verify_header(self, values: Sequence[str]) -> Identity:
        """``values`` are all values of the header. Some servers join them with a comma, which no token contains."""
        if not values:
            raise InvalidAssertion("assertion_missing")
        if len(values) > 1 or "," in values[0]:
            raise InvalidAssertion("assertion_twice")
        scheme, _, token = values[0].strip().partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidAssertion("assertion_scheme")
        return self.verify(token.strip())

    def verify(self, token: str) -> Identity:
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidAssertion("assertion_too_long")
        key = self._key(token)
        try:
            claims = jwt.decode(
                token,
                key.value,
                # RFC 8725 3.1: the algorithm is ours to say, never the token's.
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(REQUIRED_CLAIMS), "strict_aud": True},
            )
        except jwt.InvalidTokenError as error:
            raise InvalidAssertion(_reason(error)) from None
        return _identity(claims)

    def _key(self, token: str) -> Key:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise InvalidAssertion("assertion_malformed") from None
        if header.get("alg") != ALGORITHM:
            raise InvalidAssertion("assertion_algorithm")
        # RFC 7515 4.1.11: an extension that is not understood has to be refused, and none is.
        if "crit" in header:
            raise InvalidAssertion("assertion_extension")
        key_id = header.get("kid")
        key = self._keys.find(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise InvalidAssertion("assertion_key_unknown")
        return key


_REASONS: tuple[tuple[type[jwt.InvalidTokenError], str], ...] = (
    (jwt.ExpiredSignatureError, "assertion_expired"),
    (jwt.ImmatureSignatureError, "assertion_from_the_future"),
    (jwt.InvalidAudienceError, "assertion_audience"),
    (jwt.InvalidIssuerError, "assertion_issuer"),
    (jwt.MissingRequiredClaimError, "assertion_claim_missing"),
    (jwt.InvalidSignatureError, "assertion_signature"),
)


def _reason(error: jwt.InvalidTokenError) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "assertion_malformed")


def _identity(claims: Mapping[str, Any]) -> Identity:
    issued, expires = claims["iat"], claims["exp"]
    if type(issued) is not int or type(expires) is not int:
        raise InvalidAssertion("assertion_claim_type")
    # A longer life would outlive a sign-out, so it is a mistake of the signer and not a matter of taste.
    if not 0 < expires - issued <= MAX_LIFETIME_SECONDS:
        raise InvalidAssertion("assertion_lifetime")
    groups = claims["groups"]
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise InvalidAssertion("assertion_claim_type")
    client_id = claims.get("client_id")
    if client_id is not None and not isinstance(client_id, str):
        raise InvalidAssertion("assertion_claim_type")
    return Identity(
        subject=_text(claims["sub"]),
        name=_text(claims["name"]),
        groups=frozenset(groups),
        client_id=client_id,
    )


def _text(value: object) -> str:
    """A name that fits MLflow's column, and that looks in a log like what it is."""
    if not isinstance(value, str):
        raise InvalidAssertion("assertion_claim_type")
    if not value or len(value) > MAX_NAME_CHARACTERS or value != value.strip() or not value.isprintable():
        raise InvalidAssertion("assertion_name")
    return value
