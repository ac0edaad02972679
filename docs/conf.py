"""Sphinx: pages in Markdown, the reference from the docstrings."""

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
