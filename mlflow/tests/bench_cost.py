"""What users and rights cost: CPU of MLflow with this package, divided by MLflow without users.

Both servers run at the same time, and get the same requests in alternating rounds, so that other work on the machine
changes both alike. ``cargo xtask bench mlflow`` runs it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from support import API, Server, bearer

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


class Stock(Server):
    """MLflow without users."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "mlflow", "server", *super().command()[3:]]


def requests_of(server: Server) -> dict[str, tuple[str, str, dict[str, object] | None]]:
    experiment = server.experiment(bearer(), "bench")
    run = server.run(bearer(), experiment)
    metric: dict[str, object] = {"run_id": run, "key": "m", "value": 1.0, "timestamp": 1}
    return {
        "runs/get": ("GET", f"{API}/runs/get?run_id={run}", None),
        "experiments/search": ("GET", f"{API}/experiments/search?max_results=5", None),
        "runs/search": ("POST", f"{API}/runs/search", {"experiment_ids": [experiment]}),
        "runs/log-metric": ("POST", f"{API}/runs/log-metric", metric),
        "the page": ("GET", "/", None),
    }


def cpu_ms(server: Server) -> float:
    """Of the server and all processes of its session. The fields are those of proc_pid_stat(5)."""
    assert server.process is not None
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == server.process.pid:
            total += int(fields[11]) + int(fields[12])
    return total * TICK_MS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=150, help="of each kind, in each round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("stock", "users")]
        for folder in folders:
            folder.mkdir()
        with Stock(folders[0]) as stock, Server(folders[1]) as users:
            measure(stock, users, options.rounds, options.requests)


def measure(stock: Server, users: Server, rounds: int, number: int) -> None:
    servers = (stock, users)
    asked = {server.url: requests_of(server) for server in servers}
    costs: dict[tuple[str, str], list[float]] = {}
    for round_number in range(rounds):
        print(f"round {round_number + 1} of {rounds}", file=sys.stderr, flush=True)
        for kind in asked[stock.url]:
            for server in servers:
                method, path, body = asked[server.url][kind]
                headers, before = bearer(), cpu_ms(server)
                for _ in range(number):
                    answer = server.ask(method, path, headers, json=body)
                    assert answer.status_code == 200, answer.text
                costs.setdefault((kind, server.url), []).append((cpu_ms(server) - before) / number)
    print(f"{'request':<20} {'stock':>9} {'users':>9} {'ratio':>6}   CPU of a request, median of {rounds} rounds")
    sums = [0.0, 0.0]
    for kind in asked[stock.url]:
        medians = [statistics.median(costs[kind, server.url]) for server in servers]
        sums = [total + one for total, one in zip(sums, medians, strict=True)]
        print(f"{kind:<20} {medians[0]:6.2f} ms {medians[1]:6.2f} ms {medians[1] / medians[0]:6.2f}")
    print(f"{'all':<20} {sums[0]:6.2f} ms {sums[1]:6.2f} ms {sums[1] / sums[0]:6.2f}")


if __name__ == "__main__":
    main()
