"""Images, archives and run directories that are damaged: one sentence, and never a traceback or a wrong number."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from disturbed import Undisturbed
from fabricate import fabricate_run
from hostile import change_somewhere, check_command, damage, examples, told_in_a_sentence
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep.cifar_c import CifarC
from data_prep.decode import decode_image
from data_prep.describe import describe
from data_prep.errors import InputError
from data_prep.imagenet_c import ImageNetC
from data_prep.importing import import_tree
from data_prep.npz_c import NpzC
from data_prep.sources import load_images
from data_prep.unpickle import unpickle_batch
from robustness.analysis.attack_tables import write_attack_tables
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.page import write_page
from robustness.analysis.tables import write_tables
from robustness.compare import main as compare
from robustness.merge import main as merge
from robustness.record import check_record
from robustness.run_directory import RunDirectory

PIXELS = load_images("shapes", "test").pixels[:4]
CLEAN = load_images((PIXELS, np.arange(4)))


class TestImages:
    """Images, archives of them, data sets and -C archives."""

    @examples(3)
    @given(data=st.data())
    def test_damaged_images(self, data: st.DataObject) -> None:
        buffer = io.BytesIO()
        Image.fromarray(PIXELS[0]).save(
            buffer, format=data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF"]))
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
    def test_damaged_npz_files(self, data: st.DataObject, tmp_path: Path) -> None:
        buffer, path = io.BytesIO(), tmp_path / "fog.npz"
        save = data.draw(st.sampled_from([np.savez, np.savez_compressed]))
        save(buffer, test_images=np.repeat(PIXELS, 5, axis=0), test_labels=np.tile(np.arange(4), 5))
        path.write_bytes(data.draw(damage(buffer.getvalue())))
        for read in (
            lambda: load_images(path),
            lambda: NpzC(tmp_path).match(CLEAN, "fog", 3)[0:4],
            lambda: describe(path),
        ):
            with told_in_a_sentence():
                read()

    @examples(1)
    @given(data=st.data())
    def test_trees_of_any_shape(self, data: st.DataObject, tmp_path: Path) -> None:
        """Folders and files anywhere, some of them pictures: a set whose labels are its folders', or a sentence."""
        buffer = io.BytesIO()
        Image.fromarray(PIXELS[0]).save(buffer, format="PNG")
        names = st.sampled_from(["train", "test", "cat", "dog", ".cache", "1", "2"])
        files = st.sampled_from(["1.png", "2.PNG", "1.txt", ".DS_Store", "1", "1.tif", "Thumbs.db"])
        shutil.rmtree(tmp_path / "tree", ignore_errors=True)
        for folders, file in data.draw(st.lists(st.tuples(st.lists(names, max_size=4), files), max_size=6)):
            folder = tmp_path.joinpath("tree", *folders)
            with contextlib.suppress(OSError):  # where a file has the name of a folder
                folder.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(buffer.getvalue() if file.lower().endswith("g") else b"x")
        with told_in_a_sentence():
            images = load_images(tmp_path / "tree")
            assert images.files is not None
            for label, file in zip(images.labels, images.files, strict=True):
                assert any((tmp_path / "tree").rglob(f"{images.classes[label]}/{file}"))
        with told_in_a_sentence():
            assert describe(tmp_path / "tree").kind

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
        images = load_images((PIXELS[:2], [0, 0]), classes=["n01440764"])
        images = replace(images, files=np.array(["0.JPEG", "1.JPEG"]))
        with told_in_a_sentence():
            assert ImageNetC(archive).count("fog") == 2
            assert ImageNetC(archive).match(images, "fog", 3)[0:2].shape == (2, *PIXELS.shape[1:])

    @examples(10)
    @given(st.binary(max_size=60) | damage(pickle.dumps({"data": np.zeros((2, 4), np.uint8), "labels": [1, 2]}, 2)))
    def test_pickles(self, content: bytes) -> None:
        with told_in_a_sentence():
            assert isinstance(unpickle_batch(content, "a batch"), dict)


ARCHIVES = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.xz": "xztar", "tar.bz2": "bztar"}


class TestRunDirectories:
    """Records with any node changed: refused, or tables and a report that stay in their folder."""

    @examples(1)
    @given(data=st.data())
    def test_records(self, data: st.DataObject, fabricated: Path, out: Path) -> None:
        self.analyse(out, change_somewhere(data.draw, json.loads((fabricated / "run.json").read_text())))

    def analyse(self, out: Path, record: dict[str, object]) -> None:
        (out / "run.json").write_text(json.dumps(record))
        before = set(out.parent.iterdir())
        with told_in_a_sentence():
            findings = Findings.of(Run.open(RunDirectory(out)))
            if len(findings.run.cells):
                write_tables(findings)
                if findings.attacks is not None:
                    write_attack_tables(findings.run, findings.attacks)
                write_page(findings)
        assert set(out.parent.iterdir()) == before

    def test_keys_that_nobody_asked_for_change_nothing(self, fabricated: Path, out: Path) -> None:
        record = json.loads((fabricated / "run.json").read_text())
        record["cells"][0] |= {"accuracy": 2.0, "seconds": -1, "mood": "good"}
        (out / "run.json").write_text(json.dumps(record))
        runs = [Run.open(RunDirectory(path)) for path in (fabricated, out)]
        pd.testing.assert_frame_equal(runs[1].cells, runs[0].cells)

    @pytest.mark.parametrize("key", ["eps", "policy", "crafted_lam", "crafted_policy"])
    def test_an_attacked_cell_without_what_tells_it_apart(self, key: str, undisturbed: Undisturbed) -> None:
        record = json.loads((undisturbed.out / "run.json").read_text())
        check_record(record, "run.json")
        del next(cell for cell in record["cells"] if cell.get("norm"))[key]
        with pytest.raises(InputError, match=f"an attacked cell has no {key};"):
            check_record(record, "run.json")

    def test_a_norm_or_a_baseline_that_is_none(self, undisturbed: Undisturbed) -> None:
        record = json.loads((undisturbed.out / "run.json").read_text())
        named = {**record, "suite": {**record["suite"], "baseline": "nobody"}}
        with pytest.raises(InputError, match="the baseline 'nobody' is none of the models"):
            check_record(named, "run.json")
        next(cell for cell in record["cells"] if cell.get("norm"))["norm"] = ""
        with pytest.raises(InputError, match="an attacked cell has the norm ''"):
            check_record(record, "run.json")

    def test_a_suite_without_the_keys_that_are_free(self, out: Path) -> None:
        record = json.loads((out / "run.json").read_text())
        for key in ("severities", "lambdas", "selection", "baseline"):
            del record["suite"][key]
        record["data"]["name"] = "cifar10"
        (out / "run.json").write_text(json.dumps(record))
        write_tables(Findings.of(Run.open(RunDirectory(out))))
        assert (out / "tables" / "severities_sparse.csv").is_file()

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
        self.analyse(out, record)

    @examples(0.2)
    @given(data=st.data())
    def test_merges(
        self, data: st.DataObject, fabricated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("robustness.analysis.write.write_figures", lambda *_, **__: None)
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
    def test_comparisons(self, data: st.DataObject, fabricated: Path, out: Path) -> None:
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


@pytest.fixture
def out(fabricated: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(fabricated, tmp_path / "run")
