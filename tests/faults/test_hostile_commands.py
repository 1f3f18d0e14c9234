"""Words on a command line that nobody should write: one sentence that says what is wrong, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hostile import check_command, examples, load_once, told_in_a_sentence, words
from hypothesis import example, given
from hypothesis import strategies as st

from data_prep.__main__ import main as prepare_data
from data_prep.errors import PrerequisiteError, UsageError, check_words
from data_prep.pictures import pick_pictures
from robustness.fit import main as fit
from robustness.grids import parse_eps, parse_lambdas, parse_severities
from robustness.measure.jobs import Shard
from robustness.mirror import local_folder
from robustness.run import main as run
from robustness.run_directory import RunDirectory
from sdnet_core.environment import select_device
from sdnet_core.recipes import read_recipe
from sdnet_core.visualize import main as visualize

OPTIONS = [
    *("lambdas", "models", "corruptions", "severities", "eps", "suite", "device"),
    *("data-dir", "n", "seed", "batch-size", "shard", "timeout", "executor", "speed", "out"),
    *("ray-address", "gpus-per-task"),
]


class TestCommandLines:
    """Draw the words of a command line."""

    @examples(5)
    @given(st.text(max_size=20) | st.from_regex(r"[-+0-9.:,e/ a-z²٣]{0,16}", fullmatch=True))
    def test_grids(self, text: str) -> None:
        for parse in (parse_lambdas, parse_severities, parse_eps):
            with told_in_a_sentence():
                values = parse(text)
                assert len(values) > 0
                assert len(values) <= 10_000

    @examples(0.3)
    @given(option=st.sampled_from(OPTIONS), value=words)
    def test_options_of_a_run(self, option: str, value: str, small: Path, tmp_path: Path) -> None:
        before = set(tmp_path.rglob("*"))
        on_ray = ["--executor", "ray"] if option in ("ray-address", "gpus-per-task") else []
        assert check_command(run, ["--suite", str(small), "--dry-run", *on_ray, f"--{option}={value}"]) in (0, 2)
        assert set(tmp_path.rglob("*")) == before, "a dry run writes nothing"

    @examples(1)
    @given(
        name=st.text(st.characters(exclude_characters="/\0"), max_size=300)
        | st.text("a\udcff\ud800é", max_size=3)
        | st.integers(200, 300).map(lambda n: "a" * n)
    )
    def test_names_of_an_out(self, name: str, small: Path, tmp_path: Path) -> None:
        """A new folder of any name, no step outside ``tmp_path``: made and locked, or refused."""
        place = tmp_path / "outs" / ("x" if name in ("", ".", "..") else name)

        def make(words: list[str]) -> int:
            check_words(words)
            directory = RunDirectory(local_folder(words[0]))
            directory.create()
            with directory.lock():
                directory.write_record({"asked": words})
            return 0

        check_command(make, [str(place)])

    @examples(0.4)
    @given(st.text(max_size=30) | st.from_regex(r"[a-z0-9.]{0,9}:[0-9]{0,9}", fullmatch=True))
    def test_addresses_of_ray(self, address: str) -> None:
        executor = pytest.importorskip("robustness.measure.ray_executor")
        with pytest.MonkeyPatch.context() as patch:  # nothing is looked up or called outside
            patch.setattr(executor.socket, "create_connection", refuse_connection)
            with pytest.raises(UsageError) as caught:
                executor._check_address(address)
        assert "\n" not in str(caught.value)

    @examples(0.4)
    @given(st.floats() | st.integers(-3, 3).map(float))
    def test_shares_of_a_gpu(self, share: float) -> None:
        executor = pytest.importorskip("robustness.measure.ray_executor")
        with told_in_a_sentence():
            assert 0 <= executor.RayExecutor(gpus_per_task=share).gpus_per_task < np.inf

    @examples(0.2)
    @given(
        option=st.sampled_from(["data", "data-dir", "n", "lambdas", "seed", "device", "batch-size", ""]), value=words
    )
    def test_options_of_a_fit(self, option: str, value: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("robustness.measure.fitting.load_images", load_once)
        monkeypatch.setattr("robustness.measure.fitting.fit_residual_law", enough)
        named = [f"--{option}={value}"] if option else [value]
        first = [f"{models}/sparse.safetensors"] if option else []
        check_command(fit, [*first, "--data", "shapes", "--n", "2", *named])

    @examples(0.2)
    @given(option=st.sampled_from(["images", "lam", "layers", "split", "data-dir", "device", ""]), value=words)
    def test_options_of_a_visualisation(
        self, option: str, value: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sdnet_core.visualization.invert_codes", enough)
        monkeypatch.setattr("data_prep.pictures.load_images", load_once)
        named = [f"--{option}={value}"] if option else [value]
        first = [f"{models}/sparse.safetensors"] if option else []
        check_command(visualize, [*first, "--images", "shapes:0", "--out", str(tmp_path / "look"), *named])

    @examples(0.4)
    @given(data=st.data())
    def test_options_of_data_prep(self, data: st.DataObject, tree: Path, tmp_path: Path) -> None:
        """``download`` is left out: it would call outside."""
        value = data.draw(words)
        flags = ["name", "note", "resize", "crop"]
        command = data.draw(
            st.sampled_from(
                [
                    ["verify", value],
                    ["generate", value],
                    ["generate", "cifar10-c", value],
                    ["import", value, "--name=x"],
                ]
                + [["import", str(tree), "--name=x", "--replace", f"--{flag}={value}"] for flag in flags]
            )
        )
        check_command(prepare_data, [*command, f"--data-dir={tmp_path / 'data'}"])
        assert {path.name for path in tmp_path.iterdir()} <= {"data"}

    @examples(1)
    @given(st.text(max_size=9) | st.from_regex(r"(cpu|cuda)(:[0-9\u0663]{0,5})?\n?", fullmatch=True))
    @example("cpu:")
    @example("cuda:")
    @example("cuda:00")
    def test_devices(self, name: str) -> None:
        with told_in_a_sentence():
            assert str(select_device(name)) == name

    @examples(1)
    @given(st.from_regex(r"[0-9\u0663]{1,30}/[0-9\u0663]{1,30}", fullmatch=True))
    def test_shards(self, text: str) -> None:
        with told_in_a_sentence():
            shard = Shard.parse(text)
            assert 1 <= shard.index <= shard.count < 10**9

    def test_a_shard_with_more_digits_than_python_reads(self) -> None:
        with pytest.raises(UsageError, match="expected --shard i/n"):
            Shard.parse("1/" + "1" * 5000)

    @pytest.mark.parametrize("numbers", ["1" * 10, "0," + "1" * 100, "\u0663"])
    def test_numbers_of_pictures(self, numbers: str) -> None:
        with pytest.raises(PrerequisiteError, match="a data set with numbers such as cifar10:0,5,7, got 'shapes:"):
            pick_pictures([f"shapes:{numbers}"], size=32)

    @examples(1)
    @given(st.lists(st.text(max_size=12) | st.from_regex(r"[a-z_.]{1,12}=[-0-9a-z.\[\]{}\"']{0,8}", fullmatch=True)))
    def test_overrides_of_a_recipe(self, overrides: list[str]) -> None:
        with told_in_a_sentence():
            read_recipe("shapes-sdnet18", overrides)


def refuse_connection(*_: object, **__: object) -> None:
    raise ConnectionRefusedError("nobody is called by a test")


def enough(*_: object, **__: object) -> None:
    """In place of the work that follows after everything was checked."""
    raise PrerequisiteError("everything was accepted")


@pytest.fixture
def small(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A suite that is quickly prepared."""
    for module in ("prepare", "request"):
        monkeypatch.setattr(f"robustness.measure.{module}.load_images", load_once)
    path = tmp_path / "small.toml"
    path.write_text(f'data = "shapes"\ncorruptions = ["pixelate"]\nmodels = ["{models}/plain.safetensors"]\nn = 2\n')
    return path
