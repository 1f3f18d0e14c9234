"""Folders of transformers: the normalisation of the preprocessor, the classes, and what is missing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.foreign import load_foreign
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject

pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[models]'")

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLASSES = ("cat", "dog", "great_white shark")
USUAL = {
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_resize": True,
    "size": {"height": 32, "width": 32},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A tiny ResNet of transformers, saved, without a preprocessor."""
    with warnings.catch_warnings(action="ignore"):
        from transformers import ResNetConfig, ResNetForImageClassification

        torch.manual_seed(0)
        names = dict(enumerate(CLASSES))
        config = ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3, id2label=names,
            label2id={name: index for index, name in names.items()},
        )  # fmt: skip
        model = ResNetForImageClassification(config).eval()
        folder = tmp_path_factory.mktemp("hf") / "tiny-resnet"
        model.save_pretrained(folder)
    return folder, model


@pytest.fixture
def folder(saved: tuple[Path, nn.Module], tmp_path: Path) -> Path:
    """A copy of it with a preprocessor, to be changed."""
    copy = tmp_path / "tiny-resnet"
    copy.mkdir()
    for path in saved[0].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    write(copy, "preprocessor_config.json", USUAL)
    return copy


def write(folder: Path, name: str, fields: object) -> None:
    (folder / name).write_text(json.dumps(fields))


def change(folder: Path, name: str, **fields: object) -> None:
    write(folder, name, {**json.loads((folder / name).read_text()), **fields})


def expect(model: nn.Module, images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    mean_, std_ = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    with torch.no_grad():
        return model((images - mean_) / std_).logits


def test_a_folder_is_an_image_classifier_with_the_normalisation_of_its_preprocessor(saved, folder):
    subject = load_subject(
        f"hf:{folder}", Wanted(num_classes=3, classes=("Cat", "dog", "great white shark")), device=torch.device("cpu")
    )
    torch.testing.assert_close(subject.network(IMAGES), expect(saved[1], IMAGES, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
    assert subject.name == "hf:tiny-resnet"
    assert subject.network.input_size == (32, 32)
    assert subject.network.notes == ()
    logits = subject.network(images := IMAGES.clone().requires_grad_())
    assert torch.autograd.grad(logits.sum(), images)[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("fields", "mean", "std"),
    [
        ({"do_normalize": False}, [0.0] * 3, [1.0] * 3),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, [0.5] * 3, [0.5] * 3),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, [0.5] * 3, [0.2] * 3),
        ({"image_mean": 0.5, "image_std": 0.25}, [0.5] * 3, [0.25] * 3),
    ],
)
def test_every_way_to_scale_bytes_is_one_of_images_between_0_and_1(saved, folder, fields, mean, std):
    change(folder, "preprocessor_config.json", **fields)
    model = load_foreign(f"hf:{folder}", Wanted(num_classes=3))
    torch.testing.assert_close(model(IMAGES), expect(saved[1], IMAGES, mean, std), rtol=1e-4, atol=1e-5)


def test_classes_in_another_order_are_taken_by_their_names_and_others_are_refused(saved, folder):
    order = ("great white shark", "cat", "dog")
    model = load_foreign(f"hf:{folder}", Wanted(num_classes=3, classes=order))
    expected = expect(saved[1], IMAGES, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])[:, [2, 0, 1]]
    torch.testing.assert_close(model(IMAGES), expected)
    assert "classes are in another order than the classes of the data and are matched by their names" in model.notes[0]
    with pytest.raises(
        InputError, match=r"all 3 classes of the data, .*, which shares 2 of them and does not know 'bird'"
    ):
        load_foreign(f"hf:{folder}", Wanted(num_classes=3, classes=("cat", "dog", "bird")))
    assert load_foreign(f"hf:{folder}", Wanted(num_classes=3, classes=("n01", "n02", "n03"))).notes == ()


def test_what_is_missing_or_does_not_fit_is_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"expected a model of 10 classes, .* which has 3"):
        load_foreign(f"hf:{folder}", Wanted(num_classes=10))
    with pytest.raises(
        PrerequisiteError, match=r"expected config.json in .*, got none; give hf:FOLDER, a folder on this machine"
    ):
        load_foreign("hf:microsoft/resnet-50", Wanted(num_classes=1000))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(PrerequisiteError, match=r"expected preprocessor_config.json in .*, which says how images are"):
        load_foreign(f"hf:{folder}", Wanted(num_classes=3))
    write(folder, "preprocessor_config.json", {"do_normalize": True})
    with pytest.raises(InputError, match=r"expected image_mean and image_std in .*, which normalises images"):
        load_foreign(f"hf:{folder}", Wanted(num_classes=3))
    write(folder, "preprocessor_config.json", {**USUAL, "image_std": [1, 0, 1]})
    with pytest.raises(InputError, match="three values of image_mean and of image_std > 0"):
        load_foreign(f"hf:{folder}", Wanted(num_classes=3))


def test_damaged_weights_and_weights_of_another_network_are_refused(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="expected an image classifier in"):
        load_foreign(f"hf:{folder}", Wanted(num_classes=3))
    weights.write_bytes(whole)
    change(folder, "config.json", depths=[2, 1])
    with pytest.raises(
        InputError, match=r"expected weights for .*, got none, so that transformers would draw them at random"
    ):
        load_foreign(f"hf:{folder}", Wanted(num_classes=3))
    change(folder, "config.json", depths=[1, 1], id2label={"0": "a", "2": "b"})
    with pytest.raises(InputError, match="to name the classes 0, 1, 2"):
        load_foreign(f"hf:{folder}", Wanted(num_classes=3))


def test_code_in_a_folder_is_not_run(folder):
    (folder / "own.py").write_text("raise SystemExit('code of the folder was run')")
    change(folder, "config.json", model_type="own", auto_map={"AutoModelForImageClassification": "own.Own"})
    with pytest.raises(InputError, match="expected an image classifier in"):
        load_foreign(f"hf:{folder}", Wanted(num_classes=3))
