"""The documentation as a site: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "vidtr-serve"
author = "the vidtr-serve authors"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
html_show_copyright = False
html_show_sphinx = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
# GitHub draws these blocks too.
myst_fence_as_directive = ["mermaid"]
# A shortened answer is no JSON; PromQL has no lexer; entries of a page that is one list keep the level that they have
# on pages with chapters.
suppress_warnings = ["misc.highlighting_failure", "myst.header"]


def write_reference(app: Sphinx) -> None:
    """The page of the routes, from the OpenAPI document of the code."""
    from reference import page

    target = HERE / "reference_of_routes.md"
    text = page()
    # A file that did not change is not read again.
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_reference)
