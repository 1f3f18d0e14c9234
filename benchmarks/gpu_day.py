"""The GPU day: run all that needs a GPU within nine minutes, and take its table over.

    python benchmarks/gpu_day.py run OUT [--dry]      as benchmarks/gpu_day.sh does
    python benchmarks/gpu_day.py merge OUT            its table into benchmarks/notes.md, between the two marker lines

Nothing but Python's own library is imported here: on the day there is nothing else until the wheels are installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from gpu_day_readers import (  # noqa: E402 - next to this file
    Found,
    read_agreement,
    read_attacks,
    read_counts,
    read_machine,
    read_nothing,
    read_overhead,
    read_passed,
    read_rates,
    read_ratios,
    read_table,
)

from data_prep.command_line import CommandParser  # noqa: E402
from data_prep.errors import EXIT_DONE, EXIT_SOME_FAILED, InputError, run_command  # noqa: E402

BUDGET = 540
"""Seconds from the first line of the script to the last; the limits of the steps leave ten to start and to write."""

DRY_FACTOR = 20
"""Factor by which a dry run may take longer than the day: a busy core compiles here what sixteen cores do then."""

BEGIN, END = "<!-- gpu day: begin -->", "<!-- gpu day: end -->"
_KILLED = (124, 137, -9)
"""Exit codes of ``timeout`` when the time is up, and of a process killed in its place."""


@dataclass(frozen=True)
class Step:
    """One command with its own limit.

    Args:
        name: what it is called in the table.
        limit: seconds.
        command: words; run in the project's folder.
        read: finds the numbers in what the command printed, also in the part of one that was stopped.
    """

    name: str
    limit: int
    command: Sequence[str]
    read: Callable[[str], Found]


@dataclass(frozen=True)
class Kit:
    """The files that were brought along, and the folders of a day.

    Args:
        wheels: folder of wheels to install; None if all packages are there.
        data_dir: folder of data sets.
        scratch: folder that is deleted in the end.
        python: the Python that runs the steps.
    """

    wheels: Path | None
    data_dir: Path
    scratch: Path
    python: str = sys.executable

    @property
    def site(self) -> Path:
        """Folder into which the wheels are installed."""
        return self.scratch / "site"

    def has(self, split: str) -> bool:
        """Tell whether CIFAR-10 images of this split were brought along, imported or as the official files."""
        files = (f"cifar10/{split}.pixels.npy", "cifar-10-batches-py", "cifar-10-python.tar.gz")
        return any((self.data_dir / file).exists() for file in files)


def list_steps(kit: Kit, *, dry: bool) -> list[Step]:
    """All steps, those first that are worth most; ``dry``: the same ones on the CPU, with tiny sizes."""
    name = "cifar10" if kit.has("test") and not dry else "shapes"
    images = ["--data", name, "--data-dir", str(kit.data_dir)]
    recipe = ["--set", "epochs=1", *([] if kit.has("train") and not dry else ["--set", "data=shapes"])]
    where = ["--data-dir", str(kit.data_dir), "--out", str(kit.scratch / "training")]

    def pick(day: str, tiny: str) -> str:
        return tiny if dry else day

    def make(title: str, limit: int, words: str, read: Callable[[str], Found], more: Sequence[str] = ()) -> Step:
        file, *rest = words.split()
        command = [kit.python, f"benchmarks/{file}.py", *rest, *more, "--device", pick("cuda", "cpu")]
        return Step(title, limit, command, read)

    tests = [kit.python, "-m", "pytest", *GPU_TESTS, *find_gpu_tests()]
    few = "--batch-sizes 4 --rounds 1 --threads 1"
    small = f"{few} --width 4 --networks ResNet-18,SDNet-18"  # compiling the third for a CPU takes many minutes
    size = pick("--set image_sizes=[]", "--set image_sizes=[16] --set model.width=2 --set batch_size=500")
    attack = f"attacks --model sdnet18-{name} --repeats 1"
    models = f"sdnet18-{name},resnet18-{name}"
    made_on_cpu = "gaussian_noise,glass_blur,pixelate,jpeg_compression"
    return [
        *([] if kit.wheels is None else [install(kit, kit.wheels)]),
        make("machine", 30, "gpu_day_checks machine", read_machine),
        Step("tests that need a GPU", 50, tests, read_counts if dry else read_passed),
        make("fused and plain solver", 30, f"gpu_day_checks parity --width {pick('64', '4')}", read_table),
        make("inference", 25, f"core {pick('--batch-sizes 256', f'{few} --width 4')}", read_ratios),
        make(
            "training",
            45,
            f"train_speed --precision bf16 {pick('--batch-sizes 128', f'{few} --width 16')}",
            read_ratios,
        ),
        make("corruptions", 40, f"gpu_day_checks corruptions --images {pick('1000', '4')}", read_table),
        make("--speed fast", 50, f"agreement --models {models} --n {pick('1000', '20')}", read_agreement, images),
        make(
            "AutoAttack", 35, f"{attack} {pick('--n 1000 --batch-size 500', '--n 2 --eps 0.5')}", read_attacks, images
        ),
        make("one epoch at full size", 35, f"gpu_day_checks epoch {size}", read_table, [*recipe, *where]),
        make("inference, compiled", 55, f"core --fast {pick('--batch-sizes 256', small)}", read_ratios),
        *(
            make(f"rate of {model}", 17, f"scale rate {model} --batch-size {pick('1000', '4')}", read_rates)
            for model in models.split(",")
        ),
        make(
            "harness",
            15,
            f"eval_overhead --models {models} --repeats 1 {pick(f'--corruptions {made_on_cpu}', '--n 20')}",
            read_overhead,
            images,
        ),
        make("AutoAttack, 1/255", 16, f"{attack} --eps {pick('1/255 --n 100', '0.4 --n 2')}", read_attacks, images),
    ]


def install(kit: Kit, wheels: Path) -> Step:
    """Unpack all wheels; nothing is looked up or resolved, so that it takes as long as writing the files."""
    pip = ["install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-compile", "--target"]
    files = sorted(str(path) for path in wheels.glob("*.whl"))
    return Step("wheels", 70, [kit.python, "-m", "pip", *pip, str(kit.site), *files], read_nothing)


GPU_TESTS = ("-q", "-m", "gpu", "-p", "no:cacheprovider")


def find_gpu_tests() -> list[str]:
    """The test files in which a test is marked ``gpu``: collecting all others takes longer than running these."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if "@pytest.mark.gpu" in path.read_text(encoding="utf-8")]


