"""Values and files that nobody should write: one sentence that says what is wrong, and never a traceback.

Every property takes a bounded number of examples, the same ones every time; ``--slow`` takes a hundred times as many.
"""

from __future__ import annotations

import contextlib
import io
import itertools
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
from disturbed import Undisturbed
from fabricate import fabricate_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.__main__ import main as prepare_data
from data_prep.cifar_c import CifarC
from data_prep.decode import decode_image
from data_prep.errors import PrerequisiteError, UsageError, check_words, run_command
from data_prep.imagenet_c import ImageNetC
from data_prep.imageset import ImageSet
from data_prep.importing import import_tree
from data_prep.sources import load_images
from data_prep.unpickle import unpickle_batch
from robustness.analysis.attack_tables import write_attack_tables
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.page import write_page
from robustness.analysis.tables import write_tables
from robustness.attack import read_attacks
from robustness.compare import main as compare
from robustness.fit import main as fit
from robustness.grids import parse_eps, parse_lambdas, parse_severities
from robustness.laws import FittedLaw
from robustness.merge import main as merge
from robustness.mirror import local_folder
from robustness.run import main as run
from robustness.run_directory import RunDirectory
from robustness.suite import Suite, read_suite_file, shipped_suites
from sdnet_core import ModelCard, import_official, load_model
from sdnet_core.__main__ import convert
from sdnet_core.recipes import read_recipe, shipped_recipes
from sdnet_core.visualize import main as visualize

PIXELS = load_images("shapes", "test").pixels[:4]
OPTIONS = [
    *("lambdas", "models", "corruptions", "severities", "eps", "suite", "device"),
    *("data-dir", "n", "seed", "batch-size", "shard", "timeout", "executor", "speed", "out"),
    *("ray-address", "gpus-per-task"),
]
_FUZZ = settings.get_profile("fuzz")
load_once = cache(load_images)


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


def check_command(main: Callable[[list[str]], int], words: list[str]) -> int:
    """A command ends with a code that is documented, and with a sentence where that is 2."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = run_command(lambda: main(words))
        except SystemExit as stop:
            code = int(stop.code or 0)
    assert code in (0, 1, 2)
    assert "Traceback" not in said.getvalue()
    assert code != 2 or "error: " in said.getvalue()
    return code


words = (
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
    | st.from_regex(r"[-+0-9.:,e/ a-z²٣]{0,16}", fullmatch=True)
    | st.sampled_from(
        ["a" * 5000, ":", "..", ".a:b", "os:getcwd", "json:loads", "meta", "/", ",", "-1", "1e9", "\udcff"]
    )
    | st.sampled_from(
        ["nan", "inf", "0.5", str(10**20), "://", "s3://", "x://y", "127.0.0.1:1", "auto:1", "ray", "fast"]
    )
)
"""What could be written after an option."""


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
        monkeypatch.setattr("robustness.fit.load_images", load_once)
        monkeypatch.setattr("robustness.fit.fit_residual_law", enough)
        named = [f"--{option}={value}"] if option else [value]
        first = [f"{models}/sparse.safetensors"] if option else []
        check_command(fit, [*first, "--data", "shapes", "--n", "2", *named])

    @examples(0.2)
    @given(option=st.sampled_from(["images", "lam", "layers", "split", "data-dir", "device", ""]), value=words)
    def test_options_of_a_visualisation(
        self, option: str, value: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sdnet_core.visualize.invert_codes", enough)
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
    monkeypatch.setattr("robustness.run.load_images", load_once)
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
    @examples(0.3)
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

    @examples(1)
    @given(data=st.data())
    def test_damaged_folders_of_imagenet_c(self, data: st.DataObject, tmp_path: Path) -> None:
        buffer, archive = io.BytesIO(), tmp_path / "ImageNet-C"
        Image.fromarray(PIXELS[0]).save(buffer, format="PNG")
        shutil.rmtree(archive, ignore_errors=True)
        for level, name in itertools.product(range(1, 6), ("0.JPEG", "1.JPEG")):
            path = archive / "fog" / str(level) / "n01440764" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getvalue())
        chosen = data.draw(st.sampled_from(sorted(archive.rglob("*"))))
        if chosen.is_file():
            chosen.write_bytes(data.draw(damage(buffer.getvalue())))
        else:
            chosen.rename(chosen.with_name(f"x{data.draw(st.text('ab', max_size=3))}"))
        images = ImageSet(
            name="imagenet",
            title="two images",
            split="val",
            classes=("n01440764",),
            pixels=PIXELS[:2],
            labels=np.zeros(2, np.int64),
            indices=np.arange(2),
            files=np.array(["0.JPEG", "1.JPEG"]),
        )
        with told_in_a_sentence():
            assert ImageNetC(archive).count("fog") == 2
            assert ImageNetC(archive).match(images, "fog", 3)[0:2].shape == (2, *PIXELS.shape[1:])

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

    @examples(1)
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

    @examples(0.5)
    @given(data=st.data())
    def test_records_of_attacks(self, data: st.DataObject, undisturbed: Undisturbed, tmp_path: Path) -> None:
        out = tmp_path / "run"
        if not out.exists():
            shutil.copytree(undisturbed.out, out)
        record = json.loads((undisturbed.out / "run.json").read_text())
        if data.draw(st.booleans()):  # a corruption that says that it is an attack
            cell = record["cells"][data.draw(st.integers(0, len(record["cells"]) - 1))]
            cell |= {"norm": "linf", "eps": 1 / 255, "crafted_lam": cell["lam"], "crafted_policy": ""}
        else:
            record = change_somewhere(data.draw, record)
        (out / "run.json").write_text(json.dumps(record))
        before = set(tmp_path.iterdir())
        with told_in_a_sentence():
            findings = Findings.of(Run.open(RunDirectory(out)))
            if len(findings.run.cells):
                write_tables(findings)
                if findings.attacks is not None:
                    write_attack_tables(findings.run, findings.attacks)
                write_page(findings)
        assert set(tmp_path.iterdir()) == before

    @examples(0.2)
    @given(data=st.data())
    def test_merges(
        self, data: st.DataObject, fabricated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("robustness.analysis.write.write_figures", lambda run: None)
        shard, out = tmp_path / "shard", tmp_path / "whole"
        shutil.rmtree(out, ignore_errors=True)
        if not shard.exists():
            shutil.copytree(fabricated, shard)
        record = json.loads((fabricated / "run.json").read_text())
        if data.draw(st.booleans()):
            record = change_somewhere(data.draw, record)
        else:
            outcomes = sorted((shard / "outcomes").iterdir())
            path = outcomes[data.draw(st.integers(0, len(outcomes) - 1))]
            path.write_bytes(data.draw(damage((fabricated / "outcomes" / path.name).read_bytes())))
        (shard / "run.json").write_text(json.dumps(record))
        order = data.draw(st.permutations([str(fabricated), str(shard)]))
        before = set(tmp_path.iterdir())
        check_command(merge, [str(out), *order])
        assert set(tmp_path.iterdir()) - before <= {out}

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
