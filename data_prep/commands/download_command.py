"""Download an official data set: resume a partial download, check its published MD5, keep only a complete file."""

from __future__ import annotations

import argparse

from data_prep.commands.options import add_data_dir
from data_prep.remote import REMOTES, download_data

SUMMARY = "get an official data set"
EXAMPLES = """\
examples:
  python -m data_prep download cifar10
  python -m data_prep download cifar10c --data-dir /mnt/data

without a network, fetch the file on another machine, put it into the data folder and run the same command:
""" + "\n".join(f"  {name:<10} {remote.file:<24} {remote.url}" for name, remote in REMOTES.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``download``."""
    parser.add_argument("name", help=", ".join(REMOTES))
    add_data_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Download, check and, for the -C archives, unpack."""
    path = download_data(arguments.name, arguments.data_dir, progress=True)
    print(f"{arguments.name} is in {path}")
    archive = arguments.data_dir / REMOTES[arguments.name].file
    if path != archive and archive.is_file():
        print(f"{archive} is not needed any more and can be removed")
    return 0
