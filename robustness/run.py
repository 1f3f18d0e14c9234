"""Measure a suite: ``python -m robustness.run --suite cifar10c --lambdas 0.1,0.2,0.5``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from data_prep.command_line import CommandParser, add_version, output_to_stderr, parse_names
from data_prep.errors import EXIT_DONE, EXIT_SOME_FAILED, InputError, check_words, run_command
from robustness.grids import attach_negatives, parse_eps, parse_lambdas, parse_severities
from robustness.options import EXECUTORS, SELECTIONS, RunOptions
from robustness.report import STRICT_HELP, exit_code, overview_to_json, print_overview, print_summary, to_json
from robustness.suite import read_suite_file, shipped_suites
from sdnet_core.config import SPEEDS, shipped_models

if TYPE_CHECKING:
    from robustness.analysis.findings import Findings
    from robustness.measure.measurement import Measurement

_OPTIONS = RunOptions.__struct_fields__


def make_parser() -> argparse.ArgumentParser:
    """Build the command-line parser."""
    suites = "\n".join(f"  {name:10} {read_suite_file(name).get('description', '')}" for name in shipped_suites())
    parser = CommandParser(
        prog="python -m robustness.run",
        description="Measure how robust models are across a grid of perturbations and test-time λs. After an "
        "interruption, the same command resumes; with more λs, models or corruptions, it measures only the new cells.",
        epilog=f"suites:\n{suites}\n\nshipped models: {', '.join(shipped_models()) or '(none)'}\n\nexamples:\n"
        "  python -m robustness.run\n"
        "  python -m robustness.run --data pets/ --models mymodel.py:build\n"
        "  python -m robustness.run --data pets/ --models mymodel.py:build --attacks pgd --eps 2/255 --n 200\n"
        "  python -m robustness.run --suite cifar10c --lambdas 0.1,0.2,0.5 --n 1000\n"
        "  python -m robustness.run --suite noise --lambdas 0.1:1.4:14 --models my.safetensors,resnet18-cifar10\n"
        "  python -m robustness.run --suite pgd --eps 2/255,8/255 --n 200\n"
        "  python -m robustness.run --suite autoattack --eps 4/255,l2:0.25 --strict\n\n"
        "exit codes: 0 done, 1 some cells failed or --strict found a mark, 2 bad input or something missing",
    )
    add_version(parser)
    add = parser.add_argument
    add(
        "--suite",
        metavar="NAME|FILE.toml",
        help="suite from the list below, or a file (default demo, or with --data the standard corruptions); several "
        "suites, as in cifar10c,shifts, share images and models, and one leaderboard covers all of them",
    )
    add(
        "--data",
        metavar="NAME|PATH",
        help="data set, or your own pictures: a folder of class/file or split/class/file, or a .zip, .tar or .npz",
    )
    add(
        "--split",
        metavar="NAME",
        help="split of the images (default test, or else a validation split, or else the only split)",
    )
    add(
        "--classes",
        metavar="FILE",
        help="file that lists the class folders of --data, one per line, in the order of the model's outputs",
    )
    add("--resize", type=int, metavar="N", help="scale the short side of pictures of --data to N pixels")
    add(
        "--crop",
        type=int,
        metavar="N",
        help="then keep the central N × N pixels (pictures of several sizes have a default)",
    )
    add(
        "--input-size",
        type=int,
        metavar="N",
        help="scale the short side of the images to N pixels after the corruption, for external models",
    )
    add("--lambdas", type=str, metavar="GRID", help="λs to measure: 0.1,0.2,0.5 or first:last:count, as in 0.1:1.4:14")
    add(
        "--models",
        metavar="A,B",
        help="models to measure: shipped names; files .safetensors, .pt, .pt2, .onnx; torchvision:NAME[@FILE], "
        "timm:NAME[@FILE], robustbench:NAME, hf:FOLDER; module:function[@FILE] or file.py:function[@FILE] "
        "(docs/benchmark-your-model.md)",
    )
    add("--baseline", metavar="MODEL", help="model that the others are compared with (default: the first without λ)")
    add(
        "--corruptions",
        metavar="A,B",
        help="names, or the groups all, standard, extra, noise, blur, weather, digital, cbar; standard,-frost leaves "
        "one out",
    )
    add("--severities", metavar="1,3,5", help="levels to measure (default: the suite's levels)")
    add(
        "--selection",
        choices=SELECTIONS,
        help="corruptions of training images on which the policy `validated` chooses λ; none leaves this policy out",
    )
    add("--attacks", metavar="A,B", help="attacks that replace the suite's: pgd, autoattack or classes of torchattacks")
    add("--eps", metavar="2/255,8/255", help="budgets of the attacks, in [0, 1] pixel units; l2:0.5 is a budget in L2")
    add(
        "--n",
        type=int,
        metavar="N",
        help="number of images, drawn at random; a larger N includes them (default: the suite's, or all)",
    )
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="folder of the data sets (default data)")
    add(
        "--out",
        metavar="DIR|URL",
        help="run directory (default results/runs/<suite>), or with several suites the folder of their run "
        "directories; may be a URL such as s3://bucket/run",
    )
    add("--device", metavar="cpu|cuda", help="device to compute on (default: cuda if it works)")
    sizes = "default 250; 50 for images of more than 64 pixels a side"
    add("--batch-size", type=int, metavar="N", help=f"images per forward pass ({sizes})")
    add(
        "--speed",
        choices=SPEEDS,
        default="exact",
        help="fast: models are compiled, in bfloat16 if the processor has it; changed predictions are counted first",
    )
    add("--seed", type=int, metavar="N", help="seed of the subset, of generated corruptions and of attacks (default 0)")
    add("--executor", choices=EXECUTORS, default="local", help="measure here (default) or on a Ray cluster")
    add(
        "--ray-address",
        metavar="HOST:PORT",
        help="address of a running cluster (default: $RAY_ADDRESS, or a new Ray on this machine)",
    )
    add(
        "--gpus-per-task",
        type=float,
        metavar="X",
        help="share of a GPU for each job on Ray; 0 for CPUs (default: 1 if there are GPUs)",
    )
    add("--shard", metavar="i/n", help="measure only part i of n; robustness.merge joins the parts")
    add(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="abandon a model that takes longer for one perturbation at all its λs, or for one attack (default: never)",
    )
    add("--fresh", action="store_true", help="delete what the run directory holds, and measure everything again")
    add("--strict", action="store_true", help=STRICT_HELP)
    add(
        "--dry-run",
        action="store_true",
        help="print what would be measured, how long it may take, and how much is already measured",
    )
    add(
        "--json",
        action="store_true",
        help="print nothing but one JSON object at the end: the results, or with --dry-run the plan",
    )
    add("--quiet", action="store_true", help="print nothing but errors, and with --json the object")
    return parser


def read_options(arguments: argparse.Namespace) -> RunOptions:
    """Convert parsed arguments to the library's options; raise InputError for invalid values."""
    if arguments.shard is not None and arguments.strict:
        raise InputError("--strict needs the whole run, and a shard is a part; give it to python -m robustness.merge")
    for name in ("corruptions", "attacks", "out"):
        value = getattr(arguments, name)
        if value is not None and not value.strip(", "):
            raise InputError(f"expected something after --{name}, got {value!r}; name it, or leave the option out")
    readers: dict[str, Callable[[str], Any]] = {
        "lambdas": parse_lambdas,
        "models": parse_names,
        "corruptions": parse_names,
        "attacks": parse_names,
        "severities": parse_severities,
        "eps": parse_eps,
        "data_dir": str,
    }
    given = {name: value for name, value in vars(arguments).items() if value is not None and name in _OPTIONS}
    return RunOptions(**{name: readers[name](value) if name in readers else value for name, value in given.items()})


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    check_words(words)
    arguments = make_parser().parse_args(attach_negatives(words))
    options = read_options(arguments)
    if not arguments.json:
        return _run(arguments, options)[0]
    with output_to_stderr():
        code, values = _run(arguments, options)
    print(json.dumps(values, ensure_ascii=False))
    return code


