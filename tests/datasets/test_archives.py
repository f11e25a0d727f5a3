"""Zip files that would do harm are refused; images are decoded when they are read."""

from __future__ import annotations

import io
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image

from neurobridge.datasets import ArchiveError
from neurobridge.datasets.files.archives import lazy_rows, members_of, zip_images


def write(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def picture(value, shape=(6, 4, 3), kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(stream, format=kind)
    return stream.getvalue()


def test_members_are_files_in_order_with_the_endings_asked_for(tmp_path):
    path = write(tmp_path / "a.zip", [("b.JPG", b"1"), ("sub/", b""), ("sub/a.jpg", b"2"), ("notes.txt", b"3")])
    assert members_of(path) == ["b.JPG", "notes.txt", "sub/a.jpg"]
    assert members_of(path, suffixes=(".jpg",)) == ["b.JPG", "sub/a.jpg"]


@pytest.mark.parametrize(
    "name",
    ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg", "\\\\host\\evil.jpg", "a/.."],
)
def test_an_entry_that_leads_out_is_refused(tmp_path, name):
    path = write(tmp_path / "a.zip", [("good.jpg", b"1"), (name, b"2")])
    with pytest.raises(ArchiveError, match=r"a.zip: found the entry .* leads out of the archive's folder.*Mend"):
        members_of(path)


def test_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write(tmp_path / "a.zip", [(link, b"/etc/passwd")])
    with pytest.raises(ArchiveError, match=r"found the entry 'link.jpg', which leads out .* or is a link"):
        members_of(path)


def test_a_bomb_is_refused_by_its_total_size(tmp_path):
    path = write(tmp_path / "a.zip", [(f"{k}.bin", bytes(10**6)) for k in range(5)], compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5
    assert len(members_of(path, limit=5 * 10**6)) == 5
    with pytest.raises(ArchiveError, match=r"found 0\.01 GB uncompressed in 0\.00 GB; expected at most 0\.00 GB. Mend"):
        members_of(path, limit=5 * 10**6 - 1)


def test_a_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write(tmp_path / "a.zip", [("a.jpg", b"1"), ("a.jpg", b"2")])
    with pytest.raises(ArchiveError, match=r"found 'a.jpg' twice; expected each name once. Mend"):
        members_of(path)


@pytest.mark.parametrize("data", [b"", b"not a zip"])
def test_what_is_no_zip_is_refused(tmp_path, data):
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"a.zip: found a file that cannot be read as zip.*Mend: fetch it again"):
        members_of(path)


@pytest.mark.parametrize(("shape", "kind"), [((6, 4, 3), "PNG"), ((6, 4), "PNG"), ((6, 4, 3), "JPEG")])
def test_images_are_read_in_the_order_asked_for_a_chunk_at_a_time(tmp_path, shape, kind):
    path = write(tmp_path / "a.zip", [(f"{k}.png", picture(40 * k, shape, kind)) for k in range(5)])
    images = zip_images(path, ["3.png", "0.png", "4.png"], chunk=2)
    assert images.shape == (3, *shape)
    assert images.dtype == np.uint8
    assert images.chunks[0] == (2, 1)
    assert images.compute().reshape(3, -1)[:, 0].tolist() == [120, 0, 160]
    assert images[2].compute().ravel()[0] == 160


def test_missing_and_uneven_images_are_refused(tmp_path):
    path = write(tmp_path / "a.zip", [("a.png", picture(1)), ("b.png", picture(1, (5, 4, 3)))])
    with pytest.raises(ArchiveError, match=r"found 1 of 2 images missing, e.g. \['c.png'\]; expected all.*Mend"):
        zip_images(path, ["a.png", "c.png"])
    with pytest.raises(ArchiveError, match=r"found 0 of 0 images missing"):
        zip_images(path, [])
    with pytest.raises(ArchiveError, match=r"found an image of shape \(5, 4, 3\); expected \(6, 4, 3\).*Mend"):
        zip_images(path, ["a.png", "b.png"]).compute()


def test_lazy_rows_reads_only_what_is_asked_for():
    asked = []

    def read(rows):
        asked.extend(rows.tolist())
        return np.stack([np.full((2,), k, dtype=np.float32) for k in rows])

    rows = lazy_rows(read, 10, (2,), 3, np.float32)
    assert asked == []
    assert rows[7].compute().tolist() == [7, 7]
    assert asked == [6, 7, 8]
