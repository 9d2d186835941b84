# SPDX-License-Identifier: GPL-2.0
#
# Sphinx's settings, for scripts/docs.

import os
import sys

sys.path.insert(0, os.path.abspath("sphinx"))

project = "phyr"
copyright = "phyr developers"
html_copy_source = False
html_show_copyright = False

extensions = ["code_names", "code_facts"]
exclude_patterns = ["sphinx"]

# Every reference must lead somewhere, and every warning is an error (-W).
nitpicky = True
highlight_language = "none"

html_theme = "alabaster"
html_static_path = ["sphinx/phyr.css"]
html_css_files = ["phyr.css"]
html_sidebars = {"**": ["about.html", "searchbox.html", "navigation.html"]}
html_theme_options = {
    "description": "Safe DMA mapping for Rust drivers",
    "fixed_sidebar": True,
    "page_width": "76rem",
    "sidebar_width": "14rem",
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
    "show_powered_by": False,
}
