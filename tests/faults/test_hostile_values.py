"""Values and files that nobody should write: one sentence that says what is wrong, and never a traceback.

Every property takes a bounded number of examples, the same ones every time; ``--slow`` takes a hundred times as many.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fabricate import fabricate_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.cifar_c import CifarC
from data_prep.decode import decode_image
from data_prep.errors import UsageError, run_command
from data_prep.importing import import_tree
from data_prep.sources import load_images
from data_prep.unpickle import unpickle_batch
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.page import write_page
from robustness.analysis.tables import write_tables
from robustness.attack import read_attacks
from robustness.compare import main as compare
from robustness.grids import parse_eps, parse_lambdas, parse_severities
from robustness.laws import FittedLaw
from robustness.run import main as run
from robustness.run_directory import RunDirectory
from robustness.suite import Suite, read_suite_file, shipped_suites
from sdnet_core import ModelCard, import_official, load_model
from sdnet_core.__main__ import convert
from sdnet_core.recipes import read_recipe, shipped_recipes

PIXELS = load_images("shapes", "test").pixels[:4]
OPTIONS = [
    *("lambdas", "models", "corruptions", "severities", "eps", "suite", "device"),
    *("data-dir", "n", "seed", "batch-size", "shard", "timeout"),
]
_FUZZ = settings.get_profile("fuzz")


def examples(share: float) -> settings:
    """A share of the examples of the profile, for properties that take longer."""
    return settings(_FUZZ, max_examples=max(1, round(_FUZZ.max_examples * share)))


@contextlib.contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """The block works, or fails with a message for people."""
    try:
        yield
    except UsageError as error:
        told = str(error).replace("\nor try what needs no data", "")
    else:
        return
    assert 0 < len(told) < 3000
    assert "\n" not in told


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.sampled_from([10**400, -1, 0, 1, 2**63])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
"""What JSON and TOML can hold."""


@st.composite
def damage(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` cut, with bytes changed, or with a piece repeated."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    match draw(st.integers(0, 3)):
        case 0:
            return bytes(content[: draw(st.integers(0, len(content)))])
        case 1:
            start = draw(st.integers(0, len(content) - 1))
            return bytes(content[:start] + content[max(0, start - 64) :])
    return bytes(content)


def change_somewhere(draw: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with one node, however deep, replaced by anything or taken out."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else list(range(len(value)))))
        if draw(st.integers(0, 9)) == 0:
            del value[key]
        else:
            value[key] = change_somewhere(draw, value[key])
        return value
    return draw(anything)


class TestTexts:
    """What is written on a command line."""

    @examples(5)
    @given(st.text(max_size=20) | st.from_regex(r"[-+0-9.:,e/ a-z²٣]{0,16}", fullmatch=True))
    def test_grids(self, text: str) -> None:
        for parse in (parse_lambdas, parse_severities, parse_eps):
            with told_in_a_sentence():
                values = parse(text)
                assert len(values) > 0
                assert len(values) <= 10_000

    @examples(0.3)
    @given(
        option=st.sampled_from([f"--{name}" for name in OPTIONS]),
        value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
        | st.sampled_from(["a" * 5000, ":", "..", ".a:b", "os:getcwd", "json:loads", "meta", "/", ",", "-1", "1e9"]),
    )
    def test_options_of_a_run(self, option: str, value: str, small: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                code = run_command(lambda: run(["--suite", str(small), "--dry-run", f"{option}={value}"]))
            except SystemExit as stop:
                code = stop.code
        assert code in (0, 2)
        assert "Traceback" not in said.getvalue()
        assert code == 0 or "error: " in said.getvalue()

    @examples(1)
    @given(st.lists(st.text(max_size=12) | st.from_regex(r"[a-z_.]{1,12}=[-0-9a-z.\[\]{}\"']{0,8}", fullmatch=True)))
    def test_overrides_of_a_recipe(self, overrides: list[str]) -> None:
        with told_in_a_sentence():
            read_recipe("shapes-sdnet18", overrides)


@pytest.fixture
def small(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A suite that is quickly prepared."""
    monkeypatch.setattr("robustness.run.load_images", cache(load_images))
    path = tmp_path / "small.toml"
    path.write_text(f'data = "shapes"\ncorruptions = ["pixelate"]\nmodels = ["{models}/plain.safetensors"]\nn = 2\n')
    return path


