"""Read a data set again from end to end and compare it with what is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.archives_c import FOLDERS, N_SEVERITIES, corruptions_in, find_archive_c, load_archive_c
from data_prep.cifar import find_release
from data_prep.corruptions import corruption_names
from data_prep.errors import InputError, PrerequisiteError
from data_prep.sources import command_line, load_images, split_sizes
from data_prep.store import read_record


def verify_data(name: str, data_dir: Path) -> Iterator[str]:
    """Verify what ``load_images`` or ``load_archive_c`` would read under this name, part by part.

    Official files are compared with their published checksums, imports with the fingerprints of their arrays, and
    -C archives with their layout, their labels and the list of corruptions.

    Yields: one line for every split or corruption that is right.
    Raises: InputError for the first that is not; PrerequisiteError for an absent -C archive; as ``load_images`` does.
    """
    return _verify_archive_c(name, data_dir) if name in FOLDERS else _verify_splits(name, data_dir)


def _verify_splits(name: str, data_dir: Path) -> Iterator[str]:
    record = read_record(data_dir / name) if find_release(name, data_dir) is None else None
    for split, count in split_sizes(name, data_dir).items():
        images = load_images(name, split, data_dir)
        if len(images) != count:
            raise InputError(f"expected {count:,} images in {name} {split}, got {len(images):,}; get it again")
        if record is not None and images.fingerprint != record.fingerprints[split]:
            expected, got = record.fingerprints[split], images.fingerprint
            raise InputError(f"expected fingerprint {expected} of {name} {split}, got {got}; import it again")
        yield f"{images.title} {split}: {len(images):,} images, fingerprint {images.fingerprint}"


def _verify_archive_c(name: str, data_dir: Path) -> Iterator[str]:
    folder = find_archive_c(name, data_dir)
    if folder is None:
        command = command_line("download", name, data_dir=data_dir)
        raise PrerequisiteError(f"expected {FOLDERS[name]} in {data_dir}, got no such folder; run: {command}")
    if missing := set(corruption_names("all")).difference(corruptions_in(folder)):
        raise InputError(
            f"expected every corruption in {folder}, got none of {', '.join(sorted(missing))}; get it again"
        )
    for corruption in corruptions_in(folder):
        pixels, _ = load_archive_c(folder, corruption, N_SEVERITIES)
        yield f"{name} {corruption}: {N_SEVERITIES} x {len(pixels):,} images"