def _run(arguments: argparse.Namespace, options: RunOptions) -> tuple[int, dict[str, Any]]:
    """Plan or measure the request; return the exit code and, for ``--json``, the results as JSON values."""
    from robustness.analysis.overview import Overview
    from robustness.measure.request import find_parent, plan_runs
    from robustness.session import (
        conduct,
        describe_estimate,
        describe_plan,
        estimate_work,
        plan_to_json,
        shard_to_json,
    )
    from robustness.suite_folders import write_list

    quiet = arguments.quiet
    say = _say_nothing if quiet or arguments.json else print
    suites = (None,) if options.suite is None else parse_names(options.suite, shipped_suites()) or (options.suite,)
    if len(suites) == 1:  # without repetitions and blanks
        options = msgspec.structs.replace(options, suite=suites[0])
    runs = plan_runs(options, suites, progress=not quiet)
    if arguments.dry_run:
        plans = {}
        for measurement, own in runs:
            if not own.fresh:
                measurement.find_done()
            estimate = estimate_work(measurement)
            for line in (*describe_plan(measurement), *describe_estimate(measurement, estimate)):
                say(line)
            plans[measurement.suite.name] = plan_to_json(measurement, estimate)
        return EXIT_DONE, {"suites": plans} if len(plans) > 1 else next(iter(plans.values()))
    warn = _say_nothing if quiet else partial(print, file=sys.stderr)
    parent = find_parent(options, suites)
    if parent is not None:
        write_list(parent, [measurement.suite.name for measurement, _ in runs])
    measured: dict[str, Findings] = {}
    for measurement, own in runs:
        measurement.quiet = quiet
        findings = conduct(measurement, own, say=say, warn=warn)
        if findings is None:
            return _show_shard(measurement, say), shard_to_json(measurement)
        if not quiet and not arguments.json:
            print_summary(findings)
        measured[measurement.suite.name] = findings
    overview = None if parent is None else Overview(parent, measured)
    if overview is not None:
        overview.write()
    code = max(exit_code(found, strict=arguments.strict) for found in measured.values())
    if arguments.json:
        return code, to_json(*measured.values()) if overview is None else overview_to_json(overview)
    if overview is not None and not quiet:
        print_overview(overview)
    return code, {}


def _say_nothing(_: str) -> None:
    pass


def _show_shard(measurement: Measurement, say: Callable[[str], object]) -> int:
    """Report where the outcomes of a shard are; return the exit code."""
    for reason in sorted(set(measurement.failures.values())):
        print(f"some cells failed: {reason}", file=sys.stderr)
    say(f"written: {measurement.directory.path}/; python -m robustness.merge OUT SHARD... joins the shards")
    return EXIT_SOME_FAILED if measurement.failures else EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
