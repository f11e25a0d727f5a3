"""Zip files that would do harm are refused; images are decoded when they are read."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from neurobridge.datasets import ArchiveError
from neurobridge.datasets.files.archives import lazy_rows, members_of, zip_images
from neurobridge.store.archives import Limits
from tests.refusals import refused


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


@pytest.mark.parametrize("entry", ["../evil.jpg", "A.JPG"])
def test_archives_that_would_do_harm_are_refused(tmp_path, entry):
    path = write(tmp_path / "a.zip", [("a.jpg", picture(1)), (entry, picture(2))])
    for use in (members_of, lambda path: zip_images(path, ["a.jpg"])):
        with refused(ArchiveError, path, repr(entry)):
            use(path)


def test_a_bomb_is_refused_by_its_size(tmp_path):
    path = write(tmp_path / "a.zip", [(f"{k}.bin", bytes(10**6)) for k in range(5)], compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5
    assert len(members_of(path)) == 5
    with refused(ArchiveError, path, 5 * 10**6, 5 * 10**6 - 1, path.stat().st_size):
        members_of(path, limits=Limits(total=5 * 10**6 - 1))


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"not an image", lambda data: b""])
def test_a_member_that_is_no_whole_image_is_refused_by_name(tmp_path, spoil):
    path = write(tmp_path / "a.zip", [("a.png", picture(1)), ("b.png", spoil(picture(2)))])
    with refused(ArchiveError, path, "b.png"):
        zip_images(path, ["a.png", "b.png"]).compute()
    with refused(ArchiveError, path, "b.png"):
        zip_images(path, ["b.png", "a.png"])


def test_an_image_that_unpacks_to_gigabytes_is_refused(tmp_path):
    stream = io.BytesIO()
    Image.new("1", (2**14, 2**13)).save(stream, format="PNG")
    path = write(tmp_path / "a.zip", [("a.png", stream.getvalue())])
    with refused(ArchiveError, path, "a.png", 2**14, 2**13):
        zip_images(path, ["a.png"])


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
    with refused(ArchiveError, path, "1 of 2", "['c.png']"):
        zip_images(path, ["a.png", "c.png"])
    with refused(ArchiveError, path, "0 of 0"):
        zip_images(path, [])
    with refused(ArchiveError, path, (5, 4, 3), (6, 4, 3)):
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
