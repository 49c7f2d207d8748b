"""The configuration of Sphinx for the site of the documents; `make docs-site` uses it."""

import json
from pathlib import Path

project = "Treadle"
copyright = "the Treadle authors"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
html_theme = "furo"
html_title = "Treadle"
html_static_path = ["_static"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
nitpicky = True
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
suppress_warnings = [
    # GraphQL and `console` blocks may contain an ellipsis, which is no token.
    "misc.highlighting_failure",
    # A page of Markdown begins where the site's outline needs it, for example a template of a message.
    "myst.header",
]
# The script of the diagrams is a file of the site: readers without a network see them too.
mermaid_use_local = "mermaid/mermaid.esm.min.mjs"
mermaid_version = json.loads((Path(__file__).parent / "package.json").read_text())["dependencies"]["mermaid"]
mermaid_fullscreen = False
