"""Stimuli from files, zips and arrays: the same pixels give the same activations, and what is no image is refused."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
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
        r"'im004' \(sub/im004\.png\)",
        table_of(7),
        folder,
        workers=workers,
    )


def test_a_truncated_image_is_refused(model, folder) -> None:
    path = folder / "sub" / "im002.png"
    path.write_bytes(path.read_bytes()[:-60])
    refuse(model, r"'im002' \(sub/im002\.png\)", table_of(7), folder)


def test_transparent_and_deep_images_are_refused(model, folder) -> None:
    rgba = np.dstack([random_pixels(1)[0], np.full((12, 10), 254, np.uint8)])
    Image.fromarray(rgba).save(folder / "sub" / "im001.png")
    refuse(model, r"'im001' \(sub/im001\.png\).*transparent", table_of(7), folder)
    Image.fromarray(np.full((12, 10), 3000, np.uint16)).save(folder / "sub" / "im001.png")
    refuse(model, r"'im001' \(sub/im001\.png\).*I;16", table_of(7), folder)


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
        rf"'a'.* {orientation},.*exif_transpose",
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


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Bytes of a png file, of any depth and with any claim of its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def read_bytes(folder, content: bytes) -> np.ndarray:
    (folder / "a.png").write_bytes(content)
    return as_source(pd.DataFrame({"stimulus_id": ["a1"], "file": ["a.png"]}), folder).read(slice(0, 1))


@pytest.mark.parametrize(
    ("colour", "channels", "mode"), [(0, 1, "I;16B"), (2, 3, "RGB;16B"), (4, 2, "LA;16B"), (6, 4, "RGBA;16B")]
)
def test_sixteen_bits_are_refused_in_every_kind_of_png(tmp_path, colour, channels, mode) -> None:
    row = b"\0" + b"\x12\x34" * (channels - 1) * 4 + b"\xff\xff" * 4
    with pytest.raises(AssemblyError, match=rf"'a1' \(a\.png\).*{mode}"):
        read_bytes(tmp_path, png(4, 2, 16, colour, row * 2))


@pytest.mark.parametrize(("maximum", "n_bytes"), [(255, 1), (1023, 2), (65535, 2)])
def test_depth_of_ppm(tmp_path, maximum, n_bytes) -> None:
    content = f"P6 4 4 {maximum}\n".encode() + b"\1" * 48 * n_bytes
    if n_bytes == 1:
        assert (read_bytes(tmp_path, content) == 1).all()
        return
    with pytest.raises(AssemblyError, match=rf"'a1'.*{maximum}"):
        read_bytes(tmp_path, content)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "F", "I"])
def test_other_kinds_of_pixels_are_refused(tmp_path, mode) -> None:
    stream = io.BytesIO()
    image = Image.fromarray(random_pixels(1)[0])
    (image.convert("L") if mode in "FI" else image).convert(mode).save(stream, "tiff")
    with pytest.raises(AssemblyError, match=rf"'a1'.* {mode};"):
        read_bytes(tmp_path, stream.getvalue())


@pytest.mark.parametrize("side", [70_000, 10_000])
def test_a_decompression_bomb_is_refused(tmp_path, side) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AssemblyError, match=rf"'a1' \(a\.png\).*{side**2}.*{Image.MAX_IMAGE_PIXELS}"):
            read_bytes(tmp_path, png(side, side, 8, 0, b"\0" * 999))
    # Warnings that are errors change nothing.
    with pytest.raises(AssemblyError, match=r"'a1' \(a\.png\)"):
        read_bytes(tmp_path, png(side, side, 8, 0, b"\0" * 999))


def test_images_that_fill_the_memory_together_are_refused(folder, monkeypatch) -> None:
    monkeypatch.setattr("neurobridge.features.stimuli.images.BLOCK_BYTES", 3 * 12 * 10 * 3)
    source = as_source(table_of(7), folder)
    assert len(source.read(slice(0, 3))) == 3
    with pytest.raises(AssemblyError, match=r"'im003' .*batch_size=3"):
        source.read(slice(0, 7))


def test_files_that_start_programs_are_not_opened(tmp_path, monkeypatch) -> None:
    Image.init()
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: pytest.fail("a program was started"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(AssemblyError, match=r"'a1' \(a\.png\)"):
        read_bytes(tmp_path, eps)


@given(
    suffix=st.sampled_from(["png", "jpeg", "gif", "bmp", "tiff", "ppm"]),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=6),
    keep=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_a_damaged_image_is_refused_or_read(tmp_path_factory, suffix, places, keep) -> None:
    stream = io.BytesIO()
    Image.fromarray(random_pixels(1)[0]).save(stream, suffix)
    data = bytearray(stream.getvalue())
    for place, value in places:
        data[int(place * (len(data) - 1))] ^= value
    folder = tmp_path_factory.mktemp("damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = read_bytes(folder, bytes(data[: round(keep * len(data))]))
        except AssemblyError as error:
            assert "'a1' (a.png)" in str(error)  # noqa: PT017
            assert "Mend:" in str(error)  # noqa: PT017
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape[0] == 1
            assert pixels.shape[3] == 3


@pytest.mark.parametrize("spoil", ["damaged", "vanished"])
def test_a_member_that_cannot_be_read_is_named(archive, folder, spoil) -> None:
    source = TableSource(table_of(7), archive if spoil != "vanished" else folder)
    if spoil == "vanished":
        (folder / "sub" / "im000.png").unlink()
    else:
        data = bytearray(archive.read_bytes())
        with zipfile.ZipFile(archive) as members:
            first = members.getinfo("sub/im000.png")
        start = first.header_offset + 30 + len(first.filename)
        data[start : start + 40] = bytes(40)
        archive.write_bytes(bytes(data))
    with pytest.raises(AssemblyError, match=r"'im000' \(sub/im000\.png\)"):
        source.read(slice(0, 2))


@pytest.mark.parametrize("suffix", ["gif", "tiff", "png", "webp"])
def test_a_file_of_several_pictures_is_refused_and_one_is_read(model, tmp_path, suffix) -> None:
    if suffix == "webp" and not features.check("webp"):
        pytest.skip("pillow without webp")
    first, second, third = map(Image.fromarray, random_pixels(3))
    table = pd.DataFrame({"stimulus_id": ["a"], "file": [f"a.{suffix}"]})
    first.save(tmp_path / f"a.{suffix}")
    assert as_source(table, tmp_path).read(slice(0, 1)).shape == (1, 12, 10, 3)
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second, third])
    refuse(model, r"'a'.* 3 pictures", table, tmp_path)


@pytest.mark.parametrize(("batch_size", "bad"), [(7, 4), (2, 4), (1, 4)])
def test_mixed_sizes_without_a_declared_size_are_refused(model, folder, batch_size, bad) -> None:
    Image.fromarray(random_pixels(1, (14, 10))[0]).save(folder / "sub" / f"im00{bad}.png")
    message = "'im004'.*14 x 10 .*12 x 10"
    refuse(model, message, table_of(7), folder, batch_size=batch_size)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns=["stimulus_id", "file"]), "size_deg, animal.*'stimulus_id'"),
        (lambda t: t.drop(columns="file").assign(stimulus_id=[f"gone{k}" for k in range(7)]), "7 of 7 ids.*'gone0'"),
        (lambda t: t.iloc[:0], " 0 rows"),
        (lambda t: t.assign(file=[None, *t["file"][1:]]), "1 of 7.*'file' missing"),
        (lambda t: t.assign(file=["gone.png", *t["file"][1:]]), r"'gone\.png'.*\(1 of 7"),
    ],
)
def test_incomplete_tables_are_refused(model, folder, archive, spoil, message) -> None:
    for root in (folder, archive):
        refuse(model, message, spoil(table_of(7)), root)


def test_roots_that_do_not_fit_are_refused(model, tmp_path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK nothing")
    refuse(model, r"broken\.zip", table_of(7), broken)
    refuse(model, r"\(6, 12, 10, 3\).* 7 rows", table_of(7), random_pixels(6))
    images = xr.DataArray(
        random_pixels(),
        dims=("presentation", "row", "column", "channel"),
        coords={"stimulus_id": ("presentation", list("abcdefg"))},
    )
    refuse(model, "root.*DataArray", images, tmp_path)
