"""Measure how memory, time and the run directory grow: ``python benchmarks/scale.py memory|cells|rate``.

``memory``: peak resident memory and time per cell of a run in a process of its own, from 1,000 to 50,000 images and
from 3 to 30 λs. ``cells``: processor seconds to list (which is what resuming does first) and to report run directories
of up to 100,000 cells. ``rate``: images per second of a model, which docs/scale.md turns into the cost of a grid.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pairing import wait
from PIL import Image

from data_prep import corruption_names, load_images
from data_prep.command_line import CommandParser
from data_prep.importing import import_tree
from data_prep.store import labels_path, pixels_path, read_record
from robustness import run
from robustness.analysis.write import write_analysis
from robustness.run_directory import RunDirectory
from sdnet_core import ModelCard, build_model, load_model, save_model
from sdnet_core.environment import select_device

IMAGES, LAMBDAS = (1_000, 5_000, 20_000, 50_000), (3, 10, 30)
CELLS = (1_000, 10_000, 100_000)
CORRUPTIONS = corruption_names("standard")
_GRID = 20
"""λs of a made-up cell's model."""


def write_images(data: Path, n: int) -> None:
    """Write a data set ``many`` of ``n`` drawn images, over and over the same ones."""
    drawn = load_images("shapes", split="test")
    for label in range(len(drawn.classes)):
        folder = data / "tree" / "test" / f"{label}"
        folder.mkdir(parents=True)
        Image.fromarray(drawn.pixels[0]).save(folder / "0.png")
    import_tree(data / "tree", name="many", data_dir=data)
    folder, rows = data / "many", np.arange(n) % len(drawn)
    np.save(pixels_path(folder, "test"), drawn.pixels[rows])
    np.save(labels_path(folder, "test"), drawn.labels[rows])
    (folder / "test.files.npy").unlink()
    record = read_record(folder)
    assert record is not None
    record.counts["test"] = n
    record.write(folder)


def measure_run(folder: Path, n: int, count: int) -> tuple[float, float, float]:
    """Peak resident memory and its anonymous part, in MB, and seconds per cell, of a run of 2 × ``count`` cells."""
    data = folder / f"data-{n}"
    if not data.exists():
        write_images(data, n)
    suite = folder / "suite.toml"
    suite.write_text(
        f'data = "many"\ncorruptions = ["contrast"]\nseverities = [3]\nmodels = ["{folder}/m.safetensors"]\n'
    )
    out = folder / f"run-{n}-{count}"
    words = ["--suite", suite, "--data-dir", data, "--out", out, "--lambdas", f"0.1:3:{count}"]
    command = [sys.executable, __file__, "child", *map(str, words)]
    peak, anonymous = map(
        float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:]
    )
    return peak, anonymous, pd.read_csv(out / "cells.csv")["seconds"].mean()


def run_child(words: list[str]) -> None:
    """Measure, without figures and report, and print the peaks of the resident memory."""
    import threading

    anonymous, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            anonymous[0] = max(
                anonymous[0], *(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))
            )

    threading.Thread(target=watch, daemon=True).start()
    run.main(words)
    done.set()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, anonymous[0])


