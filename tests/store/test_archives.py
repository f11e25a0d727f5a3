"""Archives from outside: what would do harm is refused, and what is damaged is an `ArchiveError` that names the file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import threading
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurobridge.store.archives import LIMITS, Archive, ArchiveError, Limits, read_gzip

SMALL = Limits(total=10**5, member=10**4, ratio=50, harmless=2000, members=10)
PACKERS = {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def write_zip(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def tar_bytes(entries):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for entry, data in entries:
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            info.size = len(data) if info.isfile() else 0
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def write_tar(path, entries, kind="tar"):
    path.write_bytes(PACKERS[kind](tar_bytes(entries)))
    return path


def refused(path, *facts, limits=LIMITS, read=None):
    """Message of the refusal, which names the file, the facts and a way out."""
    with pytest.raises(ArchiveError) as caught, Archive(path, limits=limits) as archive:
        archive.read(read or archive.names[0])
    message = str(caught.value)
    for fact in (str(path), "Mend:", *map(str, facts)):
        assert fact in message
    return message


@pytest.mark.parametrize("kind", ["zip", *PACKERS])
def test_files_are_listed_and_read_from_every_kind(tmp_path, kind):
    entries = [("b.txt", b"two"), ("sub/a.txt", b"one"), ("empty", b"")]
    path = tmp_path / f"a.{kind}"
    write_zip(path, [("sub/", b""), *entries]) if kind == "zip" else write_tar(path, entries, kind)
    with Archive(path) as archive:
        assert archive.names == ["b.txt", "empty", "sub/a.txt"]
        assert [archive.read(name) for name in archive.names] == [b"two", b"", b"one"]
        assert archive.size("b.txt") == 3
        assert "sub/a.txt" in archive
        assert "sub/" not in archive


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "\\\\host\\evil", "a/.."]
)
def test_a_path_that_leads_out_is_refused(tmp_path, kind, name):
    write = write_zip if kind == "zip" else write_tar
    refused(write(tmp_path / f"a.{kind}", [("good.jpg", b"1"), (name, b"2")]), repr(name))


def special(kind, name, mode, type_):
    if kind == "tar":
        info = tarfile.TarInfo(name)
        info.type, info.linkname = type_, "/etc/passwd"
    else:
        info = zipfile.ZipInfo(name)
        info.external_attr = (mode | 0o777) << 16
    return info


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("mode", "type_"),
    [(stat.S_IFLNK, tarfile.SYMTYPE), (stat.S_IFIFO, tarfile.FIFOTYPE), (stat.S_IFCHR, tarfile.CHRTYPE)],
)
def test_links_and_devices_are_refused(tmp_path, kind, mode, type_):
    write = write_zip if kind == "zip" else write_tar
    refused(write(tmp_path / f"a.{kind}", [(special(kind, "link.jpg", mode, type_), b"")]), "'link.jpg'")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "names",
    [("a.jpg", "A.JPG"), ("x/a", "X/a"), ("\u00e9.png", "e\u0301.png"), ("a", "a/b"), ("a\\b", "A/b"), ("a", "./a")],
)
def test_names_that_are_one_somewhere_are_refused(tmp_path, kind, names):
    write = write_zip if kind == "zip" else write_tar
    refused(write(tmp_path / f"a.{kind}", [(name, b"1") for name in names]), repr(names[0]))


def test_a_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write_zip(tmp_path / "a.zip", [("a.jpg", b"1"), ("a.jpg", b"2")])
    refused(path, "'a.jpg'")


def test_a_bomb_is_refused_by_the_ratio_of_a_member(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("a", bytes(10**5))], compression=zipfile.ZIP_DEFLATED)
    refused(path, "'a'", 10**5, path.stat().st_size, limits=SMALL)
    with Archive(path) as archive:
        assert archive.read("a") == bytes(10**5)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_bomb_in_a_packed_tar_is_refused_before_it_is_unpacked(tmp_path, kind):
    path = write_tar(tmp_path / f"a.tar.{kind}", [("a", bytes(10**6)), ("b", b"1")], kind)
    most = min(SMALL.total, max(SMALL.harmless, 50 * path.stat().st_size))
    refused(path, most, path.stat().st_size, limits=SMALL)


def test_a_member_of_a_tar_that_claims_more_bytes_than_the_file_has_is_refused(tmp_path):
    entry = tarfile.TarInfo("a")
    entry.size = 8**10
    (tmp_path / "a.tar").write_bytes(entry.tobuf() + bytes(10240))
    refused(tmp_path / "a.tar")


def test_totals_members_and_counts_have_limits(tmp_path):
    path = write_zip(tmp_path / "a.zip", [(f"{k}", bytes(20_000)) for k in range(6)])
    refused(path, 120_000, 10**5, limits=SMALL)
    path = write_zip(tmp_path / "b.zip", [("0", bytes(20_000))])
    refused(path, "'0'", limits=SMALL)
    path = write_zip(tmp_path / "c.zip", [(f"{k}", b"") for k in range(11)])
    refused(path, 11, 10, limits=SMALL)


def test_encrypted_members_and_methods_that_cannot_be_bounded_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("a", b"1")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in refused(path, "'a'")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(write_zip(tmp_path / "b.zip", [("a", bytes(10**6))], compression=method), "'a'", f"method {method}")


def test_members_that_overlap_are_refused(tmp_path):
    """Many entries of the directory name the same packed bytes."""
    path = write_zip(tmp_path / "a.zip", [("0", bytes(range(256)) * 8)])
    data = path.read_bytes()
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[start:end]
    copies = b"".join(entry[:-1] + str(k).encode() for k in range(9))
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 9, 9, len(copies))
    path.write_bytes(data[:start] + copies + tail)
    refused(path, path.stat().st_size)


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\5\6", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"])
def test_what_is_no_archive_is_refused(tmp_path, data):
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    refused(path)


def test_a_missing_file_a_folder_and_a_missing_member_are_refused(tmp_path):
    refused(tmp_path / "gone.zip")
    refused(tmp_path)
    refused(write_zip(tmp_path / "a.zip", [("a", b"1")]), "'b'", "['a']", read="b")


def test_a_tar_whose_list_breaks_off_is_refused(tmp_path):
    data = bytearray(tar_bytes([("a", b"1"), ("b", b"2"), ("c", b"3")]))
    path = tmp_path / "a.tar"
    path.write_bytes(data[:1024] + b"\xff" * 512 + data[1536:])
    refused(path)
    path.write_bytes(data[:1024])
    refused(path)


@pytest.mark.parametrize("kind", ["zip", *PACKERS])
def test_damage_anywhere_is_an_archive_error_or_read_whole(tmp_path, kind):
    content = {f"{k}.bin": bytes((k * j) % 251 for j in range(400)) for k in range(3)}
    if kind == "zip":
        data = write_zip(tmp_path / "a", content.items(), compression=zipfile.ZIP_DEFLATED).read_bytes()
    else:
        data = PACKERS[kind](tar_bytes(content.items()))
    path = tmp_path / "damaged"

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, len(data) - 1), st.integers(1, 255), st.booleans())
    def check(place, change, cut):
        damaged = bytearray(data)
        damaged[place] ^= change
        path.write_bytes(damaged[:place] if cut else damaged)
        message = str(path)
        try:
            with Archive(path, limits=SMALL._replace(total=10**6)) as archive:
                for name in archive.names:
                    archive.read(name)
        except ArchiveError as error:
            message = str(error)
        assert str(path) in message

    check()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_threads_read_from_one_archive(tmp_path, kind):
    content = {f"{k}": bytes([k]) * 5000 for k in range(40)}
    write = write_zip if kind == "zip" else write_tar
    wrong = []
    with Archive(write(tmp_path / "a", content.items())) as archive:

        def read():
            wrong.extend(name for name in archive.names if archive.read(name) != content[name])

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_gzip_files_are_read_whole_and_bombs_refused(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"digits"))
    assert read_gzip(path) == b"digits"
    path.write_bytes(gzip.compress(bytes(10**6)))
    assert read_gzip(path) == bytes(10**6)
    whole = path.read_bytes()
    for data, limits in ((whole, SMALL), (whole[:-9], LIMITS), (b"no gzip", LIMITS), (b"", LIMITS)):
        path.write_bytes(data)
        with pytest.raises(ArchiveError) as caught:
            read_gzip(path, limits=limits)
        assert str(path) in str(caught.value)
        assert "Mend:" in str(caught.value)