class TestTables:
    """Suites, attacks and recipes: every field set to anything, and their text damaged."""

    @examples(4)
    @given(data=st.data())
    def test_attacks(self, data: st.DataObject) -> None:
        keys = ("name", "norm", "eps", "label", "batch_size", "steps", "step_size", "restarts", "random_start")
        name = data.draw(st.sampled_from(["pgd", "autoattack", "FGSM"]) | anything)
        others = (*keys, "version", "parts", "queries", "options", "else")
        table = {"name": name, **data.draw(st.dictionaries(st.sampled_from(others), anything, max_size=3))}
        with told_in_a_sentence():
            for attack in read_attacks([table], "cifar"):
                assert attack.eps > 0
                assert isinstance(attack.steps, int)
                hash(attack)
                json.dumps(attack.identity())

    @examples(3)
    @given(data=st.data())
    def test_fields_of_a_suite(self, data: st.DataObject, tmp_path: Path) -> None:
        fields = {"data": "shapes", "models": ["m"]}
        for name in data.draw(st.lists(st.sampled_from(list(Suite.__dataclass_fields__)), max_size=3)):
            fields[name] = data.draw(anything)
        path = tmp_path / "suite.toml"
        path.write_text("".join(f"{key} = {to_toml(value)}\n" for key, value in fields.items()))
        with told_in_a_sentence():
            suite = Suite(**read_suite_file(str(path)))
            assert "/" not in suite.name
            assert all(lam >= 0 for lam in suite.lambdas)

    @pytest.mark.parametrize("read", [read_suite_file, read_recipe])
    @examples(1)
    @given(data=st.data())
    def test_damaged_text(self, read: Callable[[str], Any], data: st.DataObject, tmp_path: Path) -> None:
        shipped = shipped_suites() if read is read_suite_file else shipped_recipes()
        path = tmp_path / "damaged.toml"
        path.write_bytes(data.draw(damage(shipped[data.draw(st.sampled_from(sorted(shipped)))].read_bytes())))
        with told_in_a_sentence():
            read(str(path))

    @pytest.mark.parametrize("read", [read_suite_file, read_recipe])
    @pytest.mark.parametrize("text", ["a = " + "[" * 50_000, "n = 1" + "0" * 5000, "a.b = 1\n" * 3])
    def test_deep_and_long_text(self, read: Callable[[str], Any], text: str, tmp_path: Path) -> None:
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(UsageError):
            read(str(tmp_path / "x.toml"))


def to_toml(value: Any) -> str:
    """A TOML value; what TOML lacks becomes a string."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case list():
            return f"[{', '.join(map(to_toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{json.dumps(key)} = {to_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value if isinstance(value, str) else str(value))


class TestModels:
    """Checkpoints, model cards, residual laws and official checkpoints."""

    @examples(3)
    @given(data=st.data())
    def test_model_cards(self, data: st.DataObject, models: Path) -> None:
        from sdnet_core import read_card

        fields = change_somewhere(data.draw, json.loads(read_card(models / "sparse.safetensors").to_json()))
        with told_in_a_sentence():
            ModelCard.from_json(json.dumps(fields))

    @examples(0.4)
    @given(data=st.data())
    def test_damaged_checkpoints(self, data: st.DataObject, models: Path, tmp_path: Path) -> None:
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(data.draw(damage((models / "sparse.safetensors").read_bytes())))
        with told_in_a_sentence():
            network = load_model(path)
            assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())

    @pytest.mark.parametrize(("width", "classes"), [(1024, 10), (2, 100_000), (10**9, 10), (2, 10**12)])
    def test_a_card_cannot_ask_for_memory_that_its_weights_do_not_fill(
        self, width: int, classes: int, models: Path, tmp_path: Path
    ) -> None:
        content = (models / "sparse.safetensors").read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        card = json.loads(header["__metadata__"]["card"])
        card["config"] |= {"width": width, "num_classes": classes}
        header["__metadata__"]["card"] = json.dumps(card)
        text = json.dumps(header).encode()
        path = tmp_path / "huge.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        with pytest.raises(UsageError, match=r"does not fit sdnet18|must be at most"):
            load_model(path)

    @examples(1)
    @given(data=st.data())
    def test_damaged_official_checkpoints(self, data: st.DataObject, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        torch.save(
            {"layer0.0.dn.weight": torch.ones(2, 3)}, buffer, _use_new_zipfile_serialization=data.draw(st.booleans())
        )
        path = tmp_path / "model.pth.tar"
        path.write_bytes(data.draw(damage(buffer.getvalue())))
        with told_in_a_sentence():
            convert(path, "sdnet18", "cifar10", tmp_path / "out.safetensors")

    @examples(2)
    @given(
        st.dictionaries(
            st.sampled_from(["state_dict", "layer0.0.weight", "linear.bias", "step_size"]) | st.integers() | st.text(),
            st.sampled_from([torch.ones(3), torch.ones(10, dtype=torch.complex64), torch.ones(2).to_sparse()])
            | anything,
        )
    )
    def test_official_state_dicts(self, state: dict[Any, Any]) -> None:
        with told_in_a_sentence():
            import_official(state, "sdnet18", width=2)

    @examples(3)
    @given(data=st.data())
    def test_residual_laws(self, data: st.DataObject) -> None:
        from robustness.laws import law_path

        fields = change_somewhere(data.draw, json.loads(law_path("sdnet18-shapes").read_text()))
        with told_in_a_sentence():
            law = FittedLaw.from_json(fields).law
            assert 0 <= law.lam(np.array([0.0, 1e9])).min() < np.inf


class TestImages:
    """Images, archives of them, data sets and -C archives."""

    @examples(3)
    @given(data=st.data())
    def test_damaged_images(self, data: st.DataObject) -> None:
        buffer = io.BytesIO()
        Image.fromarray(PIXELS[0]).save(
            buffer, format=data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "PPM"]))
        )
        with told_in_a_sentence():
            decode_image(data.draw(damage(buffer.getvalue())))

    @pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
    @examples(0.5)
    @given(data=st.data())
    def test_damaged_archives(self, suffix: str, data: st.DataObject, tree: Path, tmp_path: Path) -> None:
        packed = tree.parent / f"tree.{suffix}"
        if not packed.exists():
            shutil.make_archive(str(tree.parent / "tree"), ARCHIVES[suffix], tree)
        path = tmp_path / f"damaged.{suffix}"
        path.write_bytes(data.draw(damage(packed.read_bytes())))
        with told_in_a_sentence():
            import_tree(path, name="damaged", data_dir=tmp_path / "data", replace=True)

    @examples(0.5)
    @given(data=st.data())
    def test_data_set_records(self, data: st.DataObject, tree: Path, tmp_path: Path) -> None:
        folder = tmp_path / "data" / "set"
        if not folder.exists():
            import_tree(tree, name="set", data_dir=tmp_path / "data")
        record = folder / "dataset.json"
        kept = tmp_path / "dataset.json"
        if not kept.exists():
            shutil.copy(record, kept)
        record.write_text(json.dumps(change_somewhere(data.draw, json.loads(kept.read_text()))))
        with told_in_a_sentence():
            assert len(load_images("set", "test", tmp_path / "data")) > 0

    @pytest.mark.parametrize("array", ["pixels", "labels", "files"])
    @examples(0.5)
    @given(data=st.data())
    def test_damaged_arrays_of_a_data_set(self, array: str, data: st.DataObject, tree: Path, tmp_path: Path) -> None:
        path = tmp_path / "data" / "set" / f"test.{array}.npy"
        if not path.exists():
            import_tree(tree, name="set", data_dir=tmp_path / "data")
        whole = path.read_bytes()
        path.write_bytes(data.draw(damage(whole)))
        try:
            with told_in_a_sentence():
                images = load_images("set", "test", tmp_path / "data")
                assert images.labels.max() < len(images.classes)
                assert np.asarray(images.pixels).size
        finally:
            path.write_bytes(whole)

    @examples(1)
    @given(data=st.data())
    def test_damaged_corruption_archives(self, data: st.DataObject, tmp_path: Path) -> None:
        pixels = np.zeros((10, 32, 32, 3), np.uint8)
        for name, array in (("fog", pixels), ("labels", np.tile(np.arange(2), 5))):
            buffer = io.BytesIO()
            np.save(buffer, array)
            whole = buffer.getvalue()
            (tmp_path / f"{name}.npy").write_bytes(data.draw(damage(whole)) if data.draw(st.booleans()) else whole)
        with told_in_a_sentence():
            found, labels = CifarC(tmp_path).load("fog", 2)
            assert len(found) == len(labels)

    @examples(10)
    @given(st.binary(max_size=60) | damage(pickle.dumps({"data": np.zeros((2, 4), np.uint8), "labels": [1, 2]}, 2)))
    def test_pickles(self, content: bytes) -> None:
        with told_in_a_sentence():
            assert isinstance(unpickle_batch(content, "a batch"), dict)


ARCHIVES = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.xz": "xztar", "tar.bz2": "bztar"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of two classes."""
    folder = tmp_path_factory.mktemp("tree") / "tree"
    for index, pixels in enumerate(PIXELS):
        path = folder / "test" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


