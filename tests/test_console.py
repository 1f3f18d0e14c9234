"""The command ``sdnet`` and what all commands have in common."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

import pytest

from data_prep.command_line import CommandParser
from data_prep.errors import EXIT_BAD_INPUT, EXIT_DONE
from robustness.__main__ import COMMANDS
from sdnet_core.shadows import start


def call(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["sdnet", *words])
    return start()


def test_it_lists_its_commands(monkeypatch, capsys):
    assert call(monkeypatch=monkeypatch) == EXIT_DONE
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert call("--version", monkeypatch=monkeypatch) == EXIT_DONE


def test_an_unknown_command_is_refused(monkeypatch, capsys):
    assert call("rnu", monkeypatch=monkeypatch) == EXIT_BAD_INPUT
    assert "expected one of run, report" in capsys.readouterr().err


def test_it_hands_the_words_on(monkeypatch, capsys):
    assert call("data", "list", monkeypatch=monkeypatch) == EXIT_DONE
    assert "shapes" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parser_wants_whole_options(name, monkeypatch, capsys):
    """List every command and each of its subcommands."""
    made: list[argparse.ArgumentParser] = []
    original = argparse.ArgumentParser.__init__

    def remember(self, *arguments, **options):
        made.append(self)
        original(self, *arguments, **options)

    monkeypatch.setattr(argparse.ArgumentParser, "__init__", remember)
    with pytest.raises(SystemExit):
        import_module(COMMANDS[name][0]).main(["--help"])
    assert made
    assert all(isinstance(parser, CommandParser) and not parser.allow_abbrev for parser in made)
    capsys.readouterr()
