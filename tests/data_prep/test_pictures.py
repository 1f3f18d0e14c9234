"""Single images: by file, by folder, by number."""

from __future__ import annotations

import numpy as np
import pytest
from pictured import write_png

from data_prep import load_images
from data_prep.errors import InputError, PrerequisiteError
from data_prep.pictures import pick_pictures


def test_numbers_are_positions_in_the_split_in_the_given_order():
    images = load_images("shapes", split="test")
    picked = pick_pictures(["shapes:7,0"], size=32)
    assert [(p.pixels == images.pixels[n]).all() for p, n in zip(picked, (7, 0), strict=True)] == [True, True]
    assert picked[0].title == f"{images.title} test 7: {images.classes[images.labels[7]]}"


def test_files_and_folders_are_resized_by_the_short_side_and_cut_in_the_middle(tmp_path):
    folder = tmp_path / "photos"
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    write_png(folder / "b.png", wide)
    write_png(folder / "a.png", wide[:, 8:16])
    (folder / "notes.txt").write_text("no image")
    picked = pick_pictures([str(folder), str(folder / "b.png")], size=8)
    assert [p.title for p in picked] == ["a.png", "b.png", "b.png"]
    assert all((p.pixels == 200).all() for p in picked)
    assert pick_pictures([str(folder / "a.png")], size=16)[0].pixels.shape == (16, 16, 3)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(PrerequisiteError, match=r"a data set with numbers such as cifar10:0,5,7, got 'cat\.png'"):
        pick_pictures(["cat.png"], size=32)
    with pytest.raises(InputError, match=r"numbers 0 to \d+ of shapes test, got 999999"):
        pick_pictures(["shapes:3,999999"], size=32)
    with pytest.raises(InputError, match="expected images of 224 x 224 pixels, the model's, got 32 x 32 in shapes"):
        pick_pictures(["shapes:3"], size=224)
    with pytest.raises(InputError, match=r"expected image files in .*, got none"):
        pick_pictures([str(tmp_path)], size=32)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"broken\.png: expected a whole image file"):
        pick_pictures([str(tmp_path / "broken.png")], size=32)
