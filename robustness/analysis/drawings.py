"""Parts that all figures share: a figure by its name; colours and markers, the same in figures and report."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdnet_core.style import MODEL_COLOURS, MODEL_MARKERS, figure_style, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustness.analysis.frames import Run


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn.

    Args:
        name: name of its files.
        note: description of the data behind its numbers.
        draw: draws the figure; call it within :func:`sdnet_core.style.figure_style`.
        of_one: True if it shows one of the models of a run.
    """

    name: str
    note: str
    draw: Callable[[], Figure]
    of_one: bool = False


def save_drawings(drawings: Iterable[Drawing], run: Run, *, pdf: bool) -> None:
    """Draw figures into the folder ``figures`` of a run, as PNG and, with ``pdf``, as PDF."""
    with figure_style():
        for drawing in drawings:
            save_figure(drawing.draw(), run.directory.path / "figures", drawing.name, drawing.note, pdf=pdf)


def add_legend(figure: Figure, axis: Axes, *, most: int = 6, title: str | None = None) -> None:
    """Add a legend of the labels in ``axis`` above a figure, in at most ``most`` columns."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, title=title, loc="outside upper center", ncols=min(len(labels), most))


def scale_budgets(axis: Axes, norm: str) -> float:
    """Label the axis of ε, and return the factor for its values: L∞ budgets are shown in 1/255."""
    axis.set_xlabel("ε (1/255)" if norm == "linf" else "ε")
    return 255.0 if norm == "linf" else 1.0


@dataclass(frozen=True)
class Look:
    """Colour and marker of a curve.

    Args:
        colour: ``#rrggbb``.
        marker: marker of Matplotlib.
    """

    colour: str
    marker: str


_LOOKS = tuple(map(Look, MODEL_COLOURS, MODEL_MARKERS))
_POLICIES = dict(zip(("trained", "validated", "residual", "oracle", "matched"), _LOOKS))
_FAMILIES = dict(zip(("gaussian_noise", "shot_noise", "speckle_noise", "impulse_noise"), _LOOKS))
_FAMILIES["clean"] = Look("#7F7F7F", "P")
_OTHERS = (_LOOKS[6], Look(MODEL_COLOURS[5], "X"))


def policy_look(name: str) -> Look:
    """Choose the look of a λ policy; a policy that users add gets one of two further looks, by its name."""
    return _POLICIES.get(name, _other(name))


def family_look(name: str) -> Look:
    """Choose the look of a noise family of the residual law."""
    return _FAMILIES.get(name, _other(name))


def model_looks(names: Iterable[str]) -> dict[str, Look]:
    """Choose the looks of models: a colour by name; if two names want one colour, the later gets the next.

    More than seven models share colours and differ in the marker.
    """
    looks: dict[str, Look] = {}
    taken: set[tuple[int, int]] = set()
    count = len(MODEL_COLOURS)
    for name in sorted(set(names)):
        wanted = zlib.crc32(name.encode())
        choices = [((wanted + step % count) % count, (wanted + step // count) % count) for step in range(count * count)]
        used = {colour for colour, _ in taken} if len(taken) < count else set()
        free = [choice for choice in choices if choice not in taken and choice[0] not in used]
        choice = (free or choices)[0]
        taken.add(choice)
        looks[name] = Look(MODEL_COLOURS[choice[0]], MODEL_MARKERS[choice[1]])
    return looks


def _other(name: str) -> Look:
    return _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]
