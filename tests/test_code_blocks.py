"""Code blocks and commands of the pages: each is run somewhere, or the page says why not.

The fast tests are of the default run; the blocks themselves run in `make docs` (marker `slow`).
"""

from __future__ import annotations

import re
import shlex
import tomllib
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from neurobridge.cli.app import app
from tests.page_names import GIVEN

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/tutorials/*.md"),
        *ROOT.glob("docs/howto/*.md"),
    ]
)
#: Page -> the test that runs its blocks.
RUN_BY = {
    "README.md": "tests/test_public.py",
    "docs/architecture.md": "tests/test_docs.py",
    "docs/recordings.md": "tests/test_docs.py",
    "docs/brainscore.md": "tests/brainscore/test_page.py",
    "docs/tutorials/brainscore_user.md": "tests/test_docs.py",
    "docs/tutorials/own_recordings.md": "tests/cli/test_road.py",
    "docs/features.md": "tests/features/test_docs.py",
}
REASON = re.compile(r"\s*<!-- not run[^:]*: \S[^>]{10,}-->")


class Block(NamedTuple):
    kind: str
    text: str
    reason: bool


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in re.finditer(r"^(`{3,})([^\n]*)\n(.*?)^\1[ ]*$", text, flags=re.DOTALL | re.MULTILINE):
        if not match[2].startswith("{"):
            yield Block(match[2].strip(), match[3], REASON.match(text[match.end() :]) is not None)


def python(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.kind == "python"]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page):
    for number, block in enumerate(blocks(page)):
        if block.kind == "toml":
            tomllib.loads(block.text)
        if block.kind == "python" and not block.reason:
            assert page in {*RUN_BY, *GIVEN}, f"{page}, block {number}: no test runs it, and no comment says why"


@pytest.mark.parametrize(("page", "test"), RUN_BY.items())
def test_the_test_that_runs_a_page_names_it(page, test):
    assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


# -- Commands: they exist, with their options --------------------------------------------------------------------------


def commands(page: str) -> Iterator[list[str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"^(?:\$ |    )?neurobridge (.+)$", text, flags=re.MULTILINE)
    for line in [*lines, *re.findall(r"`neurobridge ([^`]+)`", text)]:
        command = re.split(r"\s{2,}|\s#|;", line)[0]
        yield shlex.split(command.replace("[...]", ""))


@cache
def _root() -> Any:
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words after it."""
    command, rest = _root(), list(words)
    context = typer.Context(command)
    while hasattr(command, "resolve_command") and rest and not rest[0].startswith("-"):
        _, command, rest = command.resolve_command(context, rest)
    return command, rest


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_command_of_a_page_exists_with_its_options(page):
    for words in commands(page):
        if not words or words[0].isupper():
            continue
        command, rest = command_of(words)
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        options |= {"--help", "--install-completion", "--show-completion"}
        unknown = [word for word in rest if re.match(r"--[a-z]", word) and word.partition("=")[0] not in options]
        assert unknown == [], f"neurobridge {' '.join(words)}"


def test_every_make_target_of_a_page_or_a_workflow_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    files = [*PAGES, ".github/workflows/ci.yml"]
    for page in files:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|^|run: )make ([a-z][a-z-]+)", text, flags=re.MULTILINE):
            assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE), f"{page}: make {target}"


# -- The blocks themselves ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", GIVEN)
def test_the_blocks_of_a_page_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, block in enumerate(python(page)):
        if GIVEN[page] is not None:
            GIVEN[page](number, names)
        if block.reason:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            exec(compile(block.text, f"{page}, block {number}", "exec"), names)
    assert names
