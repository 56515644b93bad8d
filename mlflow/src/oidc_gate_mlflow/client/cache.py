"""Tokens on disk: for one user only, replaced as a whole, renewed by one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from oidc_gate_mlflow.client.errors import TokenError

try:
    import fcntl
except ImportError:  # pragma: no cover (not on Linux or macOS)
    fcntl = None  # type: ignore[assignment]

VERSION = 1


@dataclass(frozen=True)
class Stored:
    """What is kept for one tracking server. Times are seconds of this machine's clock."""

    server: str
    issuer: str
    client_id: str
    scope: str
    access_token: str = field(repr=False)
    expires_at: float
    lifetime: float
    refresh_token: str | None = field(default=None, repr=False)
    user: str = ""


class Cache:
    """One file with tokens, and the lock beside it."""

    def __init__(self, folder: Path, server: str, kind: str) -> None:
        name = hashlib.sha256(f"{kind} {server}".encode()).hexdigest()[:24]
        self.folder = folder
        self.path = folder / f"{name}.json"
        self._lock = folder / f"{name}.lock"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Held while a token is renewed: a refresh token that is used twice ends the session at many providers."""
        if fcntl is None:
            raise TokenError("this system has no file locks, so a token can't be kept here; use a token file")
        self._prepare()
        descriptor = os.open(self._lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Stored | None:
        """None if there is nothing, or nothing that can be understood. Raises ``TokenError`` if others may read it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TokenError(f"{self.path} can't be read: {error.strerror}") from None
        with os.fdopen(descriptor, encoding="utf-8") as file:
            _refuse_open_to_others(self.path, os.fstat(file.fileno()))
            try:
                content = json.load(file)
                if content.pop("version", None) != VERSION:
                    return None
                return Stored(**content)
            except (ValueError, TypeError, AttributeError):
                return None

    def write(self, stored: Stored) -> None:
        """A reader sees the old file or the new one, never a part."""
        self._prepare()
        descriptor, name = tempfile.mkstemp(dir=self.folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"version": VERSION, **asdict(stored)}, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _prepare(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.stat()
        except OSError as error:
            raise TokenError(f"{self.folder} can't be used for tokens: {error.strerror}") from None
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise TokenError(f"{self.folder} must belong to you, and others must not write to it: chmod 700")


def _refuse_open_to_others(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise TokenError(
            f"{path} must be a file of yours that others can't read. If somebody may have read it, run"
            " `python -m oidc_gate_mlflow logout`; otherwise: chmod 600"
        )
