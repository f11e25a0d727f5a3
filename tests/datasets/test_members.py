"""Files of a git tree: their table, and archives and folders that hold them, whatever packed these."""

from __future__ import annotations

import io
import subprocess
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.datasets import DigestError, ManifestError, fetch, list_datasets, locate, mirrored, verify
from neurobridge.datasets.files.members import COLUMNS, git_blob_sha1, pack_tree, read_members, tree_problem
from neurobridge.datasets.files.verification import digest_of_file
from neurobridge.store.archives import Archive
from tests.refusals import refused

FILES = {"sounds/a.wav": b"first", "sounds/b.wav": b"second", "labels.csv": b"a,b\n1,2\n"}


def table_of(files, path):
    lines = [f"{name},{len(content)},{git_blob_sha1(content)}" for name, content in sorted(files.items())]
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return path


def zipped(files, top=""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{top}{name}", content)
    return stream.getvalue()


def unpacked(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(path):
    with Archive(path) as archive:
        return {name: archive.read(name) for name in archive.names}


@settings(max_examples=10, deadline=None)
@given(content=st.binary(max_size=300))
def test_the_digest_is_that_of_git(content):
    run = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
    assert git_blob_sha1(content) == run.stdout.decode().strip()


def test_the_digest_of_a_file_is_that_of_its_contents(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x" * 3_000_000)
    assert digest_of_file(tmp_path / "a.bin", "git-blob-sha1") == git_blob_sha1(b"x" * 3_000_000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("path,size,sha1\na,1,2\n", 1),
        (",".join(COLUMNS), None),
        ("{head}\na.wav,1\n", 2),
        ("{head}\na.wav,-1,{0}\n", 2),
        ("{head}\na.wav,1,{0}\na.wav,1,{0}\n", 3),
        ("{head}\na.wav,1,123\n", 2),
        ("{head}\n../a.wav,1,{0}\n", 2),
        ("{head}\n/a.wav,1,{0}\n", 2),
        ("{head}\nx/./a.wav,1,{0}\n", 2),
        ("{head}\nx\\a.wav,1,{0}\n", 2),
    ],
)
def test_a_bad_table_names_the_file_and_the_line(tmp_path, text, line):
    path = tmp_path / "bad.csv"
    path.write_text(text.replace("{head}", ",".join(COLUMNS)).replace("{0}", "0" * 40))
    with refused(ManifestError, path, *([] if line is None else [f"line {line}"])):
        read_members(path)
    path.unlink()
    with refused(ManifestError, path):
        read_members(path)


def test_a_table_that_changed_is_read_again(tmp_path):
    path = table_of({"a": b"1"}, tmp_path / "t.csv")
    assert set(read_members(path)) == {"a"}
    table_of({"b": b"1", "c": b""}, path)
    assert set(read_members(path)) == {"b", "c"}


@pytest.mark.parametrize("top", ["", "repository-0123abc/", "deep/folder/"])
def test_any_packing_of_the_files_is_right_and_packed_alike(tmp_path, top):
    table = table_of(FILES, tmp_path / "t.csv")
    (tmp_path / "host.zip").write_bytes(zipped({**FILES, "README.md": b"hello"}, top))
    assert tree_problem(tmp_path / "host.zip", table) is None
    assert "1 other files" in tree_problem(tmp_path / "host.zip", table, exact=True) or top
    packed = [pack_tree(tmp_path / "host.zip", table, tmp_path / "one.zip")]
    packed += [pack_tree(unpacked({**FILES, ".git/config": b"x"}, tmp_path / "clone"), table, tmp_path / "two.zip")]
    assert contents(packed[0]) == contents(packed[1]) == FILES
    assert packed[0].read_bytes() == packed[1].read_bytes()
    assert tree_problem(packed[0], table, exact=True) is None


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"sounds/a.wav": b"FIRST"}, ["0 of 3 files missing", "1 with another", "'sounds/a.wav'"]),
        ({"sounds/a.wav": b"first "}, ["1 with another"]),
        ({"sounds/b.wav": None}, ["1 of 3 files missing", "'sounds/b.wav'"]),
        ({"labels.csv": None}, ["1 of 3 files missing"]),
    ],
)
def test_a_file_that_is_missing_or_changed_is_named(tmp_path, change, facts):
    table = table_of(FILES, tmp_path / "t.csv")
    files = {name: content for name, content in {**FILES, **change}.items() if content is not None}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    for place in (tmp_path / "a.zip", unpacked(files, tmp_path / "folder")):
        problem = tree_problem(place, table)
        assert all(fact in problem for fact in facts), problem


