"""The directive ``command``: what a command and its options are for, read from the parser of the command."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any
from unittest.mock import patch

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from robustness.__main__ import COMMANDS


class _Found(Exception):
    pass


def find_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser with which ``sdnet COMMAND`` reads the command line."""

    def stop(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise _Found(parser)

    with patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            import_module(COMMANDS[command][0]).main([])
        except _Found as found:
            parser: argparse.ArgumentParser = found.args[0]
            return parser
    raise ValueError(f"sdnet {command} has no parser")


class CommandReference(SphinxDirective):
    """Show a command: its description, usage and options, and the same for each of its subcommands."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the command."""
        return _describe(find_parser(self.arguments[0]))


def _describe(parser: argparse.ArgumentParser, summary: str = "") -> list[nodes.Node]:
    subcommands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if subcommands:
        summaries = {it.dest: it.help or "" for it in subcommands[0]._choices_actions}
        described = [_describe(it, summaries[name]) for name, it in subcommands[0].choices.items()]
        return [node for part in described for node in part]
    options = nodes.definition_list()
    options += [_describe_option(it) for it in parser._actions if it.dest not in ("help", "version")]
    parts: list[nodes.Node] = [nodes.rubric("", parser.prog)] if summary else []
    return [
        *parts,
        nodes.paragraph(text=parser.description or f"{summary[:1].upper()}{summary[1:]}."),
        *([options] if len(options) else []),
        *([nodes.literal_block(parser.epilog, parser.epilog)] if parser.epilog else []),
    ]


def _describe_option(action: argparse.Action) -> nodes.definition_list_item:
    value = action.metavar or "|".join(map(str, action.choices or [action.dest.upper()]))
    words = [f"{', '.join(action.option_strings)}", *([] if action.nargs == 0 else [str(value)])]
    text = (action.help or "") % {**vars(action), "prog": ""}
    required = " (required)" if action.required and action.option_strings else ""
    term = nodes.term("", "", nodes.literal("", " ".join(filter(None, words))))
    return nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=f"{text}{required}")))
