"""Pages in a real headless Chromium: they fit a phone and a screen, their tables sort, and the console stays silent."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

import neurobridge as nb
from neurobridge.aligners import RidgeAligner

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium, e.g. the Debian package chromium"),
]

_OUTER = """<!doctype html><meta charset="utf-8"><body style="margin:0"><pre id="seen"></pre>
<iframe id="page" width="{width}" height="2000" srcdoc="{page}"></iframe>
<script>
document.getElementById("page").addEventListener("load", event => {{
  const inner = event.target.contentDocument, root = inner.documentElement;
  const cells = column => [...inner.querySelector("table").tBodies[0].rows].map(row => row.cells[column].textContent);
  const before = cells(1);
  inner.querySelectorAll("table th button")[1].click();
  const wide = [...inner.querySelectorAll("body *")].filter(e => !e.closest(".scroll > *, .picture > *")
    && e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.tagName + "." + e.className);
  document.getElementById("seen").textContent = JSON.stringify({{
    client: root.clientWidth, scroll: root.scrollWidth, before: before, after: cells(1), wide: wide,
    broken: [...inner.images].filter(image => !image.naturalWidth).length, images: inner.images.length,
    unnamed: [...inner.images].filter(image => !/\\d/.test(image.alt)).length,
    background: getComputedStyle(inner.body).backgroundColor,
  }});
}});
</script>"""


def _seen(page, width, folder, *options):
    outer = folder / "outer.html"
    outer.write_text(_OUTER.format(width=width, page=html.escape(page.read_text())))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=4000",
        f"--user-data-dir={folder / 'profile'}", "--window-size=1400,2100", *options, "--dump-dom", outer.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    (seen,) = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    return json.loads(html.unescape(seen))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with a wide table, long words and a figure."""
    X = np.random.default_rng(0).normal(size=(40, 6))
    wide = pd.DataFrame({f"a column with a name of some length {k}": np.arange(12.0) * (-1) ** k for k in range(25)})
    words = pd.DataFrame({"digest": ["sha256:" + "0123456789abcdef" * 8], "value": [10]})
    results = {"numbers": wide, "digests": words, "ridge <b>": RidgeAligner().fit(X, X @ np.ones((6, 3)))}
    return nb.report(results, out=tmp_path_factory.mktemp("page") / "page.html")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_the_screen(page, tmp_path, width):
    seen = _seen(page, width, tmp_path)
    assert seen["client"] <= width
    assert seen["scroll"] <= seen["client"]
    assert seen["wide"] == []
    assert seen["images"] >= 1
    assert seen["broken"] == seen["unnamed"] == 0
    # The second column is numbers, which sort as numbers.
    assert [float(v) for v in seen["after"]] == sorted(float(v) for v in seen["before"])
    assert seen["after"] != seen["before"]


def test_a_page_follows_the_dark_mode(page, tmp_path):
    light = _seen(page, 1280, tmp_path)["background"]
    dark = _seen(page, 1280, tmp_path, "--blink-settings=preferredColorScheme=0")["background"]
    assert light == "rgb(255, 255, 255)"
    assert max(map(int, re.findall(r"\d+", dark))) < 60
