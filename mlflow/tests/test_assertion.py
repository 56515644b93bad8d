"""The assertion: what is accepted, and every way in which one can be wrong."""

from __future__ import annotations

import base64
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from oidc_gate_mlflow.assertion import FixedKeys, InvalidAssertion, Key, KeyFile, Verifier, parse_keys
from oidc_gate_mlflow.errors import ConfigurationError
from support import KEY, OTHER_KEY, mint

VERIFIER = Verifier(FixedKeys(parse_keys(KEY, "test")), issuer="oidc-gate", audience="mlflow")


def test_a_valid_assertion_says_who_it_is() -> None:
    identity = VERIFIER.verify(mint("alice", groups=["a", "/b"], client_id="trainer"))
    assert (identity.name, identity.subject, identity.client_id) == ("alice", "sub-of-alice", "trainer")
    assert identity.groups == {"a", "/b"}


def unsigned() -> str:
    parts = [
        {"alg": "none", "typ": "JWT", "kid": Key(KEY.encode()).id},
        jwt.decode(mint(), options={"verify_signature": False}),
    ]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def changed() -> str:
    head, _, signature = mint().split(".")
    return f"{head}.{mint('root').split('.')[1]}.{signature}"


KID = {"kid": Key(KEY.encode()).id}


CLAIMS = ("iss", "aud", "sub", "name", "groups", "iat", "exp")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (lambda: mint(age=120), "assertion_expired"),
        (lambda: mint(age=66), "assertion_expired"),
        (lambda: mint(age=-30), "assertion_from_the_future"),
        (lambda: mint(life=61), "assertion_lifetime"),
        (lambda: mint(life=3600), "assertion_lifetime"),
        (lambda: mint(key=OTHER_KEY), "assertion_key_unknown"),
        (lambda: mint(key=OTHER_KEY, header=KID), "assertion_signature"),
        (lambda: mint(header={}), "assertion_key_unknown"),
        (lambda: mint(algorithm="HS512"), "assertion_algorithm"),
        (unsigned, "assertion_algorithm"),
        (changed, "assertion_signature"),
        (lambda: mint(aud="grafana"), "assertion_audience"),
        (lambda: mint(aud=["mlflow", "grafana"]), "assertion_audience"),
        (lambda: mint(iss="https://idp.example"), "assertion_issuer"),
        *[(functools.partial(mint, without=(claim,)), "assertion_claim_missing") for claim in CLAIMS],
        (lambda: mint(groups="mlflow_admins"), "assertion_claim_type"),  # type: ignore[arg-type]
        (lambda: mint(groups=[1]), "assertion_claim_type"),  # type: ignore[list-item]
        (lambda: mint(iat=time.time(), exp=time.time() + 30), "assertion_claim_type"),
        (lambda: mint(client_id=7), "assertion_claim_type"),
        (lambda: mint(""), "assertion_name"),
        (lambda: mint("al\nice"), "assertion_name"),
        (lambda: mint("alice "), "assertion_name"),
        (lambda: mint("a" * 256), "assertion_name"),
        (lambda: "", "assertion_malformed"),
        (lambda: "a.b.c", "assertion_malformed"),
        (lambda: "a" * 40_000, "assertion_too_long"),
    ],
)
def test_a_wrong_assertion_is_refused(token: Callable[[], str], reason: str) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        VERIFIER.verify(token())
    assert caught.value.reason == reason


def test_an_extension_that_must_be_understood_is_refused() -> None:
    with pytest.raises(InvalidAssertion):
        VERIFIER.verify(mint(header={**KID, "crit": ["b64"], "b64": True}))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "assertion_missing"),
        ([f"Bearer {mint()}", f"Bearer {mint()}"], "assertion_twice"),
        ([f"Bearer {mint()},Bearer {mint()}"], "assertion_twice"),
        ([f"Basic {mint()}"], "assertion_scheme"),
        ([mint()], "assertion_scheme"),
    ],
)
def test_exactly_one_header_with_a_bearer(values: list[str], reason: str) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        VERIFIER.verify_header(values)
    assert caught.value.reason == reason


def test_a_clock_that_is_a_little_wrong_does_not_matter() -> None:
    assert VERIFIER.verify(mint(age=-4)).name == "alice"
    assert VERIFIER.verify(mint(age=63)).name == "alice"


def test_during_a_rotation_both_keys_are_accepted() -> None:
    both = Verifier(FixedKeys(parse_keys(f"{OTHER_KEY}, {KEY}", "test")), issuer="oidc-gate", audience="mlflow")
    assert both.verify(mint(key=KEY)).name == both.verify(mint(key=OTHER_KEY)).name == "alice"


def test_the_key_id_is_that_of_the_contract() -> None:
    assert Key(KEY.encode()).id == "c0c5b70126b3d620"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no key"),
        (" , ", "no key"),
        ("short", "less than 32 bytes"),
        ("a" * 40, "not random"),
        ("012345678" * 4, "not random"),
        (f"{KEY},{KEY}", "twice"),
        (f"{KEY},short", "key 2 has less"),
    ],
)
def test_weak_keys_are_refused_without_their_value(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(text, "ASSERTION_KEYS")
    assert complaint in str(caught.value)
    assert "short" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_key_needs_as_many_different_characters_as_the_gate_asks_for() -> None:
    assert parse_keys("0f1e2d3c4b0f1e2d3c4b0f1e2d3c4b0f1e2d"[:32], "test")
    with pytest.raises(ConfigurationError, match="not random"):
        parse_keys("0f1e2d3c4" * 4, "test")


def test_a_key_is_not_printed() -> None:
    assert KEY not in repr(parse_keys(KEY, "test"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, text: str, stamp: int) -> None:
    path.write_text(text)
    os.utime(path, (stamp, stamp))


def test_a_changed_key_file_is_read_again(folder: Path) -> None:
    path, clock = folder / "keys", Clock()
    write(path, f"{KEY}\n", 1)
    keys = KeyFile(path, clock=clock)
    verifier = Verifier(keys, issuer="oidc-gate", audience="mlflow")
    write(path, f"{OTHER_KEY}\n{KEY}\n", 2)
    clock.now += 1
    assert verifier.verify(mint(key=OTHER_KEY)).name == "alice"
    write(path, OTHER_KEY, 3)
    clock.now += 6
    with pytest.raises(InvalidAssertion):
        verifier.verify(mint(key=KEY))


@pytest.mark.parametrize("text", ["", "short", "\xff"])
def test_a_broken_key_file_leaves_the_keys_from_before(folder: Path, text: str) -> None:
    path, clock = folder / "keys", Clock()
    write(path, KEY, 1)
    keys = KeyFile(path, clock=clock)
    path.write_bytes(text.encode("latin-1"))
    clock.now += 60
    assert keys.find(Key(KEY.encode()).id) is not None
    path.unlink()
    clock.now += 60
    assert keys.find(Key(KEY.encode()).id) is not None


def test_strangers_do_not_make_the_key_file_be_read_all_the_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock = folder / "keys", Clock()
    write(path, KEY, 1)
    keys = KeyFile(path, clock=clock)
    looks: list[Any] = []
    monkeypatch.setattr(keys, "_stat", lambda: looks.append(1) or (1, 1, 1))
    for _ in range(100):
        clock.now += 0.01
        assert keys.find("invented") is None
    assert len(looks) <= 4
