"""How Sphinx builds the site: `nox -s docs`, or `sphinx-build -W -b html docs docs/_build/html`.

The pages are Markdown that a plain file browser shows too. Nothing is fetched, neither while
building nor by the finished pages.
"""

from __future__ import annotations

from importlib.metadata import version as installed

project = "aflow-grpo"
author = "the authors of aflow-grpo"
project_copyright = "the authors of aflow-grpo, Apache-2.0"
version = release = installed("aflow-grpo")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
# `page.md#section` is GitHub's form of a link to a heading; so deep down it is one here, too.
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"aflow-grpo {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
# A summary would be fetched from the page that was found, which browsers refuse for files.
html_show_search_summary = False
# Code as it stands in the file; smart quotes would make commands that cannot be copied.
smartquotes = False
