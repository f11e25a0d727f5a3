"""RGB pixels of one image file; refused is what does not say by itself which pixels were seen."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from neurobridge.assemblies import AssemblyError

#: Formats of pixels that pillow decodes by itself; others (EPS, WMF) start programs or are no pictures.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# Raw modes of 12 or 16 bits a channel; BGR;16 is 16 bits a pixel.
_DEEP = re.compile(r"(?!BGR)\w+;(12|16)\w*")
_OPAQUE, _WITH_ALPHA = ("1", "L", "RGB", "P"), ("LA", "PA", "RGBA")


def decode(data: bytes, what: str) -> np.ndarray:
    """Decode one image file.

    Parameters
    ----------
    data : bytes
        Of one of `FORMATS`.
    what : str
        Stimulus and file, for messages.

    Returns
    -------
    uint8 array of shape (row, column, 3)

    Raises
    ------
    AssemblyError
        The bytes are no whole image, hold more than one picture or more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, ask for the
        picture to be turned, are transparent, or have other than 8 bits a channel, grey or RGB.

    Examples
    --------
    >>> stream = io.BytesIO()
    >>> Image.new("L", (4, 3), 7).save(stream, "png")
    >>> decode(stream.getvalue(), "grey.png").shape
    (3, 4, 3)
    """
    try:
        with Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in _known_formats()]) as image:
            _check_size(image, what)
            _check_bits(image, what)
            _check_one_upright_picture(image, what)
            _check_opaque(image, what)
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except AssemblyError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(what, str(error)) from error
    except MemoryError as error:
        raise MemoryError(
            f"{what}: found too little memory for its pixels; expected room for three bytes a pixel. Mend: save it smaller."
        ) from error
    # Damaged bytes end in almost any exception of pillow's readers.
    except Exception as error:
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise AssemblyError(
            f"{what}: found a file that cannot be read as an image ({type(error).__name__}: {reason}); expected a whole "
            f"file in one of the formats {', '.join(FORMATS)}. Mend: leave the row out of the table, or replace the file."
        ) from error


def _known_formats() -> set[str]:
    Image.init()
    return set(Image.OPEN)


def _check_size(image: Image.Image, what: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _too_many_pixels(what, f"{image.width} x {image.height} = {image.width * image.height} pixels")


def _too_many_pixels(what: str, text: str) -> AssemblyError:
    return AssemblyError(
        f"{what}: found more pixels than are read without asking ({text}); expected at most {Image.MAX_IMAGE_PIXELS}, as small "
        "files can hold pictures that fill the memory. Mend: save it at the size that was shown, or set "
        "PIL.Image.MAX_IMAGE_PIXELS before, if you know where the file is from."
    )


def _check_one_upright_picture(image: Image.Image, what: str) -> None:
    if (n_frames := getattr(image, "n_frames", 1)) > 1:
        raise AssemblyError(
            f"{what}: found {n_frames} pictures in one file; expected one. Mend: save the one that subjects saw by itself."
        )
    if (orientation := _orientation(image)) in range(2, 9):
        raise AssemblyError(
            f"{what}: found EXIF orientation {orientation}, a picture to be turned or mirrored; expected pixels as they "
            "were seen. Mend: PIL.ImageOps.exif_transpose where the subjects saw it so, or drop the tag, and save it again."
        )


def _check_bits(image: ImageFile.ImageFile, what: str) -> None:
    """Refuse more than 8 bits a channel, before anything loads the pixels and drops the lower bits without a word."""
    deep = [part for tile in image.tile for part in _parts(tile.args) if _DEEP.fullmatch(str(part))]
    deep += [
        f"{image.mode} up to {part}" for tile in image.tile for part in _parts(tile.args) if _is_deep_ppm(image, part)
    ]
    if deep or (image.mode not in _OPAQUE and image.mode not in _WITH_ALPHA):
        raise AssemblyError(
            f"{what}: found an image of mode {deep[0] if deep else image.mode}; expected 8 bits a channel, grey or RGB. Mend: "
            "convert it, scaled as the subjects saw it."
        )


def _is_deep_ppm(image: Image.Image, part: Any) -> bool:
    return image.format == "PPM" and isinstance(part, int) and part > 255


def _check_opaque(image: Image.Image, what: str) -> None:
    has_alpha = image.mode in _WITH_ALPHA or "transparency" in image.info
    if has_alpha and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise AssemblyError(
            f"{what}: found an image with transparent pixels; expected opaque ones. Mend: put it on the background "
            "that the subjects saw, and save it again."
        )


def _parts(arguments: Any) -> list[Any]:
    """Return the arguments of a decoder as a list; their form is each reader's own."""
    return list(arguments) if isinstance(arguments, tuple) else [arguments]


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    # A broken tag turns the picture nowhere, and its pixels are whole.
    except (SyntaxError, ValueError, struct.error):
        return 1
