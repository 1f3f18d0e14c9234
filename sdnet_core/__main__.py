"""List and describe models, convert official checkpoints, make untrained or smaller ones: ``python -m sdnet_core``."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from data_prep.command_line import CommandParser, add_version
from data_prep.errors import InputError, PrerequisiteError, check_seed, run_command
from sdnet_core.config import ARCHITECTURES, CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, LARGEST

_DATASETS = {
    "cifar10": (10, 32, CIFAR_MEAN, CIFAR_STD),
    "cifar100": (100, 32, CIFAR_MEAN, CIFAR_STD),
    "imagenet": (1000, 224, IMAGENET_MEAN, IMAGENET_STD),
}


def convert(path: Path, arch: str, dataset: str, out: Path) -> int:
    """Write an official SDNet checkpoint (``.pth.tar``) as a safetensors checkpoint with a model card.

    The file is read with ``weights_only``: nothing in it is executed.

    Raises:
        PrerequisiteError: no such file.
        InputError: a file that is not a checkpoint or would execute code, or weights that do not fit ``arch``.
    """
    import torch

    from sdnet_core.checkpoints import ModelCard, check_target, save_model
    from sdnet_core.official import import_official

    check_target(out)
    if not path.is_file():
        raise PrerequisiteError(
            f"expected an official checkpoint (model_best.pth.tar or checkpoint.pth.tar), got {path}, which is not "
            "there; check the path"
        )
    try:
        _check_not_packed(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a damaged file raises a variety of errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"expected a checkpoint of plain tensors in {path}, as nothing else is loaded, got: {reason}; save the "
            "state dict alone"
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"expected a state dict in {path}, got a {type(state).__name__}; save model.state_dict()")
    classes, size, mean, std = _DATASETS[dataset]
    model = import_official(state, arch, num_classes=classes, image_size=size, mean=mean, std=std)
    save_model(model, out, ModelCard(name=out.stem, config=model.config, record={"converted_from": path.name}))
    print(f"written: {out}")
    return 0


def _check_not_packed(path: Path) -> None:
    """Raise InputError for a compressed checkpoint: torch never compresses, and unpacking could exhaust memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.file_size > max(member.compress_size, 1 << 20) for member in archive.infolist()):
                raise InputError(
                    f"expected a checkpoint as torch writes it, never compressed, got {path}, which is; do not trust it"
                )


def init(arch: str, dataset: str, width: int, seed: int, out: Path) -> int:
    """Write an untrained model, for timing and for trying out commands; its card says that it is untrained.

    Raises:
        InputError: a width or seed out of range, or an ``out`` that cannot be written.
    """
    import torch

    from sdnet_core.checkpoints import ModelCard, build_model, check_target, save_model

    check_target(out)
    if not 1 <= width <= LARGEST["width"]:
        raise InputError(f"expected --width from 1 to {LARGEST['width']}, got {width}; give another width")
    check_seed(seed)
    classes, size, mean, std = _DATASETS[dataset]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(arch, num_classes=classes, image_size=size, width=width, mean=mean, std=std)
    save_model(model, out, ModelCard(name=out.stem, config=model.config, record={"untrained": True, "seed": seed}))
    print(f"written: {out} (untrained)")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = CommandParser(prog="python -m sdnet_core", description=__doc__)
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="list the shipped models and their accuracies")
    shower = commands.add_parser("show", help="print the card of a model: recipe, data, accuracy, weights, hardware")
    shower.add_argument("model", metavar="NAME|FILE", help="a shipped name or a .safetensors file")
    halver = commands.add_parser(
        "halve",
        help="store a trained model in float16, if its accuracy changes by at most 0.05 points",
        epilog="example:\n  python -m sdnet_core halve results/training/cifar10-sdnet18-w32-seed0/model.safetensors "
        "--out sdnet18.safetensors",
    )
    halver.add_argument("file", type=Path, help="checkpoint that a training wrote")
    halver.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    halver.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of the data sets (default data)")
    halver.add_argument("--device", metavar="cpu|cuda", help="default: cuda if it works")
    converter = commands.add_parser(
        "convert",
        help="convert an official SDNet checkpoint to .safetensors",
        epilog="example:\n  python -m sdnet_core convert model_best.pth.tar --arch sdnet18 --out sdnet18.safetensors",
    )
    converter.add_argument("file", type=Path, help="model_best.pth.tar or checkpoint.pth.tar")
    initialiser = commands.add_parser(
        "init",
        help="make an untrained model, to try out suites without weights",
        epilog="example:\n  python -m sdnet_core init --arch sdnet18 --dataset imagenet --out untrained.safetensors",
    )
    initialiser.add_argument(
        "--width", type=int, default=64, metavar="N", help="channels of the first stage (default 64)"
    )
    initialiser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the weights (default 0)")
    for command in (converter, initialiser):
        command.add_argument("--arch", choices=list(ARCHITECTURES), required=True)
        command.add_argument(
            "--dataset",
            choices=list(_DATASETS),
            default="cifar10",
            help="data set that sets the classes, the image size and the normalisation",
        )
        command.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    arguments = parser.parse_args(argv)
    if arguments.command == "init":
        return init(arguments.arch, arguments.dataset, arguments.width, arguments.seed, arguments.out)
    if arguments.command == "convert":
        return convert(arguments.file, arguments.arch, arguments.dataset, arguments.out)
    from sdnet_core.environment import select_device
    from sdnet_core.zoo import describe_model, halve, list_models

    if arguments.command in ("list", "show"):
        print(list_models() if arguments.command == "list" else describe_model(arguments.model))
        return 0
    device = select_device(arguments.device)
    card = halve(arguments.file, arguments.out, data_dir=arguments.data_dir, device=device)
    print(f"written: {arguments.out} ({card.accuracy['correct']} of {card.accuracy['n']} right, ", end="")
    print(f"{card.record['before_halving']['correct']} before)")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
