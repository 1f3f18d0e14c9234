"""Suites, recipes and models that nobody should write: one sentence that says what is wrong, and never a traceback."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import anything, change_somewhere, damage, examples, told_in_a_sentence
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import UsageError
from robustness.attack import read_attacks
from robustness.laws import FittedLaw
from robustness.suite import Suite, read_suite_file, shipped_suites
from sdnet_core import ModelCard, import_official, load_model
from sdnet_core.__main__ import convert
from sdnet_core.config import LARGEST
from sdnet_core.networks import ARCHITECTURES, NetworkConfig
from sdnet_core.recipes import Recipe, read_recipe, shipped_recipes


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
        for name in data.draw(st.lists(st.sampled_from(Suite.__struct_fields__), max_size=3)):
            fields[name] = data.draw(anything)
        path = tmp_path / "suite.toml"
        path.write_text("".join(f"{key} = {to_toml(value)}\n" for key, value in fields.items()))
        with told_in_a_sentence():
            suite = Suite(**read_suite_file(str(path)))
            assert "/" not in suite.name
            assert all(lam >= 0 for lam in suite.lambdas)

    @examples(3)
    @given(data=st.data())
    def test_fields_of_a_recipe(self, data: st.DataObject, tmp_path: Path) -> None:
        fields = {"data": "shapes", "model": {"arch": data.draw(st.sampled_from(sorted(ARCHITECTURES)))}}
        for name in data.draw(st.lists(st.sampled_from(list(NetworkConfig.__dataclass_fields__)), max_size=2)):
            fields["model"][name] = data.draw(anything)
        for name in data.draw(st.lists(st.sampled_from(Recipe.__struct_fields__), max_size=2)):
            fields[name] = data.draw(anything)
        path = tmp_path / "recipe.toml"
        path.write_text("".join(f"{key} = {to_toml(value)}\n" for key, value in fields.items()))
        with told_in_a_sentence():
            recipe = read_recipe(str(path))
            assert "/" not in recipe.name
            assert np.isfinite([recipe.learning_rate(progress) for progress in (0, 0.5, recipe.epochs)]).all()
            torch.optim.SGD(
                [torch.zeros(1)],
                lr=recipe.lr,
                momentum=recipe.momentum,
                nesterov=recipe.nesterov,
                weight_decay=recipe.weight_decay,
            )
            assert not {"num_classes", "image_size"} & recipe.model.keys()

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


@cache
def official_checkpoint(zipped: bool) -> bytes:
    """A file of ``torch.save``, made once: the older format names tensors by their addresses, so that no two files of
    it are alike, and examples that are drawn from its bytes must be of one file."""
    buffer = io.BytesIO()
    torch.save({"layer0.0.dn.weight": torch.ones(2, 3)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


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

    @pytest.mark.parametrize(
        ("name", "number"),
        [(name, number) for name in ("width", "n_dict", "num_classes") for number in (LARGEST[name], 10**12)],
    )
    def test_a_card_cannot_ask_for_memory_that_its_weights_do_not_fill(
        self, name: str, number: int, models: Path, tmp_path: Path
    ) -> None:
        content = (models / "sparse.safetensors").read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        card = json.loads(header["__metadata__"]["card"])
        card["config"][name] = number
        header["__metadata__"]["card"] = json.dumps(card)
        text = json.dumps(header).encode()
        path = tmp_path / "huge.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        with pytest.raises(UsageError, match=r"for sdnet18|expected weights of sdnet18|of at most"):
            load_model(path)

    @examples(1)
    @given(data=st.data())
    def test_damaged_official_checkpoints(self, data: st.DataObject, tmp_path: Path) -> None:
        path = tmp_path / "model.pth.tar"
        path.write_bytes(data.draw(damage(official_checkpoint(zipped=data.draw(st.booleans())))))
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
