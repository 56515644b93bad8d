"""The two ways to say no: a request that is refused, and a configuration that is wrong."""

from __future__ import annotations

from collections.abc import Sequence

RETRY_AFTER_SECONDS = 5


class Refusal(Exception):
    """A request that is answered with an error.

    ``message`` is for the client, so it has no secret and nothing about other users. ``reason`` is the label in the
    audit line.
    """

    def __init__(
        self, status: int, error_code: str, message: str, *, reason: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message
        self.reason = reason
        self.retry_after = retry_after


def unauthenticated(reason: str) -> Refusal:
    """401. The client learns nothing about why: only the gate can mend it, and the audit line has the reason."""
    return Refusal(
        401,
        "UNAUTHENTICATED",
        "This request has no valid assertion of the gate. Use the public address of MLflow.",
        reason=reason,
    )


def denied(message: str, reason: str) -> Refusal:
    """403: the caller is known, and may not do this."""
    return Refusal(403, "PERMISSION_DENIED", message, reason=reason)


def invalid(message: str, reason: str) -> Refusal:
    """400: the request can be read in two ways, or not at all."""
    return Refusal(400, "INVALID_PARAMETER_VALUE", message, reason=reason)


def unavailable(message: str, reason: str) -> Refusal:
    """503. MLflow's client honours Retry-After and repeats the request."""
    return Refusal(503, "TEMPORARILY_UNAVAILABLE", message, reason=reason, retry_after=RETRY_AFTER_SECONDS)


class ConfigurationError(Exception):
    """All mistakes of a configuration at once, so that nobody mends them one restart at a time."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = tuple(mistakes)
