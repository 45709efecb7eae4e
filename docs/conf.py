"""
How Sphinx builds these pages: ``tox -e docs``.
"""

import re

from realize import __version__

project = "realize"
author = "the realize maintainers"
copyright = author
release = version = __version__

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Moves files between hosts so that none is ever lost",
    "page_width": "64rem",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_copyright = False

_TAGGED_HEADING = re.compile(r"^(#+ .*?) \{#([a-z0-9-]+)\}$", re.MULTILINE)


def _label_tagged_headings(app, page, source):
    """
    Let ``## Title {#tag}`` be what links to ``#tag`` find.
    """
    source[0] = _TAGGED_HEADING.sub(r"(\2)=\n\1", source[0])


def setup(app):
    """
    Called by Sphinx.
    """
    app.connect("source-read", _label_tagged_headings)