def test_what_is_no_archive_is_told(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    assert "cannot be read" in tree_problem(tmp_path / "a.zip", table_of(FILES, tmp_path / "t.csv"))


@pytest.fixture
def tree(describe, tmp_path, source, home):
    """The dataset "made", whose file a.bin is an archive of `FILES` that a host packs when it is asked."""
    table_of(FILES, tmp_path / "manifests" / "made.members.csv")
    describe(source.url, (), digests=("sha256:" + "0" * 64,), size=1000)
    path = tmp_path / "manifests" / "made.toml"
    path.write_text(path.read_text() + '\nmembers = "made.members.csv"\n')
    source.content = zipped({**FILES, "README.md": b"hello"}, "made-0123abc/")
    return source


def test_what_a_host_packs_is_verified_file_by_file_and_packed_anew(tree, home):
    path = fetch("made", progress=False)["a.bin"]
    assert contents(path) == FILES
    assert path.stat().st_mode & 0o222 == 0
    assert [each.name for each in path.parent.iterdir()] == ["a.bin"]
    assert verify("made") == {"a.bin": "ok"}
    assert fetch("made", progress=False)["a.bin"] == path
    assert len(tree.requests) == 1


def test_a_host_with_other_files_is_refused_and_its_archive_kept(tree, home):
    tree.content = zipped({**FILES, "sounds/a.wav": b"other"}, "made-0123abc/")
    with refused(DigestError, tree.url, "1 with another size or digest", "'sounds/a.wav'"):
        fetch("made", progress=False)
    assert [each.name[:5] for each in (home / "made").iterdir()] == [".bad-"]


def test_a_clone_in_a_mirror_serves_as_the_archive(tree, home, tmp_path):
    clone = unpacked({**FILES, ".git/config": b"x"}, tmp_path / "mirror" / "made")
    assert mirrored(tmp_path / "mirror") == ["made"]
    assert locate("made", mirror=tmp_path / "mirror") == {"a.bin": clone}
    assert verify("made", mirror=tmp_path / "mirror") == {"a.bin": "ok"}
    path = fetch("made", mirror=tmp_path / "mirror", progress=False)["a.bin"]
    assert path == home / "made" / "a.bin"
    assert contents(path) == FILES
    assert not tree.requests
    path.unlink()
    (clone / "sounds" / "a.wav").write_bytes(b"FIRST")
    assert "1 with another" in verify("made", mirror=tmp_path / "mirror")["a.bin"]
    with refused(DigestError, clone, "'sounds/a.wav'"):
        fetch("made", mirror=tmp_path / "mirror", progress=False)


def test_a_packed_archive_with_a_file_too_many_is_refused(tree, home, tmp_path):
    folder = tmp_path / "mirror" / "made"
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(zipped({**FILES, "more.txt": b""}))
    with refused(DigestError, folder / "a.bin", "1 other files", "'more.txt'"):
        fetch("made", mirror=tmp_path / "mirror", progress=False)


def test_the_shipped_tables_have_every_file():
    counts = {
        manifest.name: len(read_members(entry.members))
        for manifest in list_datasets()
        for entry in manifest.files
        if entry.members is not None
    }
    assert counts == {"cifar10": 60_000, "fsdd": 3_000}


@pytest.mark.realdata
def test_the_members_of_the_mirrored_archive_are_those_of_the_tree(mirror):
    (entry,) = (entry for manifest in list_datasets() if manifest.name == "fsdd" for entry in manifest.files)
    assert tree_problem(fetch("fsdd", mirror=mirror)["recordings.zip"], entry.members, exact=True) is None
