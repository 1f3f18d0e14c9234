"""Measure a suite: ``python -m robustness.run --suite cifar10c --lambdas 0.1,0.2,0.5``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from data_prep import ImageSet, load_images
from data_prep.archives_c import ArchiveC
from data_prep.errors import EXIT_DONE, EXIT_SOME_FAILED, InputError, PrerequisiteError, check_words, run_command
from data_prep.names import parse_names
from data_prep.sources import split_sizes
from data_prep.version import add_version
from robustness.analysis.write import write_analysis
from robustness.attack import replace_eps
from robustness.grids import attach_negatives, format_lam, parse_eps, parse_lambdas, parse_severities
from robustness.measure.agreement import measure_agreement
from robustness.measure.attacker import check_attacks
from robustness.measure.executors import Executor, LocalExecutor
from robustness.measure.foreign import runs_code
from robustness.measure.jobs import Shard
from robustness.measure.measure import Measurement
from robustness.measure.perturbations import check_generated, find_official
from robustness.measure.subjects import Subject, load_subject, load_subjects
from robustness.mirror import local_folder, mirrored
from robustness.policies import ResidualLaw
from robustness.report import STRICT_HELP, exit_code, print_summary
from robustness.run_directory import RunDirectory
from robustness.suite import Suite, read_suite_file, shipped_suites
from sdnet_core import Network, shipped_models
from sdnet_core.environment import select_device
from sdnet_core.speed import SPEEDS

_BATCH_SIZE, _BATCH_SIZE_OF_LARGE = 250, 50
_LARGE_SIDE = 64
_LONGEST_TIMEOUT = 366 * 86400.0
_AGREEMENT_N = 1000
"""Clean images on which the fast and the exact form of a model are compared, at most."""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    suites = "\n".join(f"  {name:10} {read_suite_file(name).get('description', '')}" for name in shipped_suites())
    parser = argparse.ArgumentParser(
        prog="python -m robustness.run",
        description="Measure how robust models are across a grid of perturbations and test-time λ. The same command "
        "goes on after a kill, and with more λs, models or corruptions it computes only what is new.",
        epilog=f"suites:\n{suites}\n\nshipped models: {', '.join(shipped_models()) or '(none)'}\n\nexamples:\n"
        "  python -m robustness.run\n"
        "  python -m robustness.run --suite cifar10c --lambdas 0.1,0.2,0.5 --n 1000\n"
        "  python -m robustness.run --suite noise --lambdas 0.1:1.4:14 --models my.safetensors,resnet18-cifar10\n"
        "  python -m robustness.run --suite pgd --eps 2/255,8/255 --n 200\n"
        "  python -m robustness.run --suite autoattack --eps 4/255,l2:0.25 --strict\n\n"
        "exit codes: 0 done, 1 some cells failed or --strict found a mark, 2 bad input or something missing",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    add = parser.add_argument
    add("--suite", default="demo", metavar="NAME|FILE.toml", help="a suite of the list below or a file (default demo)")
    add("--lambdas", type=str, metavar="GRID", help="0.1,0.2,0.5 or first:last:count, as in 0.1:1.4:14")
    add(
        "--models",
        metavar="A,B",
        help="shipped names, .safetensors files, torchvision:NAME, timm:NAME, robustbench:NAME or module:function",
    )
    add(
        "--corruptions",
        metavar="A,B",
        help="names or all, standard, extra, noise, blur, weather, digital; standard,-frost leaves one out",
    )
    add("--severities", metavar="1,3,5", help="levels; default: those of the suite")
    add(
        "--selection",
        choices=("extra", "same", "none"),
        help="corruptions of training images that `validated` chooses λ on; none: leave their cells out",
    )
    add("--eps", metavar="2/255,8/255", help="budgets of the suite's attacks, in [0, 1] pixel units; of L2: l2:0.5")
    add("--n", type=int, metavar="N", help="images: a nested random subset (default: the suite's, or all)")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where data sets are (default data)")
    add("--out", metavar="DIR|URL", help="run directory (default results/runs/<suite>); a URL such as s3://bucket/run")
    add("--device", metavar="cpu|cuda", help="default: cuda where it works")
    sizes = f"default {_BATCH_SIZE}; {_BATCH_SIZE_OF_LARGE} for images of more than {_LARGE_SIDE} pixels a side"
    add("--batch-size", type=int, metavar="N", help=f"per forward pass ({sizes})")
    add(
        "--speed",
        choices=SPEEDS,
        default="exact",
        help="fast: compiled, in bfloat16 where the processor has it; the predictions that it changes are counted",
    )
    add("--seed", type=int, metavar="N", help="of the subset and of generated corruptions (default 0)")
    add("--executor", choices=("local", "ray"), default="local", help="measure here (default) or on a Ray cluster")
    add(
        "--ray-address",
        metavar="HOST:PORT",
        help="running cluster (default: $RAY_ADDRESS, or Ray on this machine)",
    )
    add(
        "--gpus-per-task",
        type=float,
        metavar="X",
        help="share of a GPU for a job on Ray: 0.5, 1 (default), 0 for CPUs",
    )
    add("--shard", metavar="i/n", help="measure part i of n only; robustness.merge joins the parts")
    add(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="give up a model that takes longer for one perturbation at all its λs, or for one attack (default: never)",
    )
    add("--fresh", action="store_true", help="forget what the run directory holds and measure anew")
    add("--strict", action="store_true", help=STRICT_HELP)
    add("--dry-run", action="store_true", help="say what would be measured and what is already there; measure nothing")
    return parser


def read_suite(arguments: argparse.Namespace) -> Suite:
    """The suite as the file and the command line together ask for it; raises InputError for what cannot be used."""
    fields = read_suite_file(arguments.suite)
    asked: dict[str, Any] = {
        "lambdas": arguments.lambdas is not None and parse_lambdas(arguments.lambdas),
        "models": arguments.models is not None and parse_names(arguments.models),
        "corruptions": arguments.corruptions is not None and parse_names(arguments.corruptions),
        "severities": arguments.severities is not None and parse_severities(arguments.severities),
    }
    if arguments.eps is not None:
        budgets = parse_eps(arguments.eps)
        if not fields["attacks"]:
            raise InputError(f"the suite {fields['name']} has no attack, so --eps changes nothing in it: leave it out")
        fields["attacks"] = replace_eps(fields["attacks"], budgets)
    if not asked["models"] and (named := [name for name in fields.get("models", ()) if runs_code(name)]):
        raise InputError(f"the suite names {', '.join(named)}, which runs code: name it on the command line, --models")
    fields |= {key: value for key, value in asked.items() if value is not False}
    if arguments.selection is not None:
        fields["selection"] = "" if arguments.selection == "none" else arguments.selection
    fields |= {key: getattr(arguments, key) for key in ("n", "seed") if getattr(arguments, key) is not None}
    return Suite(**fields)


def prepare(suite: Suite, arguments: argparse.Namespace) -> Measurement:
    """Load what the suite needs and plan its grid.

    Raises:
        PrerequisiteError: data, a model or a GPU is missing.
        InputError: what is there cannot be used.
    """
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1; got {arguments.batch_size}")
    if arguments.speed == "fast" and suite.attacks:
        raise InputError("--speed fast is for corruptions: attacks need exact gradients, so leave it out")
    shard = Shard.parse(arguments.shard) if arguments.shard is not None else None
    if shard is not None and arguments.strict:
        raise InputError("--strict needs the whole run, and a shard is a part: give it to python -m robustness.merge")
    if arguments.timeout is not None and not 0 < arguments.timeout <= _LONGEST_TIMEOUT:
        raise InputError(f"--timeout must be a number of seconds > 0, up to a year; got {arguments.timeout:g}")
    executor = make_executor(arguments)
    device = select_device("cpu" if arguments.executor == "ray" else arguments.device)
    images, archive = find_images(suite, arguments.data_dir)
    large = max(images.pixels.shape[1:3]) > _LARGE_SIDE
    subjects = load_subjects(suite.models, num_classes=len(images.classes), device=device, speed=arguments.speed)
    check_attacks(suite.attacks, subjects, probed=suite.probe_images > 0)
    names = [subject.name for subject in subjects]
    if suite.baseline and suite.baseline not in names:
        raise InputError(f"the baseline {suite.baseline!r} is none of the models: choose from {', '.join(names)}")
    return Measurement(
        suite=suite,
        subjects=subjects,
        images=images,
        archive=archive,
        directory=RunDirectory(local_folder(arguments.out) if arguments.out else default_out(suite, shard)),
        device=device,
        batch_size=arguments.batch_size or (_BATCH_SIZE_OF_LARGE if large else _BATCH_SIZE),
        training_images=load_selection(suite, arguments.data_dir),
        shard=shard,
        executor=executor,
        timeout=arguments.timeout,
    )


def find_images(suite: Suite, data_dir: Path) -> tuple[ImageSet, ArchiveC | None]:
    """The images that are measured, and the -C archive that is used; None where corruptions are generated.

    Raises:
        PrerequisiteError: the data set, or what its corruptions need, is missing.
        InputError: fewer images than asked for, or a damaged archive.
    """
    try:
        images = load_images(suite.data, split=suite.split, data_dir=data_dir)
    except PrerequisiteError as error:
        raise PrerequisiteError(f"{error}\nor try what needs no data: python -m robustness.run --suite demo") from error
    if suite.n is not None and suite.n > len(images):
        raise InputError(f"--n {suite.n} asks for more images than {images.title} has in {suite.split}: {len(images)}")
    if suite.n is not None:
        images = images.subset(suite.n, seed=suite.seed)
    archive = find_official(suite, images, data_dir.resolve())
    check_generated(suite, images, {*suite.selection_corruptions, *(() if archive else suite.corruptions)})
    return images, archive


def make_executor(arguments: argparse.Namespace) -> Executor:
    """Where the jobs are measured.

    Raises:
        PrerequisiteError: Ray is not installed.
        InputError: options of Ray without ``--executor ray``, or that it cannot take.
    """
    address, share, device = arguments.ray_address, arguments.gpus_per_task, arguments.device
    if arguments.executor == "local":
        if address is not None or share is not None:
            raise InputError("--ray-address and --gpus-per-task are for --executor ray: add it, or leave them out")
        return LocalExecutor()
    try:
        from robustness.measure.ray_executor import RayExecutor
    except ImportError as error:
        raise PrerequisiteError(f"--executor ray needs the package ray ({error}): pip install 'ray>=2.60'") from error
    if arguments.speed == "fast":
        raise InputError("--speed fast is for --executor local: compiled networks stay on the machine that made them")
    if device is not None:
        raise InputError("--device is for --executor local: on Ray, --gpus-per-task 0 measures on CPUs")
    return RayExecutor(address, share)


def default_out(suite: Suite, shard: Shard | None) -> Path:
    """The run directory of a suite, or of a shard of it."""
    return Path("results/runs") / (f"{suite.name}-{shard.index}-of-{shard.count}" if shard else suite.name)


def load_selection(suite: Suite, data_dir: Path) -> ImageSet | None:
    """The training images that λ is chosen on; None where the suite or the data set has none."""
    if not suite.selection or "train" not in split_sizes(suite.data, data_dir):
        return None
    return load_images(suite.data, split="train", data_dir=data_dir).subset(suite.selection_n, seed=suite.seed)


def announce(measurement: Measurement) -> None:
    """Say what will be measured and how much of it is already there."""
    suite, images = measurement.suite, measurement.images
    cells, done = len(measurement.cells), len(measurement.done)
    print(f"suite {suite.name}: {images.title}, n = {len(images)}, on {measurement.device}")
    for subject in measurement.subjects:
        lambdas = subject.lambdas(suite.lambdas)
        grid = ", ".join(format_lam(lam) for lam in lambdas if lam is not None)
        print(f"  {subject.name}: " + (f"λ = {grid}" if grid else "no λ"))
    parts = ["clean"]
    if suite.corruptions:
        levels = sum(len(suite.levels(name)) for name in suite.corruptions)
        source = measurement.tasks[0].perturbation.source
        kinds = len(suite.corruptions)
        parts.append(f"{kinds} {source} corruption{'s' * (kinds != 1)} at {levels} level{'s' * (levels != 1)}")
    parts += [attack.title for attack in suite.attacks]
    print(f"  {', '.join(parts)}: {cells} cells, {done} of them done")
    for task in measurement.attacks:
        if isinstance(task.adversary.crafted_for, ResidualLaw) and task.adversary.attack == suite.attacks[0]:
            print(f"  {task.subject.name} is attacked through its residual law, too")
    if measurement.training_images is not None:
        n, names = len(measurement.training_images), ", ".join(suite.selection_corruptions)
        print(f"  among them the choice of λ on {n} training images: clean, {names}")
    elif suite.selection:
        print(f"  no choice of λ on training images: {suite.data} has no split 'train'")
    if measurement.shard is not None:
        own = {cell.key for cell in measurement.own_cells}
        print(f"  shard {measurement.shard}: {len(own)} of the cells, {len(own & measurement.done)} of them done")


def find_other_sizes(subjects: list[Subject], images: ImageSet) -> list[str]:
    """A sentence for every model that was made for images of another size."""
    height, width = images.pixels.shape[1:3]
    notes = []
    for subject in subjects:
        size = subject.network.input_size
        if size not in (None, (height, width)):
            made = "it was trained on" if isinstance(subject.network, Network) else "its source evaluates it on"
            notes.append(
                f"{subject.name}: {made} images of {size[0]} × {size[1]} pixels, these have {height} × {width} and are "
                "taken as they are, so it may do worse on them; python -m data_prep import --resize --crop makes "
                "images of another size"
            )
    return notes


def compare_with_exact(measurement: Measurement) -> None:
    """Measure, say and record what ``--speed fast`` changes in the predictions."""
    device = measurement.device
    images = measurement.images.subset(min(_AGREEMENT_N, len(measurement.images)))
    for name, fast in zip(measurement.suite.models, measurement.subjects, strict=True):
        exact = load_subject(name, num_classes=len(images.classes), device=device)
        agreement = measure_agreement(fast, exact, images, device=device, batch_size=measurement.batch_size)
        measurement.agreements.append(agreement)
        print(f"  {agreement}")


def measure(suite: Suite, arguments: argparse.Namespace, words: list[str]) -> int:
    """Measure ``suite`` as the options ask, which were given as ``words``; returns the exit code."""
    measurement = prepare(suite, arguments)
    if arguments.dry_run:
        if not arguments.fresh:
            measurement.find_done()
        announce(measurement)
        return EXIT_DONE
    measurement.directory.create()
    with (
        measurement.directory.lock(),
        mirrored(measurement.directory, arguments.out, fresh=arguments.fresh) as measurement.on_result,
    ):
        if arguments.fresh:
            measurement.directory.clear()
        measurement.find_done()
        announce(measurement)
        measurement.events += (notes := find_other_sizes(measurement.subjects, measurement.images))
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        if arguments.speed == "fast":
            compare_with_exact(measurement)
        measurement.run(words)
        findings = write_analysis(measurement.directory) if measurement.shard is None else None
    if findings is None:
        for reason in sorted(set(measurement.failures.values())):
            print(f"some cells failed: {reason}", file=sys.stderr)
        print(f"written: {measurement.directory.path}/; python -m robustness.merge OUT SHARD... joins the shards")
        return EXIT_SOME_FAILED if measurement.failures else EXIT_DONE
    print_summary(findings)
    return exit_code(findings, strict=arguments.strict)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    check_words(words)
    arguments = make_parser().parse_args(attach_negatives(words))
    return measure(read_suite(arguments), arguments, words)


if __name__ == "__main__":
    sys.exit(run_command(main))
