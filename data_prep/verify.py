"""Read a data set again from end to end and compare it with its records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.archives_c import FOLDERS, count_all, find_archive_c
from data_prep.cifar import find_release
from data_prep.cifar_c import CifarC
from data_prep.corruptions import N_SEVERITIES
from data_prep.errors import InputError, PrerequisiteError
from data_prep.files import digest_of
from data_prep.generate import SOURCES, generated_folder, generated_sets, read_manifest
from data_prep.sources import command_line, how_to_get, load_images, split_sizes
from data_prep.store import read_record


def verify_data(name: str, data_dir: Path) -> Iterator[str]:
    """Verify the data that ``load_images`` or ``find_archive_c`` would find under this name, part by part.

    Official files are compared with their published checksums, imports with the fingerprints of their arrays,
    generated sets with the checksums of their manifest, and -C archives with their layout, their labels and the list of
    corruptions; the image files of ImageNet-C are listed, not opened.

    Yields: one line for every correct split or corruption.
    Raises: InputError for the first incorrect one; PrerequisiteError for a missing -C archive; as ``load_images``.
    """
    if name in FOLDERS:
        return _verify_archive_c(name, data_dir)
    generated = {f"{known}-generated": known for known in SOURCES} | generated_sets(data_dir)
    if name in generated:
        return _verify_generated(name, generated[name], data_dir)
    return _verify_splits(name, data_dir)


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
    archive = find_archive_c(name, data_dir)
    if archive is None:
        expected = f"expected {FOLDERS[name]} in {data_dir}, got no such folder"
        raise PrerequisiteError(f"{expected}; {how_to_get(name, data_dir)}")
    for corruption, count in count_all(archive):
        yield f"{name} {corruption}: {N_SEVERITIES} x {count:,} images"


def _verify_generated(name: str, source: str, data_dir: Path) -> Iterator[str]:
    archive = CifarC(generated_folder(source, data_dir), None)
    manifest = read_manifest(archive.folder)
    command = command_line("generate", source, data_dir=data_dir)
    if manifest is None:
        raise PrerequisiteError(f"expected a generated set in {archive.folder}, got none; run: {command}")
    if unknown := {f"{corruption}.npy" for corruption in archive.corruptions()} - manifest.files.keys():
        raise InputError(f"expected only the manifest's files in {archive.folder}, got also {min(unknown)}; remove it")
    for file, entry in manifest.files.items():
        path = archive.folder / file
        if not path.is_file() or digest_of(path, "sha256") != entry["sha256"]:
            raise InputError(f"expected SHA-256 {entry['sha256']} of {path}, got another or no file; run: {command}")
    for corruption in archive.corruptions():
        yield f"{name} {corruption}: {N_SEVERITIES} x {archive.count(corruption):,} images"
