"""The provenance of a run in the report: where its numbers come from, how to make them again, how to cite them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from robustness.analysis.frames import Run
from robustness.analysis.tables import describe
from robustness.analysis.texts import format_duration
from robustness.options import rerun_words

_TITLE = "How robust is an image classifier, really? A harness across the test-time sparsity of SDNet"
_CITATION = f"""@misc{{sdnet-robustness,
  author = {{{{The authors of sdnet-robustness}}}},
  title = {{{_TITLE}}},
  note = {{OWN}}
}}"""
"""Citation as in ``CITATION.cff``, without a year or an address."""
_SDNET = """

@inproceedings{dai2022sdnet,
  title = {Revisiting Sparse Convolutional Model for Visual Recognition},
  author = {Dai, Xili and Li, Mingyang and Zhai, Pengyuan and Tong, Shengbang and Gao, Xingjian and Huang, Shao-Lun and
            Zhu, Zhihui and You, Chong and Ma, Yi},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022}
}"""
"""Citation of the method behind every run with a λ."""


def describe_origin(run: Run) -> list[tuple[str, str]]:
    """Describe where the numbers come from: status, sessions, data, models, notes, hardware and versions, in lines."""
    record, data = run.record, run.record["data"]
    done = len(record["cells"]) - len(run.missing)
    seconds = pd.concat([run.cells["seconds"], run.selection["seconds"]]).sum()
    return [
        ("status", f"{record['status']}: {done} of {len(record['cells'])} cells"),
        ("measured in", f"{format_duration(seconds)} of computing, summed over the cells"),
        ("last session", f"{record['started']} to {record['written']}"),
        ("data", describe(run)),
        ("fingerprint", data["fingerprint"]),
        ("seed", str(record["suite"]["seed"])),
        *((m["name"], _describe_model(m)) for m in record["models"]),
        *(
            (a["model"], f"--speed fast agrees with exact on {a['same']} of {a['n']} clean images")
            for a in record.get("agreement", [])
        ),
        *(("note", event) for event in record.get("events", [])),
        *(row for environment, count in run.environments for row in _describe_environment(run, environment, count)),
    ]


def _describe_environment(run: Run, environment: dict[str, Any], count: int) -> Iterator[tuple[str, str]]:
    """Describe hardware, versions and revision; with several environments, count this one's cells."""
    of = f" of {count} cell{'s' * (count != 1)}" if len(run.environments) > 1 else ""
    yield f"hardware{of}", ", ".join(f"{name} {value}" for name, value in environment["hardware"].items())
    yield f"versions{of}", ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    if git := environment["git"]:
        yield f"revision{of}", git["commit"] + (" with changes" if git.get("dirty") else "")


def _describe_model(model: dict[str, Any]) -> str:
    width = f", width {model['width']}" if "width" in model else ""
    return f"{model['arch']}{width}, weights {model['weights']}"


def write_rerun(run: Run) -> str:
    """Return the command that repeats the run, and the command that rebuilds this page."""
    words = rerun_words(run.record)
    again = shlex.join(["python", *(",".join(map(_to_relative, text.split(","))) for text in words)]) if words else ""
    return again + (
        "\n\n# the tables, figures and this page again, without models or data:\n"
        f"python -m robustness.report {shlex.quote(_to_relative(str(run.directory.path)))}"
    )


def _to_relative(text: str) -> str:
    """Remove the folders of this machine from an argument: an absolute path becomes its last name."""
    option, equals, value = text.rpartition("=") if text.startswith("-") else ("", "", text)
    return option + equals + (Path(value).name if Path(value).is_absolute() else value)


def cite(run: Run) -> str:
    """Write the citation of the run, and of the method if a model has a λ."""
    suite, data = run.record["suite"]["name"], run.record["data"]
    version = run.record["environment"]["versions"].get("sdnet-robustness", "unknown")
    own = f"version {version}; suite {suite}, {data['title']}, n = {data['n']}, protocol {run.record['protocol']}"
    has_lam = any(model["lam"] is not None for model in run.record["models"])
    return _CITATION.replace("OWN", own) + (_SDNET if has_lam else "")
