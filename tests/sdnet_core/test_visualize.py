"""``python -m sdnet_core.visualize``: the numbers come from the model, the figures exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from data_prep.errors import InputError
from data_prep.pictures import pick_pictures
from sdnet_core import ModelCard, build_model, save_model
from sdnet_core.augment import to_images
from sdnet_core.drawing import draw_atoms, draw_codes, stretch
from sdnet_core.visualize import main


def save(path: Path, arch: str, **options: object) -> str:
    torch.manual_seed(0)
    model = build_model(arch, width=4, **options)
    model(torch.rand(8, 3, 32, 32))
    save_model(model, path, ModelCard(name=path.stem, config=model.config))
    return str(path)


def test_everything_of_a_network_that_leads_back(tmp_path, capsys):
    model = save(tmp_path / "chain.safetensors", "sdnet18_all", shortcut=False)
    out = tmp_path / "new" / "look"
    layers = ["--layers", "input_layer,layer3.1.conv2", "--lam", "0.2"]
    assert main([model, "--images", "shapes:3,1", *layers, "--out", str(out)]) == 0
    assert "note:" not in capsys.readouterr().out
    names = {"atoms", "layers", "reconstructions", "codes_0", "codes_1"}
    files = {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf")}
    assert {path.name for path in out.iterdir()} == files | {"layers.csv", "reconstructions.npz"}

    table, arrays = pd.read_csv(out / "layers.csv"), np.load(out / "reconstructions.npz")
    assert len(table) == 17 * 2
    assert set(table["lam"]) == {0.2}
    assert table.notna().all().all()
    pixels = np.stack([picture.pixels for picture in pick_pictures(["shapes:3,1"], size=32)])
    np.testing.assert_array_equal(arrays["images"], to_images(torch.from_numpy(pixels)).numpy())
    mean, std = (np.array(v).reshape(3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    for name, rows in table.groupby("layer"):
        x, rebuilt = ((arrays[key] - mean) / std for key in ("images", str(name)))
        error = np.square(rebuilt - x).sum((1, 2, 3)) / np.square(x).sum((1, 2, 3))
        np.testing.assert_allclose(rows["error"], error, rtol=1e-3)
        assert rows["correlation"].abs().max() <= 1 + 1e-6
        assert rows["sparsity"].between(0, 1).all()


@pytest.mark.parametrize(
    ("arch", "last", "reason"),
    [("sdnet18", "input_layer", "no synthesis"), ("sdnet18_all", "layer1.0.conv2", "a sum does not tell its parts")],
)
def test_networks_that_do_not_lead_back_show_the_rest_and_say_why(arch, last, reason, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sdnet_core.visualization.save_figure", lambda *_: None)
    model, out = save(tmp_path / "m.safetensors", arch), tmp_path / "look"
    assert main([model, "--images", "shapes:0", "--layers", "input_layer", "--out", str(out)]) == 0
    assert f"note: reconstructions end at {last}: " in (said := capsys.readouterr().out)
    assert reason in said
    table = pd.read_csv(out / "layers.csv")
    assert table[table["error"].notna()]["layer"].iloc[-1] == last
    assert table["sparsity"].notna().all()


def test_maps_are_ordered_by_energy_and_atoms_stretched():
    code = np.stack([np.full((2, 2), value, np.float32) for value in (1.0, 3.0, 0.0, 2.0)])
    axes = draw_codes({"input_layer": code}, "cat").axes
    assert [axis.get_title() for axis in axes[:4]] == ["atom 1: 64%", "atom 3: 29%", "atom 0: 7%", "atom 2: 0%"]
    figure = Figure()
    draw_atoms(figure, np.stack([np.arange(27.0).reshape(3, 3, 3) - 5, np.full((3, 3, 3), 7.0)]))
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert (shown[0].min(), shown[0].max(), shown[1].max()) == (0, 1, 0)
    assert not any(axis.get_xticks().size for axis in figure.axes)
    assert stretch(np.array([[0.0, 5.0], [2.0, 2.0]]), axes=(1,)).tolist() == [[0, 1], [0, 0]]


def test_bad_requests_are_refused(tmp_path):
    model, out = save(tmp_path / "m.safetensors", "sdnet18"), ["--out", str(tmp_path / "x")]
    with pytest.raises(InputError, match=r"expected layers among input_layer, got layer9; choose"):
        main([model, "--images", "shapes:0", "--layers", "layer9", *out])
    with pytest.raises(InputError, match="expected a finite λ ≥ 0"):
        main([model, "--images", "shapes:0", "--lam", "-1", *out])
    with pytest.raises(InputError, match="expected 1 to 16 images for a figure, got 17; name"):
        main([model, "--images", "shapes:" + ",".join(map(str, range(17))), *out])
    with pytest.raises(InputError, match="expected a network with a sparse code, got resnet18"):
        main([save(tmp_path / "r.safetensors", "resnet18"), "--images", "shapes:0", *out])
    assert not (tmp_path / "x").exists()


def test_an_out_that_is_a_file_is_refused_before_the_work(tmp_path, monkeypatch):
    model = save(tmp_path / "m.safetensors", "sdnet18")
    monkeypatch.setattr("sdnet_core.visualization.record_codes", lambda *_: pytest.fail("the work began"))
    with pytest.raises(InputError, match=r"expected a folder, got .*m\.safetensors, which is not one; choose another"):
        main([model, "--images", "shapes:0", "--out", model])
