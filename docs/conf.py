"""Configuration of the site: ``make docs`` builds these pages, the results and the reference into ``build/site``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from command_reference import CommandReference  # noqa: E402 - lies in this folder

NAVIGATION = {
    "Tutorials": ("docs/first-run", "docs/own_model", "docs/lambda_explained"),
    "How to": (
        *("docs/benchmark-your-model", "docs/your-own", "docs/policies"),
        *("docs/many-machines", "docs/scale", "docs/speed"),
    ),
    "Reference": ("docs/commands", "docs/python", "docs/files", "docs/bad-input"),
    "Explanation": ("docs/attacks", "docs/corruptions", "docs/compare"),
    "Results": (
        *("results/README", "results/models", "results/corruptions", "results/noise"),
        *("results/knobs", "results/attacks", "results/others", "results/jpeg", "results/layer"),
    ),
    "Project": ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG", "benchmarks/notes"),
}
"""The pages by section. The build fails for a page that is missing here."""

project = "sdnet-robustness"
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/*.ipynb", "results/*.md", "benchmarks/*.md"]
exclude_patterns = [".*", "build", "data", "results/runs", "results/training"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks hold their outputs; tests/test_notebooks.py executes them
nb_ipywidgets_js: dict[str, Any] = {}  # nothing is loaded from another host
highlight_language = "none"
smartquotes = False

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # docstrings give types with shapes and units
python_maximum_signature_line_length = 80
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(torch|numpy|pandas|matplotlib|pathlib)\..*")]

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_title = "How robust is an image classifier?"
html_copy_source = False
html_show_copyright = False


def add_navigation(_: Any, page: str, source: list[str]) -> None:
    """Append the navigation to the start page, which on its own is plain Markdown."""
    if page == root_doc:
        for section, pages in NAVIGATION.items():
            entries = "\n".join(f"/{it}" for it in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {section}\n{entries}\n```\n"


def set_off_sources(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Make paragraphs of the parts ``Source:`` and ``Deviation:`` of a docstring."""
    text = re.sub(
        r"^(Source|Deviation): (.+(?:\n +.+)*)",
        lambda part: f"\n**{part[1]}:** {' '.join(part[2].split())}\n",
        "\n".join(lines),
        flags=re.MULTILINE,
    )
    lines[:] = text.split("\n")


def find_by_last_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve the name of a class or function in the module that defines it to the name that users import."""
    if node.get("refdomain") != "py":
        return None
    domain, target = env.get_domain("py"), node["reftarget"]
    for name in (target, target.rpartition(".")[2]):
        found = [known for known in domain.objects if known.endswith(f".{name}")]
        if len(found) == 1:
            return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], found[0], node, content)
    return None


def draw_dashes(_: Any, page: nodes.document) -> None:
    """Write the dash between a parameter and its description as one."""
    for text in page.findall(lambda node: isinstance(node, nodes.Text) and node == " -- "):
        text.parent.replace(text, nodes.Text(" – "))


def setup(app: Any) -> None:
    """Register the functions above and the directive ``command``."""
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", set_off_sources, priority=400)
    app.connect("missing-reference", find_by_last_name)
    app.connect("doctree-read", draw_dashes)
    app.add_directive("command", CommandReference)
