"""The shipped models: their list, their cards as text, and their half-size form."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import torch
from scipy.stats import binomtest

from data_prep import load_images
from data_prep.errors import InputError
from sdnet_core.checkpoints import ModelCard, check_target, load_model, read_card, save_model, weights_fingerprint
from sdnet_core.config import shipped_models
from sdnet_core.networks import Network
from sdnet_core.training import count_correct

MOST_LOST = 5e-4
"""Largest difference between the accuracies of the original and the half-size form, as a share of the test images."""


def list_models() -> str:
    """List name, architecture, steps K, width, parameters, seed, epochs and accuracy, one shipped model per line."""
    sizes = f"{'K':>2} {'width':>5} {'parameters':>10}"
    lines = [f"{'name':24} {'architecture':12} {sizes} {'seed':>4} {'epochs':>6}  accuracy (95 %)"]
    for name in shipped_models():
        card = read_card(name)
        steps = card.config.n_steps if card.config.arch.startswith("sdnet") else "–"
        size = f"{steps:>2} {card.config.width:5} {_count_parameters(card):10,}"
        training = f"{card.record.get('seed', '–'):>4} {card.recipe.get('epochs', '–'):>6}"
        lines.append(f"{name:24} {card.config.arch:12} {size} {training}  {_state_accuracy(card)}")
    return "\n".join(lines)


def describe_model(name_or_path: str) -> str:
    """Format the model card of a shipped name or a file as Markdown: configuration, training and accuracy.

    Raises:
        PrerequisiteError: no such model.
        InputError: a file that is damaged or has no card.
    """
    card = read_card(name_or_path)
    record, recipe = dict(card.record), dict(card.recipe)
    hardware = record.pop("hardware", {})
    versions = record.pop("versions", {})
    git = record.pop("git", {})
    facts = {
        "accuracy": _state_accuracy(card),
        "test images": card.accuracy.get("fingerprint", "–"),
        "parameters": f"{_count_parameters(card):,}",
        "network": _list_fields(dataclasses.asdict(card.config)),
        "recipe": _list_fields({k: v for k, v in recipe.items() if k not in ("model", "description")}) or "–",
        "training": _list_fields(record) or "–",
        "hardware": _list_fields(hardware) or "–",
        "versions": _list_fields(versions) or "–",
        "commit": f"{git.get('commit', '–')}{' with changes' if git.get('dirty') else ''}",
    }
    lines = [f"# {name_or_path}", "", *([str(recipe["description"]), ""] if recipe.get("description") else [])]
    return "\n".join([*lines, *(f"- {title}: {text}" for title, text in facts.items())])


def halve(path: Path, out: Path, *, data_dir: Path, device: torch.device) -> ModelCard:
    """Write a trained model in float16 to ``out``, and measure the accuracy of the rounded weights.

    Args:
        path: a checkpoint that this project trained.
        out: the .safetensors file to write.
        data_dir: folder of the data sets.
        device: device for the measurement.

    Returns:
        The card of the written file, with accuracy and fingerprint of the rounded weights; the original values are kept
        as ``record["before_halving"]``.

    Raises:
        PrerequisiteError: the model or the data to measure it on is missing.
        InputError: a model without a recipe; test images that differ from its card's; an accuracy that changes by more
            than 0.05 points. ``out`` is then not written.
    """
    check_target(out)
    card, model = read_card(path), load_model(path)
    if "data" not in card.recipe or "fingerprint" not in card.accuracy:
        raise InputError(
            f"expected a model that this project trained, got {path}, whose card lacks the recipe or the accuracy and "
            "test images; halve another"
        )
    images = load_images(card.recipe["data"], split="test", data_dir=data_dir)
    if images.fingerprint != card.accuracy["fingerprint"]:
        raise InputError(
            f"expected the test images that {path} was measured on, got others from {images.title} in {data_dir}; give "
            "another --data-dir"
        )
    before = {"correct": card.accuracy["correct"], "weights": weights_fingerprint(model)}
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch) / "half.safetensors"
        save_model(model, stored, card, half=True)
        rounded = load_model(stored)
    after = weights_fingerprint(rounded)
    correct = count_correct(rounded.to(device), images, device)
    if abs(correct - before["correct"]) > MOST_LOST * len(images):
        raise InputError(
            f"expected {path} in float16 within {100 * MOST_LOST:g} points, got {correct} of {len(images)} images "
            f"right instead of {before['correct']}; ship it as it is"
        )
    accuracy, record = (
        {**card.accuracy, "correct": correct},
        {**card.record, "weights": after, "before_halving": before},
    )
    halved = dataclasses.replace(card, accuracy=accuracy, record=record)
    save_model(model, out, halved, half=True)
    return halved


def _count_parameters(card: ModelCard) -> int:
    return sum(parameter.numel() for parameter in Network(card.config, converge=False).parameters())


def _state_accuracy(card: ModelCard) -> str:
    if not card.accuracy:
        return "–"
    correct, n = card.accuracy["correct"], card.accuracy["n"]
    interval = binomtest(correct, n).proportion_ci(method="wilson")
    title = card.accuracy.get("data", "")
    return f"{correct / n:.2%} [{interval.low:.2%}, {interval.high:.2%}] of {n:,} {title}"


def _list_fields(fields: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())
