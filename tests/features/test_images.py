"""Stimuli from files, zips and arrays: the same pixels give the same activations, and what is no image is refused."""

from __future__ import annotations

import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import ExifTags, Image, features
from torch import nn

from neurobridge.assemblies import AssemblyError
from neurobridge.features import Preprocess, extract
from neurobridge.features.stimuli.images import TableSource, as_source, pixel_digests, read_ahead


def random_pixels(n: int = 7, size: tuple[int, int] = (12, 10), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(n, *size, 3), dtype=np.uint8)


def table_of(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "stimulus_id": [f"im{k:03d}" for k in range(n)],
            "file": [f"sub/im{k:03d}.png" for k in range(n)],
            "size_deg": np.linspace(1, 2, n),
            "animal": [k % 2 == 0 for k in range(n)],
        }
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "stimuli" / "sub").mkdir(parents=True)
    for k, image in enumerate(random_pixels()):
        Image.fromarray(image).save(tmp_path / "stimuli" / "sub" / f"im{k:03d}.png")
    return tmp_path / "stimuli"


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / "stimuli.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


# ---- the same pixels, wherever they are


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_files_zip_and_arrays_give_the_same_assembly(model, folder, archive, workers) -> None:
    table, pixels = table_of(7), random_pixels()
    labelled = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={str(name): ("presentation", np.array(table[name].tolist())) for name in table},
    )
    expected = extract(model, labelled, ["0", "3"], batch_size=3)
    for root in (folder, str(archive), pixels):
        got = extract(model, table, ["0", "3"], root=root, batch_size=3, workers=workers)
        np.testing.assert_array_equal(got.values, expected.values)
        assert list(got.coords["stimulus_id"].values) == list(table["stimulus_id"])
        for name in ("size_deg", "animal"):
            np.testing.assert_array_equal(got.coords[name].values, table[name].to_numpy())


def test_order_is_the_tables_and_a_file_may_come_twice(model, folder) -> None:
    table = table_of(7).iloc[[5, 0, 5, 3]]
    table = table.assign(repetition=[0, 0, 1, 0]).rename(columns={"file": "filename"})
    got = extract(model, table, "3", root=folder, batch_size=2)
    once = extract(model, table_of(7), "3", root=folder, batch_size=2)
    np.testing.assert_allclose(got.values, once.values[[5, 0, 5, 3]], atol=1e-6)


def test_grey_palette_and_opaque_alpha_are_read_as_rgb(tmp_path) -> None:
    grey = random_pixels(1)[0, ..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 255)])).save(tmp_path / "alpha.png")
    table = pd.DataFrame({"stimulus_id": ["g", "p", "a"], "file": ["grey.png", "palette.png", "alpha.png"]})
    got = as_source(table, tmp_path).read(slice(0, 3))
    np.testing.assert_array_equal(got, np.broadcast_to(grey[None, :, :, None], (3, 12, 10, 3)))


