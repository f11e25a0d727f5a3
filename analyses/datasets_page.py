"""Write docs/datasets.md from the manifests.

python analyses/datasets_page.py
"""

from __future__ import annotations

from pathlib import Path

from neurobridge.datasets import Manifest, has_loader, list_datasets
from neurobridge.datasets.files.members import read_members

PAGE = Path(__file__).resolve().parents[1] / "docs" / "datasets.md"
HEAD = """# Datasets

For whoever looks for data. After this page you will know what each dataset is and is not, under which
licence, and how to fetch and verify it.

Made from `data_manifests/` by `python analyses/datasets_page.py`. Nothing here is redistributed: files are fetched from their
public addresses with verification, or taken from a mirror folder laid out `<dataset>/<file>` (`--mirror DIR` or
`NEUROBRIDGE_MIRROR`).

    neurobridge data list                       what there is
    neurobridge data show NAME                  one dataset: what it is and is not, files, digests, citation
    neurobridge data fetch NAME                 download it into the cache; --mirror DIR copies it from a folder instead
    neurobridge data fetch --mirror DIR         everything that the folder holds
    neurobridge data verify                     check every file that is at hand
    neurobridge data path NAME                  where the files are kept
    neurobridge data mirror DIR NAME            fill a folder for a cluster without internet

| variable | what it does |
| :-- | :-- |
| `NEUROBRIDGE_HOME` | folder of downloaded files; default: the platform's user cache |
| `NEUROBRIDGE_MIRROR` | folder with the files, read in place and never written to |
| `NEUROBRIDGE_MANIFESTS` | folder(s) of manifests of your own; they may not take a name that is taken |
| `NEUROBRIDGE_QUIET` | set: the citation is not printed on first use |
| `BRAINIO_HOME` | where Brain-Score keeps its downloads (default `~/.brainio`); verified files there are used in place |

A file is accepted when it has the stated size, where one is stated, and matches **one** of the digests that its manifest
lists (md5, sha1, sha256, or git-blob-sha1, the name that git gives to the contents of a file); it is hashed on every use.
Of the thousands of files of a git tree the manifest names a table of members: path, size and git blob digest of each. Any archive
with these files is accepted, whatever packed it, and so is a clone of the repository at `<mirror>/<dataset>/`. Downloads go
on where they stopped, also after a killed process; two processes make one download.

Images and sounds in archives are read a chunk at a time, when they are computed. Loaders take options, which their docstrings
explain:

| dataset | options | example |
| :-- | :-- | :-- |
| `mnist`, `cifar10` | `part`: train (default), test; of `cifar10` also all | `nb.load("cifar10", part="test").images` |
| `fsdd` | `part`: train, test, all (default) | `nb.features.log_mel(nb.load("fsdd").sounds)` |
| `majajhong2015.public`, also `.temporal.public` | `images`, `chunks`: read lazily | `nb.load(NAME, images=False)` |
| `imagenet-sample` | `resize`, `size`: of the central square, in pixels | `nb.load("imagenet-sample", size=224).images` |
| `things-similarity` | `group`: female (default), male, Group1 to Group4 | `nb.load("things-similarity", group="male")` |
"""
TAIL = """## Sessions and datasets of your own

A manifest in a folder that `NEUROBRIDGE_MANIFESTS` names is as good as one of those above. Sister sessions of
`cowley2023-v4-210325` need nothing else: put `responses_<session>.npy` and `images_<session>.zip` in a mirror or in the folder that
`neurobridge data path` prints, write the manifest `cowley2023-v4-<session>.toml` after the pattern below with the sizes and
digests of your files (`stat -c %s FILE`, `sha256sum FILE`; none is invented here), and `nb.load("cowley2023-v4-<session>")`
reads them.

```toml
name = "cowley2023-v4-<session>"
version = "1"
title = "..."
kind = "recorded"              # or simulated, stimuli, embeddings
access = "user-supplied"       # or public: then each file has a url
licence = "..."                # or "none stated"
note = "What the data is."
is_not = ["One sentence for each mistake that is easily made with it."]
post_processing = "What was done between the recording and what is returned."
citation = "@article{...}"

[[files]]
name = "responses_<session>.npy"
origin = "where you have it from"
size = 0                       # bytes; leave out if the accepted versions differ in it
digests = ["sha256:..."]       # one of them has to match

[[files]]
name = "images_<session>.zip"
origin = "where you have it from"
size = 0
digests = ["sha256:..."]
```

A mistake in a manifest is reported with the file, the line and the field.
"""


def _size(n_bytes: int | None) -> str:
    return "not stated" if n_bytes is None else f"{n_bytes / 1e6:.2f} MB"


def _section(manifest: Manifest) -> str:
    loader = f"`nb.load({manifest.name!r})`" if has_loader(manifest.name) else "none, files only"
    if manifest.access == "user-supplied" and not manifest.files:
        loader = f"`nb.load({manifest.name!r}, folder=...)`"
    rows = [
        f"| kind | {manifest.kind} |",
        f"| access | {manifest.access} |",
        f"| licence | {manifest.licence} |",
        f"| version | {manifest.version} |",
        f"| loader | {loader} |",
        f"| post-processing | {manifest.post_processing} |",
    ]
    rows += [f"| **it is not** | {statement} |" for statement in manifest.is_not]
    rows += [f"| needs | {', '.join(files)} of {name} |" for name, files in manifest.requires.items()]
    parts = [
        f"## {manifest.name}",
        f"**{manifest.title}.** {manifest.note}",
        "| | |\n| :-- | :-- |\n" + "\n".join(rows),
    ]
    if manifest.files:
        lines = []
        for entry in manifest.files:
            address = f"[public]({entry.url})" if entry.url else "to be supplied"
            remarks = "; ".join(text for text in (entry.origin, entry.post_processing) if text)
            digests = "<br>or ".join(f"`{digest}`" for digest in entry.digests)
            if entry.members is not None:
                digests += (
                    f"<br>or the {len(read_members(entry.members)):,} files of `data_manifests/{entry.members.name}`"
                )
            lines.append(
                f"| `{entry.name}` | {_size(entry.size)} | {digests} | {address}{f': {remarks}' if remarks else ''} |"
            )
        parts.append("| file | size | digest | address |\n| :-- | --: | :-- | :-- |\n" + "\n".join(lines))
    parts.append(f"```bibtex\n{manifest.citation.strip()}\n```")
    return "\n\n".join(parts)


def page() -> str:
    """Return the text of docs/datasets.md."""
    return "\n\n".join([HEAD.strip(), *map(_section, list_datasets()), TAIL.strip()]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
