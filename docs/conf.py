"""Sphinx: pages in Markdown, the reference from the docstrings."""

import re
from importlib.metadata import version as installed_version

project = "leptonhpc"
author = "The leptonhpc developers"
copyright = "2026, The leptonhpc developers"  # Sphinx takes this name
release = version = installed_version("leptonhpc")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "decisions/template.md"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # the docstrings say the types
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"leptonhpc {release}"


def _bars_are_norms(app, what, name, obj, options, lines):
    """Write |A| of a docstring as itself: to reStructuredText it would be a substitution."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``)", line)
            parts[::2] = [re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts[::2]]
            lines[number] = "".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", _bars_are_norms, priority=900)  # after numpydoc
