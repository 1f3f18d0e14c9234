"""Write the corrupted test sets CIFAR-10-C and CIFAR-100-C from the clean test images, in the official layout.

Their folder has a name of its own, ``<data_dir>/CIFAR-10-C-generated``, so that they never pass for the official files;
``data_prep.cifar_c`` describes their layout. ``manifest.json`` records the source images, the seed, the parameters and
the SHA-256 of every file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.archives_c import FOLDERS
from data_prep.cifar_c import LABELS_FILE, MANIFEST_FILE
from data_prep.corruptions import N_SEVERITIES, expand_names, parameters
from data_prep.errors import InputError, PrerequisiteError, check_seed
from data_prep.files import as_file_name, check_space, digest_of, locked, remove_unfinished, replacing, write_text
from data_prep.imageset import ImageSet
from data_prep.progress import make_bar
from data_prep.schema import read
from data_prep.sources import load_images

SOURCES = {"cifar10c": "cifar10", "cifar100c": "cifar100"}
"""Archives that are generated under their own name; for any other data set ``NAME`` it is ``NAME-C-generated``."""
CIFAR_SHAPE = (32, 32, 3)
LARGEST_CIFAR_SIDE = 64
"""Largest side in pixels that gets CIFAR's parameters; larger images get ImageNet-C's, as in a run."""
BLOCK_IMAGES = 1000
SCHEMA_VERSION = 1


@dataclass
class Manifest:
    """The content of ``manifest.json``.

    archive: name of its folder. title, fingerprint, n: title, fingerprint and number of the clean images, as in
    ``ImageSet``. seed: seed of the corruptions. split: split of the data set. profile: name of the parameter table.
    files: for every complete file its ``sha256`` and, for a corruption, the ``parameters`` of each severity.
    """

    archive: str
    title: str
    fingerprint: str
    n: int
    seed: int
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    split: str = "test"
    profile: str = "cifar"

    def write(self, folder: Path) -> None:
        """Write this manifest into ``folder`` and replace the one there."""
        write_text(folder / MANIFEST_FILE, json.dumps(asdict(self), indent=2) + "\n")


def generate_archive_c(
    name: str,
    *,
    data_dir: Path = Path("data"),
    split: str | None = None,
    corruptions: Sequence[str] = ("all",),
    n: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> Path:
    """Write every corruption of a -C archive that is still missing, incomplete or changed.

    An interrupted run resumes with the corruption that it was writing.

    name: "cifar10c", "cifar100c", or any data set, by its name or path as in ``load_images``.
    split: None for the split that ``load_images`` chooses. corruptions: names, or groups of ``corruption_names``.
    n: number of images, drawn as by ``ImageSet.subset``; all if left out. Each has the same noise as in the full set.
    seed: seed of the corruptions.
    device: "cpu" or "cuda", the device to compute on. progress: show a progress bar.
    Returns: the folder.
    Raises: InputError for unknown names, a seed out of range, images of another size and a folder that holds another
        set; PrerequisiteError when the clean images, an asset, the device or the disk space is missing.
    """
    import torch

    from data_prep.corruptions import corrupt

    if name in FOLDERS and name not in SOURCES:
        raise InputError(
            f"expected an archive to generate ({', '.join(SOURCES)}) or a data set, got {name!r}; choose another"
        )
    check_seed(seed)
    if device == "cuda" and not torch.cuda.is_available():
        raise PrerequisiteError("expected a CUDA device, got none; leave --device out to use the CPU")
    names = expand_names(corruptions)
    images = load_images(SOURCES.get(name, name), split, data_dir)
    images = images if n is None else images.subset(n)
    profile = "imagenet" if max(images.pixels.shape[1:3]) > LARGEST_CIFAR_SIDE else "cifar"
    if name in SOURCES and images.pixels.shape[1:] != CIFAR_SHAPE:
        raise InputError(
            f"expected {images.name} as 32 x 32 images, got {images.pixels.shape[1:3]}; import it at 32 x 32"
        )
    for corruption in names:  # fail now rather than after an hour
        corrupt(images.pixels[:1], corruption, severity=1, profile=profile)

    folder = generated_folder(name if name in SOURCES else as_file_name(images.name), data_dir)
    check_space(data_dir, 0)
    busy = f"something else is writing to {folder}; wait for its end, or choose another --data-dir"
    with locked(data_dir / f".{folder.name}.lock", busy):
        manifest = _open_manifest(folder, images, seed, profile)
        remove_unfinished(folder)
        missing = [corruption for corruption in names if not _is_whole(folder, corruption, manifest)]
        check_space(folder, (len(missing) + 1) * N_SEVERITIES * images.pixels[:1].nbytes * len(images))
        manifest.write(folder)  # before any file: a folder with files but without a manifest belongs to somebody else
        _write_labels(folder, images, manifest)
        with make_bar(total=len(missing) * N_SEVERITIES * len(images), unit=" images", quiet=not progress) as bar:
            for corruption in missing:
                bar.set_description(corruption)
                blocks = _corrupted_blocks(images, corruption, profile, seed, device, bar.update)
                shape = (N_SEVERITIES * len(images), *images.pixels.shape[1:])
                digest = _write_array(folder / f"{corruption}.npy", shape, np.dtype(np.uint8), blocks)
                manifest.files[f"{corruption}.npy"] = {"sha256": digest, "parameters": _parameters(corruption, profile)}
                manifest.write(folder)
    return folder


def generated_folder(name: str, data_dir: Path) -> Path:
    """Return the folder of the generated ``"cifar10c"``, or of any data set's generated set; it need not exist."""
    return data_dir / f"{FOLDERS.get(name, f'{name}-C')}-generated"


