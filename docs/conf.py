"""Settings of the site: `make docs`."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tomllib
import warnings
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS / "_extensions"), str(ROOT)]
if importlib.util.find_spec("neurobridge") is None:
    raise SystemExit("found no neurobridge; expected it in this environment. Mend: make docs")
# A citation is printed where data are first used: in the terminal, not in the pages. No bars either.
os.environ.setdefault("NEUROBRIDGE_QUIET", "1")

import pages  # noqa: E402
import reference  # noqa: E402

import neurobridge  # noqa: E402

project = "neurobridge"
author = "The neurobridge developers"
copyright = f"2025-2026, {author}. BSD-3-Clause"
version = release = neurobridge.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
root_doc = "index"
templates_path = ["_templates"]
exclude_patterns = ["results/**", "figures/**", "_inventories/**", "**/README.md"]
default_role = "py:obj"
# Pages may end lines with trailing options of pygments' console lexer.
highlight_language = "python"
suppress_warnings = ["config.cache"]

# -- Pages -------------------------------------------------------------------------------------------------------------
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_block"]
myst_heading_anchors = 4
myst_fence_as_directive = ["math"]

# -- API ---------------------------------------------------------------------------------------------------------------
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
# Types are linked where they are ours or in a kept inventory; all other words of a type stay words.
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = reference.aliases(tomllib.loads((DOCS / "_inventories" / "names.toml").read_text()))

# -- Other packages' pages: kept inventories, no network ---------------------------------------------------------------
_SITES = tomllib.loads((DOCS / "_inventories" / "names.toml").read_text(encoding="utf-8"))
intersphinx_mapping = {name: (entry["site"], f"_inventories/{name}.inv") for name, entry in _SITES.items()}
linkcheck_timeout = 20
linkcheck_anchors = False
# Publishers that refuse programs.
linkcheck_ignore = [r"https://doi\.org/.*", r"https://www\.science\.org/.*", r"https://www\.cell\.com/.*"]

# -- Tutorials and gallery: scripts that are run -----------------------------------------------------------------------
_WORKERS = int(os.environ.get("WORKERS", "2"))
_RUNNABLE = pages.runnable_scripts([ROOT / "analyses" / "tutorials", ROOT / "analyses" / "examples"])
sphinx_gallery_conf = {
    "examples_dirs": ["../analyses/tutorials", "../analyses/examples"],
    "gallery_dirs": ["auto_tutorials", "auto_gallery"],
    "filename_pattern": "|".join(re.escape(str(path)) for path in _RUNNABLE) or r"nothing\.py$",
    "ignore_pattern": r"__init__\.py",
    "within_subsection_order": "FileNameSortKey",
    "subsection_order": "pages.by_theme",
    "download_all_examples": False,
    "backreferences_dir": "auto_gallery/backreferences",
    "doc_module": ("neurobridge",),
    "reference_url": {"neurobridge": None},
    "capture_repr": ("_repr_html_",),
    "matplotlib_animations": False,
    "image_srcset": ["2x"],
    "thumbnail_size": (400, 280),
    "min_reported_time": 1,
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "plot_gallery": "True",
    "parallel": _WORKERS if _WORKERS > 1 else False,
    "reset_modules": ("pages.reset_figures",),
    "first_notebook_cell": "%matplotlib inline",
}
# matplotlib's own word on showing a figure without a screen.
warnings.filterwarnings("ignore", message=".*non-interactive.*", category=UserWarning)

# -- Look --------------------------------------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_title = "neurobridge"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "neurobridge"},
    "navigation_depth": 2,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc", "sg_download_links"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
    "show_prev_next": True,
    "back_to_top_button": False,
}
html_sidebars = {"index": [], "start": [], "contributing": [], "changelog": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: object) -> dict[str, bool]:
    """Write the generated sources before Sphinx looks for pages."""
    reference.write(DOCS / "api")
    pages.connect(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
