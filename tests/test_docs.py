"""The documentation: links lead somewhere, and the commands that it shows take the options that it shows them with."""

from __future__ import annotations

import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md"), *ROOT.glob("benchmarks/*.md")]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python -m ((?:robustness|data_prep|sdnet_core)(?:\.\w+)?)\s+(.*)")
OPTION = re.compile(r"--[a-z][a-z-]*")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def list_commands(page: Path) -> list[tuple[str, list[str]]]:
    """The commands in the code blocks of a page: module and words."""
    blocks = "\n".join(FENCE.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    found = [COMMAND.search(line.partition("  #")[0]) for line in blocks.splitlines()]
    return [(match[1], shlex.split(match[2])) for match in found if match]


@cache
def read_help(module: str, subcommand: str) -> str:
    """Return the output of ``python -m module [subcommand] --help``."""
    import contextlib
    import io

    place = module if "." in module else f"{module}.__main__"
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit):
        import_module(place).main([*([subcommand] if subcommand else []), "--help"])
    return shown.getvalue()


@pytest.mark.parametrize("page", [page for page in PAGES if list_commands(page)], ids=name_of)
def test_every_command_takes_the_options_that_it_is_shown_with(page):
    for module, words in list_commands(page):
        subcommand = words[0] if "." not in module and words and not words[0].startswith("-") else ""
        options = {word.partition("=")[0] for word in words if OPTION.fullmatch(word.partition("=")[0])}
        known = set(OPTION.findall(read_help(module, subcommand)))
        assert options <= known, f"{module} {subcommand}: {options - known}"


@pytest.mark.parametrize("page", [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.ipynb")], ids=name_of)
def test_the_start_page_of_the_documentation_links_to_every_page(page):
    start = ROOT / "docs" / "index.md"
    assert page == start or page.name in LINK.findall(start.read_text(encoding="utf-8"))


def test_every_file_and_class_that_the_architecture_names_exists():
    text = ROOT.joinpath("ARCHITECTURE.md").read_text(encoding="utf-8")
    files = [
        path for folder in ("robustness", "sdnet_core", "data_prep", "docs") for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    paths = "\n".join(path.as_posix() for path in files)
    classes = {name for path in files for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.M)}
    assert [name for name in re.findall(r"[\w/]+\.py\b", text) if f"/{name}\n" not in f"{paths}\n"] == []
    assert set(re.findall(r"`([A-Z]\w+)`", text)) <= classes


def test_the_thresholds_of_the_trust_marks_are_those_of_the_code():
    from robustness.analysis import trust

    text = ROOT.joinpath("docs/attacks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*(.+?)\*\*.*?\| ([\d.]+)( %| points?)?.*? \| ([\d.]+)?", text, re.MULTILINE)
    shown = {name: [float(x) / (100 if unit else 1) for x in (low, high) if x] for name, low, unit, high in rows}
    limits = {"Active test": (1 - trust.POWER, trust.POWER_INVALID), "Large budget": trust.LARGER}
    limits |= {"Slopes": (trust.SLOPE, trust.SLOPE_INVALID), "Jumps": trust.JUMPING, "Zeros": trust.ZERO_GRADIENT}
    limits |= {"Stuck": trust.STUCK, "Unmoved": (trust.MARGIN,), "Other losses": trust.LOSSES, "Square": trust.SQUARE}
    limits |= {"Plain margin": trust.LOSSES, "Weakest survivors": trust.WEAKEST, "Other networks": trust.TRANSFER}
    limits |= {"Another λ": trust.TRANSFER, "Smaller ε": trust.RISE, "Fresh model": trust.FRESH}
    limits |= {"Batches": trust.REBATCH, "Randomness": trust.UNSTABLE, "Dropped": trust.DROPPED}
    assert shown == {name: pytest.approx(values) for name, values in limits.items()}


def test_the_reference_has_every_command_and_every_column():
    from robustness.__main__ import COMMANDS
    from robustness.analysis.frames import CELL_COLUMNS

    commands, files = (ROOT.joinpath("docs", name).read_text(encoding="utf-8") for name in ("commands.md", "files.md"))
    assert re.findall(r"^```{command} (\w+)$", commands, re.MULTILINE) == list(COMMANDS)
    table = files[files.index("## cells.csv") : files.index("## Outcomes")]
    first_cells = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(first_cells)) == CELL_COLUMNS
