"""A picture of every corruption at every severity: ``python -m data_prep.corruptions.contact_sheet PICTURE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from data_prep.corruptions.engine import corrupt
from data_prep.corruptions.registry import corruption_names, severities
from data_prep.errors import EXIT_DONE, InputError, run_command

LABEL_WIDTH, GAP, BACKGROUND, INK = 150, 2, 255, 0
CELL = 128


def draw_sheet(image: NDArray[np.uint8], profile: str, seed: int = 0) -> Image.Image:
    """Draw one row per corruption of ``profile``: its name, the clean image and all severities, small images enlarged.

    image: uint8 (H, W, 3), H and W at least 32.
    """
    names = [name for name in corruption_names("all") if severities(name, profile)]
    scale = max(1, CELL // max(image.shape[:2]))
    height, width = (side * scale + GAP for side in image.shape[:2])
    columns = 1 + max(len(severities(name, profile)) for name in names)
    sheet = Image.new("RGB", (LABEL_WIDTH + columns * width, len(names) * height), (BACKGROUND,) * 3)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, name in enumerate(names):
        draw.text((GAP, row * height + height // 2 - 8), name, fill=(INK,) * 3, font=font)
        levels = severities(name, profile)
        cells = [image, *(corrupt(image[None], name, severity=it, profile=profile, seed=seed)[0] for it in levels)]
        for column, cell in enumerate(cells):
            enlarged = cell.repeat(scale, axis=0).repeat(scale, axis=1)
            sheet.paste(Image.fromarray(enlarged), (LABEL_WIDTH + column * width, row * height))
    return sheet


def main() -> int:
    """Draw the sheet of the picture that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m data_prep.corruptions.contact_sheet")
    parser.add_argument("picture", type=Path, help="an image file of at least 32 x 32 pixels")
    parser.add_argument("--profile", default="cifar", help="cifar (default), imagenet or sweep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("contact_sheet.png"), help="default: contact_sheet.png")
    arguments = parser.parse_args()
    try:
        with Image.open(arguments.picture) as picture:
            image = np.array(picture.convert("RGB"))
    except (FileNotFoundError, UnidentifiedImageError) as error:
        raise InputError(
            f"expected an image file in {arguments.picture}, got: {error}; give another picture"
        ) from error
    draw_sheet(image, arguments.profile, arguments.seed).save(arguments.out)
    print(f"{arguments.picture}, corrupted, in {arguments.out}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
