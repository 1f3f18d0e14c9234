"""The setting in which foreign code runs while a model is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from robustness.measure.world import World


@contextmanager
def loading(world: World | None = None) -> Iterator[World]:
    """Run the block in ``world``, or a new one, in which the command line has no options and printing goes to stderr.

    Raises:
        ModelExitError: the block tried to end the process.
    """
    world, arguments = world or World(), sys.argv
    with world.entered(loading=True):
        sys.argv = arguments[:1]
        try:
            yield world
        finally:
            sys.argv = arguments
