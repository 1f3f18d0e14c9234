"""Shapes in type annotations are checked while the tests run; markers say why a test is skipped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook
from pictured import write_png

CORRUPTIONS = Path(__file__).parents[1] / "data_prep" / "corruptions"
ARITHMETIC = [path.stem for path in CORRUPTIONS.glob("*.py") if path.stem != "engine"]  # refuses wrong types itself
CHECKED = ["sdnet_core", "robustness", *(f"data_prep.corruptions.{name}" for name in ARITHMETIC)]
hook = install_import_hook(CHECKED, "typechecker.check")

from data_prep import load_images  # noqa: E402  not before the hook is installed
from data_prep.importing import import_tree  # noqa: E402

LONG = set(
    """
    data_prep/test_corruptions data_prep/test_download data_prep/test_importing data_prep/test_shapes
    faults/test_damage faults/test_disks faults/test_hostile_commands faults/test_hostile_files
    faults/test_hostile_values faults/test_kills faults/test_models faults/test_seam parity/test_corruptions
    redteam/test_marks robustness/test_ablate robustness/test_api robustness/test_attack_libraries
    robustness/test_attack_runs robustness/test_first_look robustness/test_foreign robustness/test_imagenetc
    robustness/test_loaders robustness/test_mirror robustness/test_official robustness/test_outputs
    robustness/test_own_pictures robustness/test_page robustness/test_page_data robustness/test_probes
    robustness/test_programs robustness/test_provenance robustness/test_ray robustness/test_run robustness/test_several
    robustness/test_shards robustness/test_suite robustness/test_summary robustness/test_trust robustness/test_weights
    sdnet_core/test_checkpoints sdnet_core/test_fused sdnet_core/test_inversion sdnet_core/test_networks
    sdnet_core/test_processes sdnet_core/test_sparse_coding sdnet_core/test_train sdnet_core/test_visualize
    sdnet_core/test_zoo test_notebooks
    """.split()  # noqa: SIM905
)
"""Test files that take more than some seconds: they train, attack, start processes or measure whole runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_configure(config: pytest.Config) -> None:
    """The profile ``fuzz``: few examples, always the same ones; with ``--slow`` a hundred times as many, drawn anew."""
    slow = config.getoption("--slow")
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    options = {"deadline": None, "database": None, "suppress_health_check": quiet}
    settings.register_profile("fuzz", max_examples=10_000 if slow else 100, derandomize=not slow, **options)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).with_suffix("").as_posix() in LONG:
            item.add_marker(pytest.mark.long)
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def import_shapes(tmp_path: Path) -> Callable[..., Path]:
    """``import_shapes("name", train=300, test=20)``: a data directory with a small imported set of drawn shapes."""

    def make(name: str, **counts: int) -> Path:
        for split, count in counts.items():
            images = load_images("shapes", split=split)
            for index in range(count):
                folder = tmp_path / "tree" / split / images.classes[images.labels[index]]
                write_png(folder / f"{index:05}.png", images.pixels[index])
        import_tree(tmp_path / "tree", name=name, data_dir=tmp_path / "data")
        return tmp_path / "data"

    return make


@pytest.fixture
def shared_data() -> Path:
    """The folder of the real images, which are not part of the project."""
    folder = Path(os.environ.get("SDNET_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}: set SDNET_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``sparse.safetensors`` (an SDNet) and ``plain.safetensors`` (a ResNet) for ten classes."""
    from fabricate import fabricate_models  # not before the hook is installed

    return fabricate_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time of a tiny run; one test draws and looks at them."""
    monkeypatch.setattr("robustness.analysis.write.write_figures", lambda *_, **__: None)
