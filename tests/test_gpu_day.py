"""The GPU day: its steps fit into nine minutes, none stops another, and what they found is read and taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])


def make_kit(folder: Path, wheels: bool = False):
    from gpu_day import Kit

    return Kit(folder / "wheels" if wheels else None, folder / "data", folder / "scratch")


def fake(name: str, script: str, limit: int = 20, read: str = "read_table"):
    import gpu_day_readers
    from gpu_day import Step

    return Step(name, limit, ["bash", "-c", script], getattr(gpu_day_readers, read))


def run(steps, out: Path) -> tuple[int, dict[str, dict]]:
    from gpu_day import run_steps

    code = run_steps(steps, out, environment=dict(os.environ), started=time.time(), dry=False)
    return code, {row["step"]: row for row in map(json.loads, (out / "steps.jsonl").read_text().splitlines())}


def is_running(process: str) -> bool:
    """Tell whether a process runs and is not a zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


TABLE = "echo '| case | ms |'; echo '|---|--:|'; echo '| fog | 0.25 |'"


def test_all_limits_together_are_nine_minutes_and_the_dry_run_has_the_same_steps(tmp_path):
    from gpu_day import BUDGET, list_steps

    day, bare = (list_steps(make_kit(tmp_path, wheels), dry=False) for wheels in (True, False))
    dry = list_steps(make_kit(tmp_path), dry=True)
    assert BUDGET == 540
    assert sum(step.limit for step in day) <= BUDGET - 10
    assert [step.name for step in dry] == [step.name for step in bare] == [step.name for step in day[1:]]
    assert [step.limit for step in dry] == [step.limit for step in bare]
    assert [step.name for step in day[:3]] == ["wheels", "machine", "tests that need a GPU"]
    for step in (*day[1:], *dry):
        assert Path(step.command[1]).suffix != ".py" or (ROOT / step.command[1]).is_file()
        assert ("cuda" in step.command) == (step in day and "pytest" not in step.command)


