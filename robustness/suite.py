"""A suite: what is measured, read from a suite file and the command line into one frozen object."""

from __future__ import annotations

import difflib
import re
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from data_prep.archives_c import names_of_archive
from data_prep.archives_p import FOLDERS_P
from data_prep.corruptions import N_SEVERITIES, SEQUENCES, corruption_names, expand_names, severities
from data_prep.corruptions.registry import extra_of_kind
from data_prep.errors import InputError, check_known, check_seed
from data_prep.files import as_file_name
from data_prep.schema import read, read_toml
from data_prep.shifts import SHIFTS
from robustness.attack import THREATS, Attack, check_distinct, read_attacks
from robustness.grids import check_lambdas, parse_lambdas


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A grid of models × perturbations × λ on one data set.

    Args:
        name: name of the run directory.
        description: one sentence for the list of suites and the report.
        data: data set, as ``python -m data_prep list`` names it.
        split: split of the data set to measure.
        profile: parameter table of the generated corruptions: ``cifar``, ``imagenet`` or ``sweep``.
        archive: official -C archive (``cifar10c``, ``cifar100c``, ``imagenetc``), used if it is on disk; or a required
            archive, ``imagenet3dcc`` or the folder of any archive; empty for none.
        corruptions: names or groups, expanded here; ``archive`` stands for every corruption of a required archive.
        severities: levels ≥ 1; empty for every level that the profile has.
        models: shipped names or paths.
        lambdas: the λ grid for models that have a λ; empty for the training λ only.
        selection: corruptions of *training* images on which the policy ``validated`` chooses λ: ``extra`` (for every
            corruption the extra one of its kind), ``same`` (the corruption itself) or empty for none.
        selection_n: number of training images of the selection.
        baseline: model that the others are compared with; empty for the first one without λ.
        n: size of the nested random subset of the images; None for all.
        seed: seed of the subset, of every generated corruption and of the random starts of attacks.
        attacks: the attacks, one for each budget; empty for none.
        threats: what the attacker knows about λ: some of :data:`robustness.attack.THREATS`.
        probe_images: number of images for each trust probe of an attack; 0 for no probes, which is marked SUSPECT.
        shifts: natural shifts to measure, names of :data:`data_prep.shifts.SHIFTS`; ``all`` for all shifts in the data
            directory.
        sequences: perturbation sequences, names of :data:`data_prep.corruptions.registry.SEQUENCES` or of the
            ``archive``, ``cifar10p`` or ``imagenetp``; ``all`` for the ten of the paper.
        difficulty: difficulty of the sequences, 1 to 3: strength of the noise, and number of frames between compared
            frames.

    Raises:
        InputError: an invalid value; the message names it.
    """

    name: str
    data: str
    description: str = ""
    split: str = "test"
    profile: str = "cifar"
    archive: str = ""
    corruptions: tuple[str, ...] = ("standard",)
    severities: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    lambdas: tuple[float, ...] = ()
    selection: str = ""
    selection_n: int = 1000
    baseline: str = ""
    n: int | None = None
    seed: int = 0
    attacks: tuple[Attack, ...] = ()
    threats: tuple[str, ...] = THREATS
    probe_images: int = 10
    shifts: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    difficulty: int = 1

    def __post_init__(self) -> None:
        if not self.name or self.name != as_file_name(self.name) or self.name.startswith("."):
            raise InputError(
                f"expected letters, digits and . _ - in the name of a suite, which names a folder, got {self.name!r}; "
                f"write name = {re.sub('[^A-Za-z0-9._-]+', '_', self.name).strip('.') or 'mine'!r} into its file"
            )
        msgspec.structs.force_setattr(self, "corruptions", _expand(self.corruptions, self.only_official, self.profile))
        for corruption in self.corruptions:
            known = self._known_levels(corruption)
            if not known:
                raise InputError(
                    f"expected corruptions that the profile {self.profile!r} defines, got {corruption}; choose another "
                    "profile"
                )
            if excess := set(self.severities) - set(known):
                raise InputError(
                    f"expected severities {known[0]} to {known[-1]} of {corruption} in the profile {self.profile!r}, "
                    f"got {', '.join(map(str, sorted(excess)))}; choose among them"
                )
        if self.lambdas:
            msgspec.structs.force_setattr(self, "lambdas", check_lambdas(self.lambdas))
        if self.n is not None and self.n < 1:
            raise InputError(f"expected --n of at least 1 image, got {self.n}; give a larger number or leave it out")
        if self.selection not in ("", "extra", "same"):
            raise InputError(
                f"expected selection of 'extra', 'same' or empty, got {self.selection!r}; choose one of them"
            )
        if self.selection and self.split == "train":
            raise InputError(
                "the selection chooses λ on the split train, which this suite measures; leave it out or measure "
                "another split"
            )
        if self.selection_n < 1:
            raise InputError(f"expected selection_n of at least 1 image, got {self.selection_n}; give a larger number")
        check_seed(self.seed)
        check_known(self.threats, THREATS, "threats", advice="choose some of them")
        if "whitebox" not in self.threats:
            raise InputError(
                "expected whitebox among the threats, as the others are compared with it, got "
                f"{', '.join(self.threats) or 'none'}; add it"
            )
        if set(self.threats) != {"whitebox"} and (found := [a.label for a in self.attacks if not a.kind.transfers]):
            raise InputError(
                f"attack {found[0]}: images that just fool one network say nothing about another λ; write threats = "
                '["whitebox"]'
            )
        if "all" in self.sequences:
            msgspec.structs.force_setattr(self, "sequences", SEQUENCES)
        if self.sequences and self.corruptions:
            raise InputError(f"the suite {self.name} has sequences and corruptions; write two suites")
        if self.difficulty not in (1, 2, 3):
            raise InputError(
                f"expected the difficulty of sequences as 1, 2 or 3, got {self.difficulty}; choose one of them"
            )
        if unknown := set(self.shifts) - {*SHIFTS, "all"}:
            raise InputError(
                f"expected natural shifts ({', '.join(SHIFTS)}, all), got {', '.join(sorted(unknown))}; choose some of "
                "them"
            )
        check_distinct(self.attacks)
        if taken := {attack.label for attack in self.attacks} & {
            "clean",
            *corruption_names("all"),
            *corruption_names("cbar"),
        }:
            raise InputError(
                f"expected an attack whose name is neither clean nor a corruption, got {taken.pop()}; give it another "
                "label = …"
            )
        if self.probe_images < 0 or self.probe_images == 1:
            raise InputError(
                f"expected probe_images of 0 or at least 2, as one image proves nothing, got {self.probe_images}; give "
                "such a number"
            )
        if not self.models:
            raise InputError(
                f"expected models for the suite {self.name}, got none; give some with --models NAME|FILE[,...]"
            )

    def levels(self, corruption: str) -> tuple[int, ...]:
        """Return the severities at which ``corruption`` is measured."""
        known = self._known_levels(corruption)
        return tuple(level for level in known if not self.severities or level in self.severities)

    @cached_property
    def only_official(self) -> tuple[str, ...]:
        """Corruptions of a required archive; empty if missing corruptions may be generated."""
        return names_of_archive(self.archive) if self.archive not in FOLDERS_P else ()

    def _known_levels(self, corruption: str) -> tuple[int, ...]:
        if corruption in self.only_official:
            return tuple(range(1, N_SEVERITIES + 1))
        return severities(corruption, self.profile)

    @property
    def selection_corruptions(self) -> tuple[str, ...]:
        """Corruptions of the training images that λ is chosen on, as far as the profile defines them."""
        kinds = {extra_of_kind(name) for name in self.corruptions}
        extra = [name for name in corruption_names("extra") if name in kinds]
        names = {"": (), "extra": extra, "same": self.corruptions}[self.selection]
        return tuple(name for name in names if self.levels(name))


def _expand(names: tuple[str, ...], only_official: tuple[str, ...], profile: str) -> tuple[str, ...]:
    """Replace groups by their corruptions in ``profile``; names in ``only_official`` may belong to an archive alone."""
    given = [own for name in names for own in (only_official if name == "archive" else (name,))]
    left_out = {f"-{name}" for name in only_official} & set(given)
    others = [name for name in given if name not in only_official and name not in left_out]
    expanded = iter(expand_names(others, profile) if others else ())
    chosen = [name for name in given if name in only_official and f"-{name}" not in left_out]
    return tuple(dict.fromkeys([*chosen, *expanded]))


_FIELDS = {
    field.name: TypedDict(field.name, {field.name: field.type})  # type: ignore[operator]
    for field in msgspec.structs.fields(Suite)
}
"""One-key types, by the name of each key of a suite: each key is read by its own type and named if it does not fit."""


def shipped_suites() -> dict[str, Path]:
    """Return the names and paths of the suites that come with the package."""
    folder = Path(str(files("robustness") / "suites"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_suite_file(name_or_path: str) -> dict[str, Any]:
    """Read the fields of a suite file; unknown keys and wrong types are refused here, wrong values later.

    Raises:
        InputError: no such suite, not TOML, an unknown or missing key, or a value of the wrong type.
    """
    path = shipped_suites().get(name_or_path, Path(name_or_path))
    if not path.is_file():
        close = difflib.get_close_matches(name_or_path, shipped_suites(), n=1)
        hint = f"did you mean {close[0]}?" if close else "check the name"
        raise InputError(
            f"expected the path of a TOML file or a shipped suite ({', '.join(shipped_suites())}), got "
            f"{name_or_path!r}; {hint}"
        )
    fields = {"name": path.stem, **read_toml(path)}
    tables = fields.pop("attacks", [])
    check_known(fields, Suite.__struct_fields__, "keys", where=f"{path}: ")
    if "data" not in fields:
        raise InputError(f"{path}: expected the key `data`, the name of the data set to measure on, got none; add it")
    for key, value in fields.items():
        is_range = key == "lambdas" and isinstance(value, str)
        fields[key] = parse_lambdas(value) if is_range else read({key: value}, _FIELDS[key], str(path))[key]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(
            f"{path}: expected attacks as tables, [[attacks]], then name = …, norm = …, eps = …, got something else; "
            "write one [[attacks]] table for each attack"
        )
    fields["attacks"] = read_attacks(tables, fields.get("profile", "cifar"))
    return fields
