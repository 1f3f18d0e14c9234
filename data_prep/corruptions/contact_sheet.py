"""A picture of every corruption at every severity: ``python -m data_prep.corruptions.contact_sheet PICTURE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_prep.command_line import CommandParser
from data_prep.corruptions.engine import corrupt, profile_of
from data_prep.corruptions.registry import corruption_names, severities
from data_prep.decode import decode_image
from data_prep.errors import EXIT_DONE, InputError, place_named, run_command

LABEL_WIDTH, GAP, BACKGROUND, INK = 230, 2, 255, 0
CELL = 128
"""Longer side of an image in the sheet, in pixels."""


def draw_sheet(image: NDArray[np.uint8], profile: str, seed: int = 0) -> Image.Image:
    """Draw one row per corruption of ``profile``: its name, the clean image and all severities.

    Small images are enlarged by a whole factor; large images are shrunk after corruption.

    image: uint8 (H, W, 3), H and W at least 32.
    """
    names = [name for name in corruption_names("all") if severities(name, profile)]
    names += corruption_names("cbar", profile)
    longer = max(image.shape[:2])
    scale = CELL // longer if longer <= CELL else CELL / longer
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    columns = 1 + max(len(severities(name, profile)) for name in names)
    sheet = Image.new("RGB", (LABEL_WIDTH + columns * (width + GAP), len(names) * (height + GAP)), (BACKGROUND,) * 3)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, name in enumerate(names):
        top = row * (height + GAP)
        draw.text((GAP, top + height // 2 - 8), name, fill=(INK,) * 3, font=font)
        levels = severities(name, profile)
        cells = [image, *(corrupt(image[None], name, severity=it, profile=profile, seed=seed)[0] for it in levels)]
        for column, cell in enumerate(cells):
            picture = Image.fromarray(cell).resize((width, height), Image.Resampling.BOX)
            sheet.paste(picture, (LABEL_WIDTH + column * (width + GAP), top))
    return sheet


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the sheet of the picture that the command line names."""
    parser = CommandParser(description=__doc__, prog="python -m data_prep.corruptions.contact_sheet")
    parser.add_argument("picture", type=Path, help="an image file of at least 32 x 32 pixels")
    parser.add_argument("--profile", help="cifar, imagenet or sweep (default: cifar up to 64 x 64, imagenet beyond)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("contact_sheet.png"), help="default: contact_sheet.png")
    arguments = parser.parse_args(argv)
    if not arguments.picture.is_file():
        raise InputError(f"expected an image file, got {arguments.picture}, which is not one; check the path")
    with place_named(arguments.picture):
        image = decode_image(arguments.picture.read_bytes())
    profile = arguments.profile or profile_of(*image.shape[:2])
    sheet = draw_sheet(image, profile, arguments.seed)
    try:
        sheet.save(arguments.out)
    except ValueError as error:  # a suffix without a format
        raise InputError(f"expected --out to end in .png or .jpg, got {arguments.out}; rename it") from error
    print(f"{arguments.picture}, corrupted by the profile {profile}, in {arguments.out}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