def show_memory(images: tuple[int, ...], lambdas: tuple[int, ...]) -> None:
    """Print the curve over the images at the fewest λs, and over the λs at the fewest images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = build_model("sdnet18", width=2)
        save_model(model, folder / "m.safetensors", ModelCard(name="m", config=model.config))
        print(f"{'images':>8} {'λs':>4} {'peak MB':>9} {'anonymous MB':>13} {'s per cell':>11}")
        for n, count in dict.fromkeys([*((n, lambdas[0]) for n in images), *((images[0], c) for c in lambdas)]):
            peak, anonymous, seconds = measure_run(folder, n, count)
            print(f"{n:8,} {count:4} {peak:9.0f} {anonymous:13.0f} {seconds:11.3f}", flush=True)


def write_cells(path: Path, cells: int, n: int) -> RunDirectory:
    """A run directory of ``cells`` finished cells with made-up answers to ``n`` images; its first model has no λ."""
    directory, rng = RunDirectory(path), np.random.default_rng(0)
    directory.create()
    label = rng.integers(0, 10, n).astype(np.int32)
    places = [("clean", 0), *((name, level) for name in CORRUPTIONS for level in range(1, 6))]
    lambdas = [round(0.1 * (1 + index), 10) for index in range(_GRID)]
    rows: list[dict[str, Any]] = []
    models: list[tuple[str, float | None]] = []
    while len(rows) < cells:
        trained = 0.1 if models else None
        models.append((f"m{len(models)}" if models else "plain", trained))
        for name, severity in places:
            for lam in (lambdas if models[1:] else [None])[: cells - len(rows)]:
                fields = {"key": f"{len(rows):064x}", "model": models[-1][0], "data": "made-up", "split": "test"}
                fields |= {"source": "generated", "perturbation": name, "severity": severity, "lam": lam, "policy": ""}
                rows.append({**fields, "trained_lam": trained, "n": n, "status": "done", "reason": ""})
    for row in rows:
        correct = rng.random(n) < 0.9 - 0.1 * row["severity"]
        columns = {"index": np.arange(n, dtype=np.int32), "label": label}
        columns["predicted"] = np.where(correct, label, (label + 1) % 10).astype(np.int32)
        values = ("confidence", "nll") if row["lam"] is None else ("confidence", "nll", "residual", "sparsity")
        columns |= {name: rng.random(n, np.float32) for name in values}
        directory.write_outcome(str(row["key"]), pd.DataFrame({**columns, "correct": correct}), {"seconds": 1.0})
    suite = {"name": "made-up", "description": "Made-up answers", "profile": "cifar", "corruptions": CORRUPTIONS}
    suite |= {"severities": [], "lambdas": lambdas, "selection": "", "baseline": "", "seed": 0}
    data = {"name": "made-up", "title": "made-up", "split": "test", "n": n, "fingerprint": "f"}
    environment = {"hardware": {}, "system": "", "versions": {}, "git": {}}
    described = [{"name": name, "weights": "a", "arch": "sdnet18", "width": 8, "lam": lam} for name, lam in models]
    record = {"status": "complete", "asked": [], "started": "", "written": "", "protocol": 1, "suite": suite}
    record |= {"data": {**data, "classes": list("abcdefghij"), "source": "generated"}, "models": described}
    directory.write_record({**record, "environment": environment, "cells": rows})
    return directory


def time_of(work: Callable[[], object]) -> float:
    """Processor seconds that ``work`` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def show_cells(counts: tuple[int, ...], n: int) -> None:
    """Print the processor seconds to list and to report run directories of ``counts`` cells."""
    print(f"{'cells':>8} {'list s':>8} {'report s':>9}   (n = {n})")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            directory = write_cells(Path(name) / "run", count, n)
            keys = [cell["key"] for cell in directory.read_record()["cells"]]
            listed = time_of(partial(directory.find_whole, keys))
            reported = time_of(partial(write_analysis, directory))
            print(f"{count:8,} {listed:8.1f} {reported:9.1f}", flush=True)


def show_rate(name: str, size: int, batch_size: int, device: torch.device) -> None:
    """Print images per second of a model, forward only and forward and backward, on images of noise."""
    network = load_model(name).to(device)
    images = torch.rand(batch_size, 3, size, size, device=device)

    def forward() -> None:
        with torch.inference_mode():
            network(images)

    def backward() -> None:
        x = images.clone().requires_grad_(True)
        torch.autograd.grad(network(x).sum(), x)

    for title, work in (("forward", forward), ("forward and backward", backward)):
        print(f"{title}: {_rate(work, batch_size, device):,.0f} images/s at {size} × {size}, batches of {batch_size}")


def _rate(work: Callable[[], None], images: int, device: torch.device) -> float:
    for _ in range(3):
        work()
    wait(device)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 5:
        work()
        wait(device)
        count += 1
    return images * count / (time.perf_counter() - started)


def main() -> None:
    """Command line."""
    if sys.argv[1:2] == ["child"]:
        run_child(sys.argv[2:])
        return
    parser = CommandParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    memory = commands.add_parser("memory")
    memory.add_argument("--images", type=int, nargs="+", default=IMAGES)
    memory.add_argument("--lambdas", type=int, nargs="+", default=LAMBDAS)
    cells = commands.add_parser("cells")
    cells.add_argument("--cells", type=int, nargs="+", default=CELLS)
    cells.add_argument("--n", type=int, default=100)
    rate = commands.add_parser("rate")
    rate.add_argument("model")
    rate.add_argument("--size", type=int, default=32)
    rate.add_argument("--batch-size", type=int, default=250)
    rate.add_argument("--device")
    arguments = parser.parse_args()
    if arguments.command == "memory":
        show_memory(tuple(arguments.images), tuple(arguments.lambdas))
    elif arguments.command == "cells":
        show_cells(tuple(arguments.cells), arguments.n)
    else:
        show_rate(arguments.model, arguments.size, arguments.batch_size, select_device(arguments.device))


if __name__ == "__main__":
    main()