def run_steps(steps: Sequence[Step], out: Path, *, environment: dict[str, str], started: float, dry: bool) -> int:
    """Run all steps one after the other, whatever becomes of each, and record each as it ends; the exit code.

    A step may use what those before it have left of their time, up to twice its own limit, so that together they never
    take longer than all limits.
    """
    (out / "logs").mkdir(parents=True, exist_ok=True)
    lines = out / "steps.jsonl"
    lines.write_text("")
    rows: list[dict[str, object]] = []
    end = started
    for number, step in enumerate(steps):
        end += step.limit
        limit = max(min(end - time.time(), 2.0 * step.limit), 1.0)
        row = run_step(step, limit, out / "logs" / f"{number:02}.txt", environment)
        rows.append(row)
        with lines.open("a") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        write_day(rows, out, seconds=time.time() - started, dry=dry)
        print(f"{step.name}: {row['status']}, {row['seconds']} s{_because(row)}", flush=True)
    return EXIT_DONE if all(row["status"] == "done" for row in rows) else EXIT_SOME_FAILED


def run_step(step: Step, limit: float, log: Path, environment: dict[str, str]) -> dict[str, object]:
    """One step under ``timeout``, with all processes that it starts; its row. Nothing is raised."""
    command = ["timeout", "--kill-after=2", f"{limit:.1f}", *step.command]
    begun = time.monotonic()
    try:
        with log.open("w") as file:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            ).returncode
    except OSError as error:
        log.write_text(str(error))
        code = 127
    seconds = time.monotonic() - begun
    printed = log.read_text(errors="replace")
    try:
        found = step.read(printed)
    except (ValueError, LookupError) as error:
        found, code = {}, code or 1
        printed += f"\nwhat was printed cannot be read: {error}"
    row = {"step": step.name, "status": "done", "seconds": round(seconds, 1), "limit": step.limit, "found": found}
    if code in _KILLED and seconds >= limit:
        row |= {"status": "timed out", "reason": f"stopped after {limit:.0f} s"}
    elif code:
        last = next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "nothing was printed")
        row |= {"status": "failed", "reason": f"exit code {code}: {last[:200]}"}
    elif not found and step.read is not read_nothing:
        row |= {"status": "failed", "reason": "expected numbers in what it printed, found none"}
    return row