def generated_sets(data_dir: Path) -> dict[str, str]:
    """Map the generated sets in ``data_dir`` from their names in ``verify`` to their names in ``generate``."""
    own_names = {generated_folder(name, data_dir).name: name for name in SOURCES}
    found = {}
    for path in sorted(data_dir.glob(f"*-C-generated/{MANIFEST_FILE}")):
        folder = path.parent.name
        name = own_names.get(folder, folder.removesuffix("-C-generated"))
        found[f"{name}-generated" if folder in own_names else folder] = name
    return found


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a generated set; None if it has none. Raises: InputError for a damaged manifest."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return None
    try:
        manifest = read(json.loads(path.read_text(encoding="utf-8")), Manifest, MANIFEST_FILE)
        if not all("sha256" in entry for entry in manifest.files.values()):
            raise InputError(f"expected a sha256 of every file in {MANIFEST_FILE}, got a file without")
        return manifest
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected a manifest in {path}, got damaged text; remove {folder}") from error


def _open_manifest(folder: Path, images: ImageSet, seed: int, profile: str) -> Manifest:
    """Read the manifest of the set to resume, or start a new one."""
    wanted = Manifest(folder.name, images.title, images.fingerprint, len(images), seed)
    wanted.split, wanted.profile = images.split, profile
    found = read_manifest(folder)
    if found is None:
        if any(folder.glob("*.npy")):
            raise InputError(
                f"expected an empty folder or a {MANIFEST_FILE} in {folder}, got other files; move them away"
            )
        return wanted
    path = folder / MANIFEST_FILE
    for key in ("schema_version", "archive", "title", "split", "n", "seed", "profile", "fingerprint"):
        expected, got = getattr(wanted, key), getattr(found, key)
        if expected != got:
            raise InputError(
                f"expected {key} {expected} in {path}, got {got}; remove {folder} or choose another --data-dir"
            )
    return found


def _is_whole(folder: Path, corruption: str, manifest: Manifest) -> bool:
    """Check that the file of a corruption exists, is unchanged and has the parameters in use today."""
    path = folder / f"{corruption}.npy"
    entry = manifest.files.get(path.name)
    if entry is None or entry.get("parameters") != _parameters(corruption, manifest.profile) or not path.is_file():
        return False
    return bool(digest_of(path, "sha256") == entry["sha256"])


def _parameters(corruption: str, profile: str) -> list[dict[str, object]]:
    return [parameters(corruption, severity, profile) for severity in range(1, N_SEVERITIES + 1)]


def _corrupted_blocks(
    images: ImageSet, corruption: str, profile: str, seed: int, device: str, advance: Callable[[int], object]
) -> Iterator[bytes]:
    """Yield the pixels of all severities, a block of images at a time."""
    import torch

    from data_prep.corruptions import corrupt

    for severity in range(1, N_SEVERITIES + 1):
        for start in range(0, len(images), BLOCK_IMAGES):
            block = slice(start, start + BLOCK_IMAGES)
            pixels = torch.from_numpy(np.array(images.pixels[block])).to(device)
            indices = images.indices[block]
            corrupted = corrupt(pixels, corruption, severity=severity, profile=profile, seed=seed, indices=indices)
            yield corrupted.cpu().numpy().tobytes()
            advance(len(pixels))


def _write_labels(folder: Path, images: ImageSet, manifest: Manifest) -> None:
    labels = np.tile(images.labels, N_SEVERITIES)
    digest = _write_array(folder / LABELS_FILE, labels.shape, labels.dtype, [labels.tobytes()])
    manifest.files[LABELS_FILE] = {"sha256": digest}
    manifest.write(folder)


def _write_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterator[bytes] | list[bytes]
) -> str:
    """Write a ``.npy`` file block by block and return its SHA-256 (hex)."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                file.write(block)
        return digest_of(temporary, "sha256")
