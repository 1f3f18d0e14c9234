"""Unpack a downloaded tar archive of one folder."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from data_prep.disk import check_space
from data_prep.errors import InputError


def unpack_folder(archive: Path, folder: Path) -> None:
    """Unpack ``archive``, which holds one folder with the name of ``folder``, to ``folder``.

    It is unpacked next to its final place and renamed at the end: the folder is complete or absent.

    Raises: InputError for a damaged archive, a member outside the folder, a link that leaves it, or a device;
        PrerequisiteError when the disk is too small.
    """
    work = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(work, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                if Path(member.name).parts[:1] != (folder.name,):
                    raise InputError(f"expected only {folder.name}/ in {archive}, got {member.name!r}; do not trust it")
            check_space(folder.parent, sum(member.size for member in members))
            tar.extractall(work, members, filter="data")
        (work / folder.name).replace(folder)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise InputError(
            f"expected a whole archive of {folder.name}/ in {archive}, got: {error}; fetch it again"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
