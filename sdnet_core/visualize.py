"""Look into an SDNet: ``python -m sdnet_core.visualize MODEL --images ... --out DIR``.

The figures (PNG and PDF) show the images reconstructed from the codes of each layer (feature inversion), the atoms of
the input layer, the codes and their sparsity. The numbers are in ``layers.csv`` and ``reconstructions.npz``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_prep.command_line import CommandParser, add_version
from data_prep.errors import run_command


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of ``python -m sdnet_core.visualize``."""
    parser = CommandParser(
        prog="python -m sdnet_core.visualize",
        description="Look into an SDNet. The figures (PNG and PDF) show the images reconstructed from the codes of "
        "each layer (feature inversion), the atoms of the input layer, the codes and their sparsity. The numbers are "
        "in layers.csv and reconstructions.npz.",
        epilog="examples:\n"
        "  python -m sdnet_core.visualize sdnet18-cifar10 --images cifar10:0,5,7 --out look\n"
        "  python -m sdnet_core.visualize model.safetensors --images cat.png photos/ --lam 0.5 --out look\n"
        "  python -m sdnet_core.visualize model.safetensors --images cifar10:3 --layers input_layer,layer4.1.conv2"
        " --out look",
    )
    add_version(parser)
    parser.add_argument("model", metavar="MODEL", help="a shipped SDNet or the path of a checkpoint")
    parser.add_argument(
        "--images",
        nargs="+",
        required=True,
        metavar="IMAGE",
        help="image files, folders, or images of a data set by number: cifar10:0,5,7",
    )
    parser.add_argument("--layers", default="", metavar="A,B", help="layers to draw (default: the last of each block)")
    parser.add_argument(
        "--lam",
        type=float,
        help="λ of the input layer, or of all sparse layers if the model is built so (default: the training λ)",
    )
    parser.add_argument("--split", default="test", help="split of the data set (default test)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of the data sets (default data)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for figures and numbers")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if it works)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = make_parser().parse_args(argv)
    from data_prep.files import check_folder
    from data_prep.pictures import pick_pictures
    from sdnet_core.checkpoints import load_model, read_card
    from sdnet_core.config import shipped_models
    from sdnet_core.environment import select_device
    from sdnet_core.visualization import visualize

    check_folder(arguments.out)
    card = read_card(arguments.model)
    pictures = pick_pictures(
        arguments.images, size=card.config.image_size, split=arguments.split, data_dir=arguments.data_dir
    )
    model = load_model(arguments.model).to(select_device(arguments.device))
    layers = [name.strip() for name in arguments.layers.split(",") if name.strip()]
    name = arguments.model if arguments.model in shipped_models() else card.name
    limit = visualize(model, name, pictures, arguments.out, layers=layers, lam=arguments.lam)
    if limit:
        print(f"note: {limit}")
    print(f"written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
