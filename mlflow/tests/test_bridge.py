"""Who counts as a process of this machine."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from oidc_gate_mlflow import bridge

# What MLflow's gateway client sends.
OWN = {"host": "127.0.0.1:5000", "authorization": "Basic am86dA==", "user-agent": "python-httpx/0.28", "accept": "*/*"}


def request(headers: dict[str, str], peer: str = "127.0.0.1") -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/gateway/a", "headers": raw, "client": (peer, 40000)})


@pytest.mark.parametrize(("peer", "local"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("unix", False)])
def test_the_peer_has_to_be_this_machine(peer: str, local: bool) -> None:
    assert bridge.from_loopback(request(OWN, peer)) is local


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-User",
        "X-Forwarded-Anything",
        "X-Envoy-External-Address",
        "X-Envoy-Expected-Rq-Timeout-Ms",
        "X-Real-IP",
        "Forwarded",
        "Via",
    ],
)
def test_what_a_proxy_adds_says_that_there_is_one(header: str) -> None:
    assert not bridge.from_loopback(request({**OWN, header: "https"}))