class TestRunDirectories:
    """Records with any node changed: refused, or tables and a report that stay in their folder."""

    @examples(1.5)
    @given(data=st.data())
    def test_records(self, data: st.DataObject, fabricated: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        if not out.exists():
            shutil.copytree(fabricated, out)
        record = change_somewhere(data.draw, json.loads((fabricated / "run.json").read_text()))
        (out / "run.json").write_text(json.dumps(record))
        before = set(tmp_path.iterdir())
        with told_in_a_sentence():
            findings = Findings.of(Run.open(RunDirectory(out)))
            if len(findings.run.cells):
                write_tables(findings)
                write_page(findings)
        assert set(tmp_path.iterdir()) == before

    @examples(0.3)
    @given(data=st.data())
    def test_comparisons(self, data: st.DataObject, fabricated: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        if not out.exists():
            shutil.copytree(fabricated, out)
        record = change_somewhere(data.draw, json.loads((fabricated / "run.json").read_text()))
        (out / "run.json").write_text(json.dumps(record))
        with told_in_a_sentence(), contextlib.redirect_stdout(io.StringIO()):
            compare([str(fabricated), str(out)])

    @examples(1)
    @given(data=st.data())
    def test_damaged_records(self, data: st.DataObject, fabricated: Path, tmp_path: Path) -> None:
        path = tmp_path / "run.json"
        path.write_bytes(data.draw(damage((fabricated / "run.json").read_bytes())))
        with told_in_a_sentence():
            RunDirectory(tmp_path).read_record()


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run directory."""
    path = tmp_path_factory.mktemp("fabricated") / "run"
    fabricate_run(path, corruptions=("gaussian_noise",), severities=(1, 2), selection=("speckle_noise",), n=12)
    return path
