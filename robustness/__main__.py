"""All commands under one name: ``sdnet run``, ``sdnet data``, ``sdnet train`` … (or ``python -m robustness run``)."""

from __future__ import annotations

import sys
from importlib import import_module

from data_prep.command_line import PACKAGE, find_version
from data_prep.errors import EXIT_BAD_INPUT, EXIT_DONE, run_command

COMMANDS = {
    "run": ("robustness.run", "measure models under corruptions and attacks"),
    "report": ("robustness.report", "rebuild the tables, figures and report of a run"),
    "compare": ("robustness.compare", "compare two runs on the same images"),
    "merge": ("robustness.merge", "join the run directories of shards"),
    "fit": ("robustness.fit", "fit the residual law of an SDNet"),
    "ablate": ("robustness.ablate", "train with one thing changed at a time and measure"),
    "data": ("data_prep.__main__", "download, import, generate, list and check images"),
    "models": ("sdnet_core.__main__", "list, describe and convert models"),
    "train": ("sdnet_core.train", "train a model by a recipe"),
    "visualize": ("sdnet_core.visualize", "draw what each layer of an SDNet keeps of an image"),
}


def describe_commands() -> str:
    """List the commands, one per line."""
    lines = [f"  {name:10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(["usage: sdnet COMMAND ...", "", "commands (each has --help):", *lines])


def main() -> int:
    """Run the command that the first word names, with the remaining words as its arguments; return its exit code."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(describe_commands())
        return EXIT_DONE
    if name == "--version":
        print(f"{PACKAGE} {find_version()}")
        return EXIT_DONE
    if name not in COMMANDS:
        print(f"error: expected one of {', '.join(COMMANDS)}, got {name!r}; see sdnet --help", file=sys.stderr)
        return EXIT_BAD_INPUT
    code: int = import_module(COMMANDS[name][0]).main(words)
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
