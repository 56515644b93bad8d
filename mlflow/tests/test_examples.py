"""The examples of docs/headers.md in Python and JavaScript, run as they are printed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oidc_gate_mlflow.assertion import Key
from support import KEY, OTHER_KEY, mint

PAGE = Path(__file__).parents[2] / "docs" / "headers.md"
HEADER = "X-Oidc-Gate-Assertion"
JOSE = "jose@6.2.18"
STRANGERS_KEY = "Zz7Zx2Cv5Bn8Mk1Lj4Hg6Fd3Sa9Po0Iu2YtE"


def example(language: str) -> str:
    if not PAGE.exists():
        pytest.skip("the examples are in the repository only")
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"{len(found)} examples in {language}"
    return found[0]


def cases() -> dict[str, tuple[str | None, bool]]:
    """The value of the header, or None without one; and whether the user is accepted."""

    def bearer(**different: Any) -> str:
        return f"Bearer {mint(**{'aud': 'orders', **different})}"

    return {
        "valid": (bearer(), True),
        "half a minute old": (bearer(age=30), True),
        "of a clock that is a little ahead": (bearer(age=-2), True),
        "the older of two keys": (bearer(key=OTHER_KEY), True),
        "expired": (bearer(age=200), False),
        "another key": (bearer(key=STRANGERS_KEY), False),
        "another key with a known id": (bearer(key=STRANGERS_KEY, header={"kid": Key(KEY.encode()).id}), False),
        "a key id that every object has": (bearer(key=STRANGERS_KEY, header={"kid": "constructor"}), False),
        "no key id": (bearer(header={}), False),
        "no signature": (bearer(algorithm="none"), False),
        "another algorithm": (bearer(algorithm="HS512"), False),
        "another audience": (bearer(aud="mlflow"), False),
        "another issuer": (bearer(iss="somebody"), False),
        "without an end": (bearer(without=("exp",)), False),
        "without a subject": (bearer(without=("sub",)), False),
        "no header": (None, False),
        "an empty header": ("", False),
        "no scheme": (mint(aud="orders"), False),
        "another scheme": (f"Basic {mint(aud='orders')}", False),
        "no token": ("Bearer a.b.c", False),
    }


def expected() -> dict[str, str | None]:
    return {case: "sub-of-alice" if is_good else None for case, (_, is_good) in cases().items()}


def test_the_example_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSERTION_KEYS", f"{KEY},{OTHER_KEY}")
    names: dict[str, Any] = {}
    exec(example("python"), names)
    user_of: Callable[[dict[str, str]], dict[str, Any]] = names["user_of"]

    def subject(value: str | None) -> str | None:
        try:
            return str(user_of({} if value is None else {HEADER: value})["sub"])
        except Exception:
            return None

    assert {case: subject(value) for case, (value, _) in cases().items()} == expected()


JAVASCRIPT = """
import { readFileSync } from "node:fs";

const subjects = {};
for (const [name, [value]] of Object.entries(JSON.parse(readFileSync(0)))) {
  const headers = value === null ? {} : { "HEADER": value };
  subjects[name] = await userOf({ headers }).then((user) => user.sub, () => null);
}
console.log(JSON.stringify(subjects));
""".replace("HEADER", HEADER.lower())


def test_the_example_in_javascript(tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are not installed: apt-get install npm")
    script = tmp_path / "example.mjs"
    script.write_text(example("js") + JAVASCRIPT)
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(tmp_path), JOSE]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=120, check=False)
    if installed.returncode != 0:
        pytest.skip(f"npm can't get {JOSE}: {installed.stderr.strip()[-200:]}")
    done = subprocess.run(
        [node, str(script)],
        input=json.dumps(cases()),
        env={"ASSERTION_KEYS": f"{KEY},{OTHER_KEY}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected()