def test_images_that_were_brought_along_are_used_and_the_drawn_ones_else(tmp_path):
    from gpu_day import list_steps

    def words(split: str | None) -> str:
        if split:
            (tmp_path / "data" / "cifar10").mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / "cifar10" / f"{split}.pixels.npy").touch()
        return " ".join(word for step in list_steps(make_kit(tmp_path), dry=False) for word in step.command)

    assert "sdnet18-cifar10" not in words(None)
    assert "data=shapes" in words("test")
    assert "sdnet18-shapes" not in words("test")
    assert "shapes" not in words("train")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: out"),
        (["day", "--wheels", "nowhere"], r"expected --wheels to be a folder with .whl files, found none in nowhere"),
    ],
)
def test_a_wrong_command_is_refused_in_a_sentence(tmp_path, words, said):
    script, environment = ROOT / "benchmarks" / "gpu_day.sh", os.environ | {"PYTHON": sys.executable}
    done = subprocess.run([script, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_tests_that_need_a_gpu_are_found():
    from gpu_day import find_gpu_tests

    assert "tests/sdnet_core/test_fused.py" in find_gpu_tests()
    assert "tests/sdnet_core/test_zoo.py" not in find_gpu_tests()


def test_a_step_that_fails_or_hangs_stops_no_other(tmp_path):
    steps = [
        fake("hangs", f"{TABLE}; sleep 60 & echo child $!; wait", limit=1),
        fake("fails", "echo '| case | ms |'; echo out of memory >&2; exit 3"),
        fake("says nothing", "echo hello"),
        fake("is unreadable", "echo '{nonsense'", read="read_machine"),
        fake("works", TABLE),
    ]
    from gpu_day import Step, read_table

    steps.append(Step("is not there", 1, ["/no/such/program"], read_table))
    begun = time.monotonic()
    code, rows = run(steps, tmp_path / "day")
    assert time.monotonic() - begun < 10
    assert code == 1
    assert {name: row["status"] for name, row in rows.items()} == {
        "hangs": "timed out",
        "fails": "failed",
        "says nothing": "failed",
        "is unreadable": "failed",
        "works": "done",
        "is not there": "failed",
    }
    assert rows["fails"]["reason"] == "exit code 3: out of memory"
    assert rows["hangs"]["found"] == rows["works"]["found"] == {"fog: ms": 0.25}
    child = (tmp_path / "day" / "logs" / "00.txt").read_text().split()[-1]
    assert not is_running(child)
    day = json.loads((tmp_path / "day" / "gpu_day.json").read_text())
    assert day["steps"] == list(rows.values())
    table = (tmp_path / "day" / "gpu_day.md").read_text()
    assert "| **works** | done |" in table
    assert "| **fails** | failed (exit code 3: out of memory) |" in table
    assert table.count("| | fog: ms | 0.25 |") == 2


def test_what_is_there_when_a_step_begins_is_what_the_steps_before_found(tmp_path):
    out = tmp_path / "day"
    show = f"cat {out}/steps.jsonl {out}/gpu_day.md"
    code, _ = run([fake("one", TABLE), fake("two", show, read="read_nothing")], out)
    seen = (out / "logs" / "01.txt").read_text()
    assert '"step": "one", "status": "done"' in seen
    assert "| **one** | done |" in seen
    assert code == 0


def test_time_that_a_step_leaves_is_for_those_behind_it(tmp_path):
    code, rows = run([fake("short", TABLE, limit=3), fake("long", f"sleep 1.3; {TABLE}", limit=1)], tmp_path)
    assert code == 0
    assert rows["long"]["seconds"] > rows["long"]["limit"]


def test_wheels_that_were_brought_along_are_there_for_the_steps(tmp_path):
    from gpu_day import list_steps, run_steps

    kit = make_kit(tmp_path, wheels=True)
    kit.wheels.mkdir()
    about = "brought-1.0.dist-info"
    with zipfile.ZipFile(kit.wheels / "brought-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("brought.py", "print('| case | ms |'); print('|---|--:|'); print('| wheel | 1 |')")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    steps = [list_steps(kit, dry=False)[0], fake("uses it", f"{sys.executable} -c 'import brought'")]
    environment = os.environ | {"PYTHONPATH": str(kit.site)}
    assert run_steps(steps, tmp_path / "day", environment=environment, started=time.time(), dry=False) == 0


def test_ratios_are_read_as_the_benchmarks_print_them(capsys):
    from gpu_day_readers import read_ratios
    from pairing import print_ratios

    print("\ninference, batch 4, ratio to ResNet-18:")
    seconds = {"ResNet-18": [1.0, 1.0], "SDNet-18": [2.0, 2.0], "SDNet-18, plain FISTA": [4.0, 4.0]}
    print_ratios(seconds, per_call=4, baseline="ResNet-18", also={"SDNet-18": "SDNet-18, plain FISTA"})
    print("  SDNet-18-all: 416 MB, 1.46 of ResNet-18")
    assert read_ratios(capsys.readouterr().out) == {
        "inference, batch 4: ResNet-18, images/s": 4.0,
        "inference, batch 4: SDNet-18 to ResNet-18": 0.5,
        "inference, batch 4: SDNet-18 to SDNet-18, plain FISTA": 2.0,
        "inference, batch 4: SDNet-18, plain FISTA to ResNet-18": 0.25,
        "inference, batch 4: memory of SDNet-18-all to ResNet-18": 1.46,
    }


def test_the_machine_is_read_as_it_is_printed_even_where_something_is_missing(capsys, monkeypatch):
    import gpu_day_checks
    import torch
    from gpu_day_readers import read_machine

    from data_prep.errors import PrerequisiteError

    monkeypatch.setattr(gpu_day_checks, "NEEDED", ("pytest", "no_such_package"))
    with pytest.raises(PrerequisiteError, match="got no no_such_package: bring wheels"):
        gpu_day_checks.show_machine(torch.device("cpu"))
    found = read_machine("a warning\n" + capsys.readouterr().out)
    assert found["device"] == "cpu"
    assert found["C compiler"]
    assert found["torch"] == torch.__version__.partition("+")[0]


def test_an_epoch_of_each_full_width_recipe_is_a_row(tmp_path, capsys, monkeypatch):
    import gpu_day_checks
    from gpu_day_readers import read_table

    def train(recipe, out, **options):
        assert (recipe.epochs, recipe.model["width"], options["precision"]) == (1, 64, "bf16")
        out.mkdir(parents=True)
        (out / "log.csv").write_text("epoch,seconds\n1,2.5\n")
        return SimpleNamespace(accuracy={"correct": 3, "n": 4})

    monkeypatch.setattr("sdnet_core.training.train_recipe", train)
    words = ["--set", "epochs=1", "--set", "image_sizes=[]", "--set", "data=shapes", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["gpu_day_checks", "epoch", *words, "--out", str(tmp_path)])
    assert gpu_day_checks.main() == 0
    found = read_table(capsys.readouterr().out)
    for recipe in ("cifar10-sdnet18-w64", "cifar10-resnet18-w64"):
        assert found[f"{recipe} on shapes: images/s"] == found[f"{recipe} on shapes: images"] / 2.5
        assert found[f"{recipe} on shapes: test accuracy (%)"] == 75


def test_other_lines_are_read():
    import gpu_day_readers as readers

    tests = "...\n2 failed, 40 passed, 3 skipped, 900 deselected in 12.34s\n"
    assert readers.read_counts(tests) == {"failed": 2, "passed": 40, "skipped": 3}
    attack = "ours    12.5 s, pyautoattack    25.0 s, ratio 0.500; robust 1.5% and 1.5%, alike on 1000 of 1000 images\n"
    assert readers.read_attacks(attack)["ratio"] == 0.5
    assert readers.read_attacks(attack)["of"] == 1000
    assert readers.read_attacks("stopped before") == {}
    rate = "forward: 12,345 images/s at 32 × 32, batches of 1000\n"
    overhead = (
        "bare forward loop 1.00 s, harness 1.10 s (medians of 1)\nharness, overlapping: ratio 1.020 (paired median; "
    )
    assert readers.read_overhead(overhead) == {"harness, overlapping to the bare loop": 1.02}
    assert readers.read_rates(rate) == {"forward, batches of 1000, images/s": 12345}
    agreement = (
        "| model | λ | same predictions |\n| m | 0.1 | 99.90% | 85.60% | 85.65% |\n| r |  | 99.80% | 1.00% | 2.00% |\n"
    )
    found = readers.read_agreement(agreement)
    assert found["m λ=0.1: same predictions (%)"] == 99.9
    assert found["r: accuracy exact (%)"] == 2.0


def test_the_table_goes_between_the_marker_lines_once_and_never_from_a_dry_run(tmp_path):
    from gpu_day import BEGIN, END, merge, write_day

    from data_prep.errors import InputError

    page, out = tmp_path / "notes.md", tmp_path / "day"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    with pytest.raises(InputError, match=r"expected gpu_day.md and gpu_day.json in .*day, found none"):
        merge(out, page)
    out.mkdir()
    rows = [{"step": "s", "status": "done", "seconds": 1.0, "limit": 2, "found": {"a|b": 12345.678, "c": "word"}}]
    write_day(rows, out, seconds=1, dry=True)
    with pytest.raises(InputError, match=r"expected a day on a GPU, got a dry run"):
        merge(out, page)
    write_day(rows, out, seconds=1, dry=False)
    merge(out, page)
    merge(out, page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n\n| step |")
    assert text.endswith(f"{END}\nbehind\n")
    assert "old" not in text
    assert text.count("| | a\\|b | 1.235e+04 |") == 1
    page.write_text("no lines")
    with pytest.raises(InputError, match=r"expected one line <!-- gpu day: begin -->"):
        merge(out, page)


def test_the_page_that_it_goes_to_has_the_lines():
    from gpu_day import BEGIN, END

    text = (ROOT / "benchmarks" / "notes.md").read_text()
    assert 0 < text.index(BEGIN) < text.index(END)