def write_day(rows: list[dict[str, object]], out: Path, *, seconds: float, dry: bool) -> None:
    """Write ``gpu_day.json`` and ``gpu_day.md``."""
    day = {"dry": dry, "seconds": round(seconds, 1), "steps": rows}
    (out / "gpu_day.json").write_text(json.dumps(day, indent=1, ensure_ascii=False) + "\n")
    (out / "gpu_day.md").write_text(format_table(rows, dry=dry))


def format_table(rows: list[dict[str, object]], *, dry: bool) -> str:
    """The day as one Markdown table: a line for every step, then its numbers."""
    lines = ["**A dry run on the CPU with tiny sizes: nothing here is a result.**\n"] if dry else []
    lines += ["| step | found | |", "| --- | --- | ---: |"]
    for row in rows:
        lines.append(f"| **{row['step']}** | {row['status']}{_because(row)} | {row['seconds']} s of {row['limit']} |")
        found = row["found"]
        assert isinstance(found, dict)
        for name, value in found.items():
            shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
            lines.append("| | " + " | ".join(text.replace("|", "\\|") for text in (name, shown)) + " |")
    return "\n".join(lines) + "\n"


def _because(row: dict[str, object]) -> str:
    return f" ({row['reason']})" if "reason" in row else ""


def merge(out: Path, page: Path) -> None:
    """Put the table of ``out`` between the marker lines of ``page``, in the place of what is there.

    Raises:
        InputError: no table in ``out``, one of a dry run, or a page without the two lines.
    """
    table, day = out / "gpu_day.md", out / "gpu_day.json"
    if not (table.is_file() and day.is_file()):
        raise InputError(f"expected gpu_day.md and gpu_day.json in {out}, found none: run benchmarks/gpu_day.sh {out}")
    if json.loads(day.read_text())["dry"]:
        raise InputError(f"expected a day on a GPU, got a dry run in {out}: its figures are not results")
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(
            f"expected one line {BEGIN} and behind it one line {END} in {page}: write them where it belongs"
        )
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{table.read_text()}\n{END}{after}")


def main() -> int:
    parser = CommandParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("out", type=Path)
    run.add_argument("--dry", action="store_true", help="on the CPU with tiny sizes")
    run.add_argument("--wheels", type=Path, help="folder of wheels to install first")
    run.add_argument("--data-dir", type=Path, default=Path("data"), help="folder with an imported data set cifar10")
    run.add_argument("--started", type=float, help="when the clock of the nine minutes began, in seconds of the epoch")
    into = commands.add_parser("merge")
    into.add_argument("out", type=Path)
    into.add_argument("--page", type=Path, default=ROOT / "benchmarks" / "notes.md")
    options = parser.parse_args()
    if options.command == "merge":
        merge(options.out, options.page)
        return EXIT_DONE
    if options.wheels is not None and not any(options.wheels.glob("*.whl")):
        raise InputError(f"expected --wheels to be a folder with .whl files, found none in {options.wheels}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        wheels = None if options.wheels is None else options.wheels.resolve()
        kit = Kit(wheels, options.data_dir.resolve(), Path(scratch))
        steps = list_steps(kit, dry=options.dry)
        if options.dry:
            steps = [Step(step.name, step.limit * DRY_FACTOR, step.command, step.read) for step in steps]
        paths = [str(ROOT), *([str(kit.site)] if wheels else []), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} if options.dry else {}
        started = time.time() if options.started is None else options.started
        return run_steps(steps, options.out, environment=environment, started=started, dry=options.dry)


if __name__ == "__main__":
    sys.exit(run_command(main))
