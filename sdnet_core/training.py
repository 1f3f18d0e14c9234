"""Train a model by a recipe; :mod:`sdnet_core.train` is the command line.

A run directory holds ``state.pt`` (to resume after a kill), ``log.csv``, ``curves.png`` and ``model.safetensors``.
Every epoch draws its shuffling and augmentation from (seed, epoch) and starts from converged step sizes, so that a
resumed run gives the same result as an uninterrupted run. The final model is from the last epoch: test images do not
choose it. Under torchrun each process takes its share of every batch (:mod:`sdnet_core.processes`).
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from data_prep import ImageSet, load_images
from data_prep.errors import InputError
from data_prep.files import locked, remove_unfinished
from data_prep.progress import make_bar
from sdnet_core.adversarial import craft_batch, random_start
from sdnet_core.augment import crop_and_flip, resize, to_images
from sdnet_core.checkpoints import ModelCard, build_model, check_target, load_model, save_model, weights_fingerprint
from sdnet_core.environment import describe_environment, select_device
from sdnet_core.networks import CIFAR_MEAN, CIFAR_STD, Network
from sdnet_core.processes import ALONE, Processes, join_processes, own_device
from sdnet_core.recipes import Recipe
from sdnet_core.training_state import MovingAverage, TrainingState, read_state, write_log

_EVALUATION_BATCH = 500
_MOST_THREADS = 1024
_STATISTICS_IMAGES = 5_000
"""Number of training images from which an averaged network takes its BatchNorm statistics."""
_STATE_FILE = "state.pt"


@dataclass(frozen=True)
class TrainingRun:
    """One training: its recipe, device, seed and run directory."""

    recipe: Recipe
    seed: int
    out: Path
    device: torch.device
    precision: str
    init: str | None = None
    processes: Processes = ALONE
    fresh: bool = False

    def identity(self, init_weights: str | None, train_set: ImageSet, test_set: ImageSet) -> str:
        """Return what must not change before a run is resumed, as JSON text; ``init_weights`` is a fingerprint."""
        images = [train_set.fingerprint, test_set.fingerprint]
        return json.dumps([self.recipe.describe(), self.seed, self.precision, init_weights, images], sort_keys=True)


def train(run: TrainingRun, train_set: ImageSet, test_set: ImageSet) -> ModelCard:
    """Train to the last epoch, resuming from ``state.pt`` if the run directory has one, and write the model.

    A ``fresh`` run deletes ``state.pt``, but only after all other checks have passed.

    Raises:
        InputError: the run directory belongs to another recipe, seed, precision or start, or to other images, or its
            ``state.pt`` is damaged; the model of ``init`` has another configuration; the loss is not finite; a batch
            cannot be divided among the processes.
    """
    recipe = run.recipe
    torch.manual_seed(run.seed)
    options = {"mean": CIFAR_MEAN, "std": CIFAR_STD, **recipe.model}
    sizes = {"num_classes": len(train_set.classes), "image_size": train_set.pixels.shape[1]}
    model = build_model(converge=False, **sizes, **options)  # each epoch converges its step sizes first
    init_weights = _start_from(model, load_model(run.init)) if run.init else None
    model = model.to(memory_format=memory_layout(run.device, model.config.width)).to(run.device)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    parallel = run.processes.parallelise(model)
    pixels = torch.from_numpy(np.array(train_set.pixels)).to(run.device)
    labels = torch.from_numpy(np.array(train_set.labels)).to(run.device)
    identity = run.identity(init_weights, train_set, test_set)
    state = TrainingState(model, optimiser, MovingAverage(model, recipe.ema_decay) if recipe.ema_decay else None)
    _resume(run, identity, state)
    log = state.log
    steps = len(pixels) // recipe.batch_size
    with make_bar(
        total=recipe.epochs * steps,
        initial=len(log) * steps,
        unit="step",
        desc=recipe.name,
        quiet=not run.processes.is_first,
    ) as progress:
        for epoch in range(len(log), recipe.epochs):
            started = time.perf_counter()
            loss = _train_epoch(run, state, parallel, pixels, labels, progress)
            tested = model if state.average is None else _finish(run, state, pixels)
            # in the precision of training; the accuracy on the card is measured in float32
            with torch.autocast(run.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
                correct = count_correct(tested, test_set, run.device, run.processes)
            log.append(
                {
                    "epoch": epoch + 1,
                    "lr": recipe.learning_rate(epoch + 1),
                    "train_loss": loss,
                    "test_accuracy": correct / len(test_set),
                    "seconds": time.perf_counter() - started,
                }
            )
            progress.set_postfix(loss=f"{loss:.3f}", test=f"{100 * log[-1]['test_accuracy']:.2f}%")
            if run.processes.is_first:
                write_log(run.out, log)
                state.write(run.out / _STATE_FILE, identity)  # last: a resumed training writes no log of it
    model = _finish(run, state, pixels)
    accuracy = {
        "correct": count_correct(model, test_set, run.device, run.processes),
        "n": len(test_set),
        "data": test_set.title,
        "fingerprint": test_set.fingerprint,
    }
    card = ModelCard(
        name=recipe.name,
        config=model.config,
        recipe=recipe.describe(),
        accuracy=accuracy,
        record={
            "seed": run.seed,
            "precision": run.precision,
            "processes": run.processes.size,
            **({"init": run.init, "init_weights": init_weights} if run.init else {}),
            "seconds": round(sum(row["seconds"] for row in log), 1),
            "train_data": train_set.title,
            "train_fingerprint": train_set.fingerprint,
            "weights": weights_fingerprint(model),
            **describe_environment(run.device),
        },
    )
    if run.processes.is_first:
        save_model(model, run.out / "model.safetensors", card)
    return card


def _train_epoch(
    run: TrainingRun, state: TrainingState, parallel: nn.Module, pixels: Tensor, labels: Tensor, progress: tqdm[Any]
) -> float:
    """Train for one pass over the shuffled images and return the mean loss, the only value the host waits for.

    Whole batches are drawn, whatever the number of processes, and then divided. ``parallel`` is the model wrapped for
    all processes.
    """
    recipe, share, epoch = run.recipe, run.processes.share, len(state.log)
    model, optimiser = state.model, state.optimiser
    generator = torch.Generator(run.device).manual_seed(((run.seed << 20) + epoch) % 2**64)
    order = torch.randperm(len(pixels), generator=generator, device=run.device)
    steps = len(pixels) // recipe.batch_size
    total = torch.zeros((), device=run.device)
    model.train()
    model.refresh()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate(epoch + (step + 1) / steps)
        chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        batch = crop_and_flip(pixels[chosen], padding=recipe.crop_padding, flip=recipe.flip, generator=generator)
        images = resize(to_images(batch), recipe.image_size(epoch)).contiguous(
            memory_format=memory_layout(run.device, model.config.width)
        )
        targets = share(labels[chosen])
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            if recipe.adversarial:
                start = random_start(images, eps=recipe.adversarial_eps, generator=generator)
                own = craft_batch(
                    model,
                    share(images),
                    targets,
                    start=share(start),
                    eps=recipe.adversarial_eps,
                    steps=recipe.adversarial_steps,
                    step_size=recipe.adversarial_step_size,
                )
            else:
                own = share(images)
            loss = functional.cross_entropy(parallel(own), targets, label_smoothing=recipe.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        model.project()
        if state.average is not None:
            state.average.update(model)
        total += loss.detach()
        progress.update()
    mean = float(run.processes.add(total)) / (steps * run.processes.size)
    if mean != mean or mean == float("inf"):
        raise InputError(
            f"expected a finite loss, got {mean} in epoch {epoch + 1}; lower lr (now {recipe.lr}) or lengthen "
            "warmup_epochs"
        )
    return mean


def _finish(run: TrainingRun, state: TrainingState, pixels: Tensor) -> Network:
    """Finish the final network; an averaged network gets the BatchNorm statistics of its own activations.

    The averaged statistics belong to the networks that were averaged: with them, the average of a ResNet-18 that was
    trained on growing images classified 83.1 % of CIFAR-10 correctly, and its last weights 87.6 %.

    Source: Izmailov et al., *Averaging Weights Leads to Wider Optima and Better Generalization*, UAI 2018.
    """
    network = state.finish()
    if state.average is not None:
        generator = torch.Generator(pixels.device).manual_seed(run.seed)
        chosen = torch.randperm(len(pixels), generator=generator, device=pixels.device)[:_STATISTICS_IMAGES]
        images = (to_images(pixels[part]) for part in torch.split(chosen, _EVALUATION_BATCH))
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            update_bn(images, network, run.device)
    return network


@torch.inference_mode()
def count_correct(model: Network, images: ImageSet, device: torch.device, processes: Processes = ALONE) -> int:
    """Count the correct predictions on ``images`` at the training λ; the model's mode is restored.

    Each of ``processes`` predicts its share of the batches; all return the sum.
    """
    was_training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    stride = processes.size * _EVALUATION_BATCH
    for start in range(processes.rank * _EVALUATION_BATCH, len(images), stride):
        batch = torch.from_numpy(np.array(images.pixels[start : start + _EVALUATION_BATCH])).to(device)
        labels = torch.from_numpy(np.array(images.labels[start : start + _EVALUATION_BATCH])).to(device)
        correct += (model(to_images(batch)).argmax(1) == labels).sum()
    model.train(was_training)
    return int(processes.add(correct))


def memory_layout(device: torch.device, width: int) -> torch.memory_format:
    """Choose channels last, which trains 1.6 times as fast on the CPU; below 16 channels there, contiguous memory.

    The gradient for the weight of a 1 × 1 convolution with stride 2, as in the shortcuts, corrupts the heap with fewer
    than 16 channels in last place and more than one thread ("double free or corruption"; seen with torch 2.14.1,
    oneDNN on AVX-512, at 4, 8 and 12 channels, never in 60 calls each at 16, 20, 24, 32, 48 and 64).
    """
    return torch.channels_last if device.type == "cuda" or width >= 16 else torch.contiguous_format


def _start_from(model: Network, trained: Network) -> str:
    """Copy the weights of a trained network of the same configuration and return their fingerprint.

    Raises:
        InputError: the configurations differ.
    """
    if model.config != trained.config:
        raise InputError(
            f"expected the network of the recipe in --init, {model.config}, got {trained.config}; give another --init "
            "or recipe"
        )
    model.load_state_dict(trained.state_dict())
    return weights_fingerprint(trained)


def _resume(run: TrainingRun, identity: str, state: TrainingState) -> None:
    """Restore ``state.pt`` if it exists; only the first process reads it."""
    path = run.out / _STATE_FILE
    if run.fresh and run.processes.is_first:
        path.unlink(missing_ok=True)
    stored = run.processes.send(read_state(path) if run.processes.is_first and path.exists() else None)
    if stored is None:
        return
    if stored["identity"] != identity:
        raise InputError(
            f"expected a training of this recipe, seed, precision, --init, images and version in {run.out}, got "
            "another; choose another --out or give --fresh to start again"
        )
    state.restore(stored)


def check_threads(threads: int) -> int:
    """Return ``threads`` if so many CPU threads can be started.

    Raises:
        InputError: they cannot be started.
    """
    if not 1 <= threads <= _MOST_THREADS:
        raise InputError(
            f"expected --threads as a whole number from 1 to {_MOST_THREADS}, got {threads}; give another number"
        )
    return threads


def train_recipe(
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    precision: str = "float32",
    threads: int | None = None,
    data_dir: str | Path = "data",
    device: str | None = None,
    init: str | None = None,
    fresh: bool = False,
) -> ModelCard:
    """Train ``recipe`` on its data set and print the result; under torchrun together with the other processes.

    Args:
        recipe: the training recipe.
        out: run directory.
        seed: seed of initial weights, order and augmentation.
        precision: precision of the forward pass, ``float32`` or ``bf16``.
        threads: number of CPU threads; None for all cores.
        data_dir: folder of the data sets.
        device: ``cpu`` or ``cuda``; None for CUDA if it works.
        init: start from the weights of this model.
        fresh: start again instead of resuming.

    Raises:
        PrerequisiteError: data or a GPU is missing.
        InputError: as :func:`train`, or a batch is larger than the training set.
    """
    if threads is not None:
        torch.set_num_threads(check_threads(threads))
    place = own_device(select_device(device))
    train_set, test_set = (load_images(recipe.data, split=split, data_dir=data_dir) for split in ("train", "test"))
    if recipe.batch_size > len(train_set):
        raise InputError(
            f"expected batch_size of at most {len(train_set)}, the images of {train_set.title} in {train_set.split}, "
            f"got {recipe.batch_size}; give a smaller one"
        )
    with join_processes(place) as processes, ExitStack() as held:
        if processes.is_first:
            check_target(out / "model.safetensors")
            out.mkdir(parents=True, exist_ok=True)
            busy = f"another training is writing to {out}; wait for its end, or choose another --out"
            held.enter_context(locked(out / ".lock", busy))
            remove_unfinished(out)
        run = TrainingRun(recipe, seed, out, place, precision, init, processes, fresh)
        card = train(run, train_set, test_set)
    if processes.is_first:
        accuracy = card.accuracy["correct"] / card.accuracy["n"]
        print(f"{card.name}: {accuracy:.2%} of {card.accuracy['n']} test images of {card.accuracy['data']}")
        print(f"written: {out / 'model.safetensors'}")
    return card
