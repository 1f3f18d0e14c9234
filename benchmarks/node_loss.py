"""The demo on two Ray nodes (processes of this machine), one of which is killed in mid-run, and serially."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
from ray.cluster_utils import Cluster

from data_prep.command_line import CommandParser
from robustness import run


def kill_in_mid_run(cluster: Cluster, out: Path, cells: int) -> None:
    """Kill the second node once ``cells`` outcomes are there."""
    while len(list((out / "outcomes").glob("*.parquet"))) < cells:
        time.sleep(0.05)
    cluster.remove_node(cluster.worker_nodes.pop(), allow_graceful=False)


def measure(options: list[str], out: Path) -> tuple[str, dict[str, Any], float]:
    """The table on the terminal, the record and the seconds of a run."""
    shown, started = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(shown):
        code = run.main([*options, "--out", str(out)])
    assert code == 0, shown.getvalue()
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return shown.getvalue(), record, time.perf_counter() - started


def main() -> int:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--suite", default="demo")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--kill-after", type=int, default=20, metavar="CELLS")
    arguments = parser.parse_args()
    options = ["--suite", arguments.suite, "--n", str(arguments.n)]
    os.environ["PYTHONPATH"] = str(Path(run.__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        serial, spread = Path(folder) / "serial", Path(folder) / "ray"
        _, _, serial_seconds = measure([*options, "--device", "cpu"], serial)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        threading.Thread(target=kill_in_mid_run, args=(cluster, spread, arguments.kill_after), daemon=True).start()
        on_ray = [*options, "--executor", "ray", "--ray-address", cluster.address]
        table, record, ray_seconds = measure(on_ray, spread)
        print(table)
        print("\n".join(record["events"]))
        frames = [pd.read_csv(out / "cells.csv").drop(columns="seconds") for out in (serial, spread)]
        same = sum(
            (spread / "outcomes" / path.name).exists()
            and pd.read_parquet(path).equals(pd.read_parquet(spread / "outcomes" / path.name))
            for path in (serial / "outcomes").iterdir()
        )
        print(f"outcomes equal to the serial run's, bit for bit: {same} of {len(record['cells'])}")
        print(f"cells.csv the same: {frames[0].equals(frames[1])}")
        print(f"serial {serial_seconds:.0f} s, on Ray with a lost node {ray_seconds:.0f} s")
        cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
