"""The options of a run: every option of ``python -m robustness.run`` and of :func:`robustness.evaluate`, typed."""

from __future__ import annotations

from typing import Any

import msgspec

from data_prep.errors import InputError
from data_prep.schema import read
from robustness.attack import format_eps
from robustness.grids import format_lam, read_eps
from sdnet_core.config import SPEEDS

LARGEST_SIDE = 4096
LONGEST_TIMEOUT = 366 * 86400.0
EXECUTORS = ("local", "ray")
SELECTIONS = ("extra", "same", "none")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="run"):
    """The options of a run: a suite, replacements for its keys, and how it is measured. ``run.json`` stores them.

    They are the arguments of :func:`robustness.evaluate`, converted, and some of the command line alone, which
    ``python -m robustness.run --help`` describes. None leaves a choice to the suite or to the machine. A budget of
    ``eps`` is a pair of norm and ε; an empty norm stands for the suite's. ``objects`` lists what was given as Python
    objects, which the command line cannot name: ``model``, ``data``, ``suite``.

    Raises:
        InputError: a value that cannot be used, named.
    """

    suite: str | None = None
    data: str | None = None
    split: str | None = None
    resize: int | None = None
    crop: int | None = None
    classes: str | None = None
    input_size: int | None = None
    lambdas: tuple[float, ...] | None = None
    models: tuple[str, ...] | None = None
    corruptions: tuple[str, ...] | None = None
    severities: tuple[int, ...] | None = None
    selection: str | None = None
    attacks: tuple[str | dict[str, Any], ...] | None = None
    eps: tuple[tuple[str, float], ...] | None = None
    baseline: str | None = None
    n: int | None = None
    seed: int | None = None
    data_dir: str = "data"
    out: str | None = None
    device: str | None = None
    batch_size: int | None = None
    speed: str = "exact"
    executor: str = "local"
    ray_address: str | None = None
    gpus_per_task: float | None = None
    shard: str | None = None
    timeout: float | None = None
    fresh: bool = False
    objects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"expected --batch-size of at least 1, got {self.batch_size}; give a larger number")
        if self.input_size is not None and not 1 <= self.input_size <= LARGEST_SIDE:
            raise InputError(
                f"expected --input-size from 1 to {LARGEST_SIDE} pixels, got {self.input_size}; give another size"
            )
        if self.timeout is not None and not 0 < self.timeout <= LONGEST_TIMEOUT:
            raise InputError(
                f"expected --timeout as a number of seconds > 0, up to a year, got {self.timeout:g}; give such a number"
            )
        if self.data is None and "data" not in self.objects:
            for name in ("resize", "crop", "classes"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"--{name} is for the pictures of --data PATH; give --data, too, or leave --{name} out"
                    )
        if self.attacks is None and self.suite is None and self.data is not None and self.eps is not None:
            raise InputError("--eps needs an attack; give --attacks pgd, or a suite that has one, or leave it out")
        for name, choices in (("speed", SPEEDS), ("executor", EXECUTORS), ("selection", (None, *SELECTIONS))):
            if (value := getattr(self, name)) not in choices:
                raise InputError(
                    f"expected {name} as one of {', '.join(filter(None, choices))}, got {value!r}; choose one of them"
                )
        if self.executor == "local" and (self.ray_address, self.gpus_per_task) != (None, None):
            raise InputError(
                "--ray-address and --gpus-per-task are for --executor ray; add --executor ray, or leave them out"
            )
        if self.executor == "ray" and self.speed == "fast":
            raise InputError(
                "--speed fast is for --executor local, as compiled networks stay on the machine that made them; leave "
                "one of them out"
            )
        if self.executor == "ray" and self.device is not None:
            raise InputError(
                "--device is for --executor local; leave it out and, to measure on CPUs on Ray, give --gpus-per-task 0"
            )

    def to_words(self) -> list[str]:
        """Return the words after ``python`` that repeat the run, or a call of :func:`robustness.evaluate`."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value != _DEFAULTS[name]}
        objects = given.pop("objects", ())
        if objects or not all(isinstance(attack, str) for attack in self.attacks or ()):
            return ["-c", f"import robustness; robustness.evaluate({_write_arguments(given, objects)})"]
        words = ["-m", "robustness.run"]
        for name, value in given.items():
            words.append(f"--{name.replace('_', '-')}")
            if value is not True:
                words.append(_write_option(name, value))
        return words


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in msgspec.structs.fields(RunOptions)}


class AblationOptions(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="ablate"
):
    """The options of ``python -m robustness.ablate``, whose ``--help`` describes them."""

    recipe: str
    set: tuple[str, ...] = ()
    vary: tuple[str, ...]
    seed: int = 0
    precision: str = "float32"
    threads: int | None = None
    suite: str = "noise"
    n: int = 1000
    data_dir: str = "data"
    device: str | None = None
    out: str | None = None

    def to_words(self) -> list[str]:
        """Return the words after ``python`` that repeat the ablation."""
        words = ["-m", "robustness.ablate"]
        for field in msgspec.structs.fields(type(self)):
            value = getattr(self, field.name)
            if value != field.default:
                for item in value if isinstance(value, tuple) else (value,):
                    words += [f"--{field.name.replace('_', '-')}", str(item)]
        return words


Options = RunOptions | AblationOptions


def read_options(record: dict[str, Any]) -> Options | None:
    """Return the options that a run record holds; None for records of earlier versions, which hold words instead.

    Raises:
        InputError: the options do not match their type.
    """
    if "options" not in record:
        return None
    options: Options = read(record["options"], Options, "the options of the run")  # type: ignore[arg-type]
    return options


def write_options(options: Options) -> dict[str, Any]:
    """Return options as JSON values."""
    values: dict[str, Any] = msgspec.to_builtins(options)
    return values


def rerun_words(record: dict[str, Any]) -> list[str]:
    """Return the words after ``python`` that repeat the run of a record; empty if the record does not say.

    Records of earlier versions hold the words of their command line; the words of a run lack ``-m robustness.run``.
    """
    options = read_options(record)
    if options is not None:
        return options.to_words()
    asked: list[str] = record.get("asked", [])
    names_own = asked[:1] == ["-m"] and all(word.startswith("robustness.") for word in asked[1:2])
    return asked if not asked or names_own else ["-m", "robustness.run", *asked]


def _write_option(name: str, value: Any) -> str:
    """Write an option as it is typed."""
    if name == "eps":
        return ",".join(f"{norm}:{_write_eps(eps)}" if norm else _write_eps(eps) for norm, eps in value)
    if name == "lambdas":
        return ",".join(map(format_lam, value))
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return format_lam(value) if isinstance(value, float) else str(value)


def _write_eps(eps: float) -> str:
    short = format_eps(eps, "linf")
    return short if read_eps(short) == eps else repr(eps)


def _write_arguments(given: dict[str, Any], objects: tuple[str, ...]) -> str:
    """Write the arguments of :func:`robustness.evaluate`, with dots for arguments given as objects."""
    models = given.pop("models", ())
    named = "{" + ", ".join(f"{name!r}: ..." for name in models) + "}"
    arguments = [named if "model" in objects else repr(list(models))]
    arguments += [f"{name}=..." for name in ("data", "suite") if name in objects]
    for name, value in given.items():
        shown = [_write_option("eps", [pair]) for pair in value] if name == "eps" else value
        arguments.append(f"{name}={list(shown) if isinstance(shown, tuple) else shown!r}")
    return ", ".join(arguments)
