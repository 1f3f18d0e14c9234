"""From a request to measurements: every requested suite is prepared, and all share images and models.

Several suites in one command have a run directory each; a run takes over equal cells that an earlier run measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from data_prep import ImageSet, load_images
from data_prep.archives_c import names_of_archive
from data_prep.errors import InputError
from data_prep.files import as_file_name
from robustness.attack import Attack, read_attacks, replace_eps
from robustness.measure.foreign import runs_code
from robustness.measure.given import Model, widen_classes
from robustness.measure.measurement import Measurement
from robustness.measure.prepare import prepare, profile_of
from robustness.measure.tasks import Shelf
from robustness.mirror import is_url
from robustness.options import RunOptions
from robustness.suite import Suite, read_suite_file
from robustness.suite_folders import check_parent

Asked = str | Suite | None
"""A suite by name, its file, the suite itself, or None for the suite of the options."""
_OF_ONE = ("corruptions", "attacks", "shard")
"""Options that apply to one suite only."""
ARCHIVE_OF = {"cifar10": "cifar10c", "cifar100": "cifar100c", "imagenet": "imagenetc"}
"""Official -C archive by data set, used if it is on disk."""
_KEYS = ("lambdas", "models", "corruptions", "severities", "baseline", "split", "n", "seed")
"""Options that directly replace keys of a suite."""


def plan_runs(
    options: RunOptions, suites: Sequence[Asked], *, models: Mapping[str, Model] | None = None, **given: Any
) -> list[tuple[Measurement, RunOptions]]:
    """Load images and models once, and plan the grid of every suite.

    Args:
        options: the request; with several suites, ``out`` is the folder of their run directories.
        suites: names, files or suites; None for the standard suite of the options' images. A single suite is planned as
            by :func:`plan_run`.
        models: models by name; None for the models of the options or of each suite.
        given: further arguments of :func:`plan_run`.

    Returns:
        A measurement for each suite, and its options. Each takes over equal measurements of the suites before it.

    Raises:
        PrerequisiteError: as ``plan_run``.
        InputError: as ``plan_run``; an option that applies to one suite only, or two suites with one name.
    """
    fields = [_read(suite) for suite in suites]
    whole = any(own.get("shifts") for own in fields)  # shifts are compared with clean images of their own classes
    shelf, planned = Shelf(), list[tuple[Measurement, RunOptions]]()
    for suite, own in zip(suites, [options] if len(suites) == 1 else _split(options, suites, fields), strict=True):
        given["suite"] = suite if isinstance(suite, Suite) else None
        measurement = plan_run(own, models=models, whole=whole, shelf=shelf, **given)
        measurement.previous_suites = tuple(previous for previous, _ in planned)
        planned.append((measurement, own))
    return planned


def find_parent(options: RunOptions, suites: Sequence[Asked]) -> Path | None:
    """Return the folder of the run directories of several suites; None for one suite."""
    if len(suites) < 2:
        return None
    names = "+".join(_read(suite)["name"] for suite in suites)
    return Path(options.out) if options.out else Path("results/runs") / names


def _split(options: RunOptions, suites: Sequence[Asked], fields: Sequence[dict[str, Any]]) -> list[RunOptions]:
    """Split the options among several suites. Shifts belong to the images of the other suites."""
    if given := [name for name in _OF_ONE if getattr(options, name) is not None]:
        raise InputError(
            f"--{given[0]} is for one suite, and {len(suites)} are requested; leave it out, or name one suite"
        )
    if options.out is not None and is_url(options.out):
        raise InputError(f"expected a folder as --out of several suites, got {options.out}; give each a URL of its own")
    names = [own["name"] for own in fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"expected suites of different names, got two called {twice[0]}; leave one of them out")
    parent = find_parent(options, suites)
    assert parent is not None
    check_parent(parent)
    is_free = options.data is None and "data" not in options.objects
    data = next((own["data"] for own in fields if not own.get("shifts")), None) if is_free else options.data
    split = []
    for suite, own in zip(suites, fields, strict=True):
        changes: dict[str, Any] = {
            "suite": None if isinstance(suite, Suite) else suite,
            "out": str(parent / own["name"]),
        }
        changes |= {"data": data} if own.get("shifts") else {}
        kept = tuple(it for it in options.objects if it != "suite" or isinstance(suite, Suite))
        split.append(msgspec.structs.replace(options, objects=kept, **changes))
    return split


def _read(suite: Asked) -> dict[str, Any]:
    """Read the keys of a suite."""
    if isinstance(suite, Suite):
        return msgspec.structs.asdict(suite)
    return {} if suite is None else read_suite_file(suite)


def plan_run(
    options: RunOptions,
    *,
    models: Mapping[str, Model] | None = None,
    data: Any = None,
    suite: Suite | None = None,
    attacks: tuple[str | dict[str, Any] | Attack, ...] | None = None,
    classes: Sequence[str] | str | Path | None = None,
    progress: bool = True,
    whole: bool = False,
    shelf: Shelf | None = None,
) -> Measurement:
    """Load images and models, make the suite and plan its grid.

    Args:
        options: the request, and how it is measured.
        models: models by name; None for the models of the options or the suite.
        data: images that replace ``options.data``, in any form that :func:`data_prep.load_images` takes.
        suite: suite that replaces ``options.suite``.
        attacks: attacks that replace ``options.attacks``.
        classes: classes of the images, which replace ``options.classes``.
        progress: show a bar while pictures are read.
        whole: load all images, even if few are measured.
        shelf: objects that suites of the same command have loaded.

    Raises:
        PrerequisiteError: data, a model or a GPU is missing.
        InputError: data or a model is invalid.
    """
    shelf = shelf or Shelf()
    source = options.data if data is None else data
    images: ImageSet | None = None
    if source is not None:

        def load() -> ImageSet:
            loaded = load_images(
                source,
                options.split,
                options.data_dir,
                resize=options.resize,
                crop=options.crop,
                classes=options.classes if classes is None else classes,
                n=None if isinstance(source, ImageSet) or whole else options.n,
                seed=options.seed or 0,
                progress=progress,
            )
            return widen_classes(loaded, models or {}) if data is not None and classes is None else loaded

        images = shelf.get(("images", options.data), load)
    wanted = make_suite(options, images, suite, options.attacks if attacks is None else attacks)
    return prepare(wanted, options, images=images, models=models, progress=progress, shelf=shelf)


def make_suite(
    options: RunOptions,
    images: ImageSet | None = None,
    suite: Suite | None = None,
    attacks: tuple[str | dict[str, Any] | Attack, ...] | None = None,
) -> Suite:
    """Build the requested suite: a given one, the suite of a file, or the standard suite of ``images``.

    Raises:
        InputError: an invalid value; the message names it.
    """
    if suite is None and options.suite is None and images is not None:
        fields: dict[str, Any] = {"attacks": _make_attacks(attacks or (), options, profile_of(images))}
        if attacks and options.corruptions is None:
            fields["corruptions"] = ()
        return standard_suite(options, images, **fields)
    own = options if attacks is None else msgspec.structs.replace(options, eps=None)
    named = read_suite_file(options.suite or "demo")["data"] if suite is None else suite.data
    made = read_suite(own) if suite is None else _replace_keys(msgspec.structs.asdict(suite), own)
    if images is not None:
        same = images.name == named or made.only_official or made.archive == "imagenetp"
        archive = made.archive if same else ARCHIVE_OF.get(images.name, "")
        made = msgspec.structs.replace(made, data=images.name, split=images.split, archive=archive)
    if attacks is not None:
        made = msgspec.structs.replace(made, attacks=_make_attacks(attacks, options, made.profile))
    return made


def _make_attacks(
    attacks: tuple[str | dict[str, Any] | Attack, ...], options: RunOptions, profile: str
) -> tuple[Attack, ...]:
    """Build attacks from names, tables or attacks, each once for every budget in its norm."""
    if options.eps is not None and not attacks:
        raise InputError("expected attacks for eps, got none; name one, as in attacks=['pgd']")
    made: list[Attack] = []
    for attack in attacks:
        if isinstance(attack, Attack):
            made.append(attack)
            continue
        table = {"name": attack} if isinstance(attack, str) else dict(attack)
        if options.eps is None:
            made += read_attacks([table], profile)
        for norm, eps in options.eps or ():
            made += read_attacks([{**table, "norm": norm or table.get("norm", "linf"), "eps": eps}], profile)
    return tuple(made)


def read_suite(options: RunOptions) -> Suite:
    """Read the suite that file and options together describe; raise InputError for invalid values."""
    fields = read_suite_file(options.suite or "demo")
    if not options.models and (named := [name for name in fields.get("models", ()) if runs_code(name)]):
        raise InputError(f"the suite names {', '.join(named)}, which runs code; name it on the command line, --models")
    archive = fields.get("archive", "")
    is_free = archive != "imagenetp" and not names_of_archive(archive)
    if options.data is not None and options.data != fields["data"] and is_free:
        fields |= {"data": options.data, "archive": ARCHIVE_OF.get(options.data, "")}
    return _replace_keys(fields, options)


def _replace_keys(fields: dict[str, Any], options: RunOptions) -> Suite:
    """Build the suite of ``fields`` with the keys that ``options`` name replaced; raise as :func:`read_suite`."""
    if options.eps is not None:
        if not fields["attacks"]:
            raise InputError(f"the suite {fields['name']} has no attack, so --eps changes nothing in it; leave it out")
        fields["attacks"] = replace_eps(fields["attacks"], options.eps)
    return Suite(**fields | _list_replaced(options))


def standard_suite(options: RunOptions, images: ImageSet, **fields: Any) -> Suite:
    """Build the suite of standard corruptions: CIFAR-10-C's parameters up to 64 pixels a side, else ImageNet-C's.

    Args:
        options: options that replace keys of the suite.
        images: images to measure, which name the suite.
        fields: other keys of :class:`Suite`.

    Raises:
        InputError: an invalid value; the message names it.
    """
    own = {"name": as_file_name(images.name), "data": images.name, "split": images.split}
    own |= {"profile": profile_of(images), "archive": ARCHIVE_OF.get(images.name, "")}
    own["description"] = f"Corruptions of {images.title}" if fields.get("corruptions") != () else images.title
    return Suite(**own | fields | _list_replaced(options))


def _list_replaced(options: RunOptions) -> dict[str, Any]:
    fields = {key: value for key in _KEYS if (value := getattr(options, key)) is not None}
    if options.selection is not None:
        fields["selection"] = "" if options.selection == "none" else options.selection
    return fields