def test_mixed_sizes_are_resized_one_by_one_when_a_size_is_declared(model, tmp_path) -> None:
    sizes = [(12, 10), (30, 20), (12, 10), (9, 9)]
    images = [random_pixels(1, size, seed=k)[0] for k, size in enumerate(sizes)]
    for k, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{k}.png")
    table = pd.DataFrame({"stimulus_id": list("abcd"), "file": [f"{k}.png" for k in range(4)]})
    preprocess = Preprocess(size=8)
    got = extract(model, table, "3", root=tmp_path, preprocess=preprocess, batch_size=3)
    with torch.no_grad():
        expected = torch.cat([model(preprocess(torch.from_numpy(image[None]))) for image in images])
    np.testing.assert_allclose(got.values, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_reading_ahead_keeps_the_order_and_holds_few_blocks(workers) -> None:
    class Slow:
        read_so_far = 0

        def read(self, rows: slice) -> np.ndarray:
            Slow.read_so_far += 1
            return np.full((rows.stop - rows.start, 2, 2), rows.start, dtype=np.uint8)

    blocks = [slice(k, k + 1) for k in range(20)]
    for taken, (rows, pixels) in enumerate(read_ahead(Slow(), blocks, workers)):
        assert pixels[0, 0, 0] == rows.start == taken
        assert Slow.read_so_far <= taken + workers + 2
    assert taken == 19


# ---- digests


def test_digest_follows_pixels_labels_and_order(folder, archive) -> None:
    table = table_of(7)
    digest = TableSource(table, folder).digest()
    assert digest == TableSource(table, archive).digest() == TableSource(table.copy(), folder).digest()
    assert digest != TableSource(table.assign(size_deg=1.0), folder).digest()
    assert digest != TableSource(table.iloc[::-1], folder).digest()
    Image.fromarray(random_pixels(seed=9)[0]).save(folder / "sub" / "im003.png")
    assert digest != TableSource(table, folder).digest()

    array = as_source(table, random_pixels())
    changed = random_pixels()
    changed[6, 11, 9, 2] ^= 1
    assert array.digest() == as_source(table, random_pixels()).digest() != as_source(table, changed).digest()


def test_pixel_digests_see_every_pixel_but_not_how_grey_is_stored() -> None:
    grey = random_pixels(3)[..., 0]
    three = np.repeat(grey[..., None], 3, axis=-1)
    assert pixel_digests(grey) == pixel_digests(three) == pixel_digests(list(three))
    assert len(set(pixel_digests(grey))) == 3
    other = three.copy()
    other[1, 0, 0, 0] ^= 1
    assert [a == b for a, b in zip(pixel_digests(other), pixel_digests(three), strict=True)] == [True, False, True]
    assert pixel_digests(grey.reshape(3, 10, 12)) != pixel_digests(grey)


# ---- refusals


def refuse(model, message: str, table: pd.DataFrame, root, **arguments) -> None:
    with pytest.raises(AssemblyError, match=message) as caught:
        extract(model, table, "3", root=root, **arguments)
    assert "Mend:" in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_is_no_image_is_named(model, folder, workers) -> None:
    (folder / "sub" / "im004.png").write_text("not pixels")
    refuse(
        model,
        r"stimulus 'im004' \(sub/im004.png\): found a file that cannot be read",
        table_of(7),
        folder,
        workers=workers,
    )


def test_a_truncated_image_is_refused(model, folder) -> None:
    path = folder / "sub" / "im002.png"
    path.write_bytes(path.read_bytes()[:-60])
    refuse(model, r"stimulus 'im002'.*cannot be read as an image", table_of(7), folder)


def test_transparent_and_deep_images_are_refused(model, folder) -> None:
    rgba = np.dstack([random_pixels(1)[0], np.full((12, 10), 254, np.uint8)])
    Image.fromarray(rgba).save(folder / "sub" / "im001.png")
    refuse(model, r"stimulus 'im001'.*transparent pixels", table_of(7), folder)
    Image.fromarray(np.full((12, 10), 3000, np.uint16)).save(folder / "sub" / "im001.png")
    refuse(model, r"stimulus 'im001'.*mode I;16; expected 8 bits", table_of(7), folder)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_image_that_asks_to_be_turned_is_refused(model, tmp_path, suffix, orientation) -> None:
    table = pd.DataFrame({"stimulus_id": ["a"], "file": [f"a.{suffix}"]})
    image = Image.fromarray(random_pixels(1)[0])
    image.save(tmp_path / f"a.{suffix}", exif=oriented(orientation))
    refuse(
        model,
        rf"stimulus 'a'.*found EXIF orientation {orientation}, a picture to be turned.*exif_transpose",
        table,
        tmp_path,
    )


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_image_that_is_upright_or_says_nothing_is_read(tmp_path, orientation) -> None:
    Image.fromarray(random_pixels(1)[0]).save(tmp_path / "a.png", exif=oriented(orientation))
    table = pd.DataFrame({"stimulus_id": ["a"], "file": ["a.png"]})
    np.testing.assert_array_equal(as_source(table, tmp_path).read(slice(0, 1)), random_pixels(1))


@pytest.mark.parametrize("broken", [b"Exif\0\0junk", b"Exif\0\0II*\0\x08", b"Exif\0\0"])
def test_a_broken_exif_tag_leaves_the_pixels_readable(tmp_path, broken) -> None:
    Image.fromarray(random_pixels(1)[0]).save(tmp_path / "a.png", exif=broken)
    table = pd.DataFrame({"stimulus_id": ["a"], "file": ["a.png"]})
    np.testing.assert_array_equal(as_source(table, tmp_path).read(slice(0, 1)), random_pixels(1))


@pytest.mark.parametrize("suffix", ["gif", "tiff", "png", "webp"])
def test_a_file_of_several_pictures_is_refused_and_one_is_read(model, tmp_path, suffix) -> None:
    if suffix == "webp" and not features.check("webp"):
        pytest.skip("pillow without webp")
    first, second, third = map(Image.fromarray, random_pixels(3))
    table = pd.DataFrame({"stimulus_id": ["a"], "file": [f"a.{suffix}"]})
    first.save(tmp_path / f"a.{suffix}")
    assert as_source(table, tmp_path).read(slice(0, 1)).shape == (1, 12, 10, 3)
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second, third])
    refuse(model, r"stimulus 'a'.*found 3 pictures in one file; expected one\. Mend", table, tmp_path)


@pytest.mark.parametrize(("batch_size", "bad"), [(7, 4), (2, 4), (1, 4)])
def test_mixed_sizes_without_a_declared_size_are_refused(model, folder, batch_size, bad) -> None:
    Image.fromarray(random_pixels(1, (14, 10))[0]).save(folder / "sub" / f"im00{bad}.png")
    message = r"stimulus 'im004': found an image of 14 x 10 pixels, the first of 12 x 10; expected one size"
    refuse(model, message, table_of(7), folder, batch_size=batch_size)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="file"), "with columns .*; expected at least one row, 'stimulus_id' and 'file'"),
        (lambda t: t.drop(columns="stimulus_id"), "'stimulus_id' and 'file'"),
        (lambda t: t.iloc[:0], "table of 0 rows"),
        (lambda t: t.assign(file=[None, *t["file"][1:]]), "of 7 values of 'file' missing"),
        (lambda t: t.assign(file=["gone.png", *t["file"][1:]]), r"found no 'gone.png' .* \(1 of 7 files missing\)"),
    ],
)
def test_incomplete_tables_are_refused(model, folder, archive, spoil, message) -> None:
    for root in (folder, archive):
        refuse(model, message, spoil(table_of(7)), root)


def test_roots_that_do_not_fit_are_refused(model, tmp_path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK nothing")
    refuse(model, "cannot be read as zip", table_of(7), broken)
    refuse(model, r"pixels of shape \(6, 12, 10, 3\) for a table of 7 rows", table_of(7), random_pixels(6))
    images = xr.DataArray(
        random_pixels(),
        dims=("presentation", "row", "column", "channel"),
        coords={"stimulus_id": ("presentation", list("abcdefg"))},
    )
    refuse(model, "root: found .* expected root only with a table", images, tmp_path)
