"""Simulated objects: eight categories of eight, unions of shaded ellipsoids over 1/f backgrounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CATEGORIES = ("Animals", "Boats", "Cars", "Chairs", "Faces", "Fruits", "Planes", "Tables")
N_EXEMPLARS = 8
# Half the width of an image, in the units of position; an object of size 1 has a radius of about 1.
HALF_WIDTH = 1.5
# Degrees to the side and from above, from which an object is seen when it is not rotated.
_BASE_VIEW = (25.0, 20.0)
_SLOPE, _CONTRAST = 1.3, 0.09
_LIGHT = np.array([0.75, 0.35, 0.56])

Part = tuple[tuple[float, float, float], tuple[float, float, float], float]


class Shape(NamedTuple):
    """A union of ellipsoids.

    Attributes
    ----------
    centres, radii : arrays of shape (n_parts, 3)
        Along x (towards the viewer), y (up) and z (right).
    albedo : array of shape (n_parts,)
        Share of the light that is reflected, in [0, 1].
    """

    centres: np.ndarray
    radii: np.ndarray
    albedo: np.ndarray


def object_names() -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the 64 simulated objects and of their categories, arrays of shape (64,)."""
    categories = np.repeat(CATEGORIES, N_EXEMPLARS)
    names = np.array([f"{category.lower().rstrip('s')}_{k}" for category in CATEGORIES for k in range(N_EXEMPLARS)])
    return names, categories


def shapes() -> list[Shape]:
    """Make the 64 objects, always the same ones: exemplars differ in the proportions and the shade of their parts."""
    rng = np.random.default_rng(20150930)
    made = []
    for category in CATEGORIES:
        for exemplar in range(N_EXEMPLARS):
            parts = _PARTS[category](exemplar)
            centres, radii, albedo = (np.array(column, dtype=np.float64) for column in zip(*parts, strict=True))
            stretch = np.exp(rng.normal(0, 0.12, size=3))
            radii = radii * stretch * np.exp(rng.normal(0, 0.1, size=radii.shape))
            centres = centres * stretch
            extent = np.sqrt(((np.abs(centres) + radii) ** 2).sum(axis=1)).max()
            shade = np.clip(albedo * np.exp(rng.normal(0, 0.15)), 0.05, 1)
            made.append(Shape(centres / extent, radii / extent, shade))
    return made


def _legs(x: float, z: float, y: float, *, length: float, width: float, shade: float) -> list[Part]:
    return [((sx * x, y - length, sz * z), (width, length, width), shade) for sx in (-1, 1) for sz in (-1, 1)]


def _animal(k: int) -> list[Part]:
    neck = 0.25 + 0.1 * (k % 4)
    body: list[Part] = [((0, 0, 0), (0.32, 0.36, 0.8), 0.7), ((0, 0.25 + neck, 0.85), (0.22, 0.24, 0.32), 0.75)]
    body += [((0, 0.1 + neck / 2, 0.7), (0.14, 0.2 + neck / 2, 0.16), 0.7), ((0, 0.15, -0.95), (0.06, 0.06, 0.3), 0.6)]
    body += [((side * 0.12, 0.5 + neck, 0.75), (0.05, 0.12 + 0.06 * (k // 4), 0.06), 0.5) for side in (-1, 1)]
    return body + _legs(0.2, 0.5, -0.2, length=0.35 + 0.04 * k, width=0.09, shade=0.6)


def _boat(k: int) -> list[Part]:
    hull: list[Part] = [((0, -0.4, 0), (0.34, 0.24, 1.1), 0.55), ((0, -0.28, 0), (0.3, 0.08, 1.0), 0.9)]
    if k % 2:
        return [*hull, ((0, 0.35, 0.05), (0.04, 0.75, 0.04), 0.3), ((0, 0.4, 0.35), (0.05, 0.55, 0.3 + 0.04 * k), 0.95)]
    return [*hull, ((0, -0.05, -0.25), (0.24, 0.24, 0.4 + 0.03 * k), 0.95), ((0, 0.3, -0.3), (0.1, 0.25, 0.1), 0.25)]


def _car(k: int) -> list[Part]:
    wheels: list[Part] = [((x, -0.32, z), (0.08, 0.22, 0.22), 0.12) for x in (-0.38, 0.38) for z in (-0.6, 0.6)]
    cabin = 0.45 + 0.06 * (k % 4)
    return [((0, -0.1, 0), (0.42, 0.26, 1.05), 0.65), ((0, 0.22, -0.1), (0.34, 0.28, cabin), 0.4 + 0.05 * k), *wheels]


def _chair(k: int) -> list[Part]:
    height = 0.5 + 0.07 * (k % 4)
    arms: list[Part] = [((0, 0.2, side * 0.5), (0.4, 0.05, 0.06), 0.5) for side in (-1, 1)] if k // 4 else []
    seat: list[Part] = [((0, 0, 0), (0.5, 0.09, 0.5), 0.8), ((-0.45, height, 0), (0.08, height, 0.5), 0.75)]
    return seat + arms + _legs(0.4, 0.4, 0.0, length=0.45, width=0.07, shade=0.45)


def _face(k: int) -> list[Part]:
    eyes: list[Part] = [((0.62, 0.2, side * (0.26 + 0.02 * (k % 4))), (0.12, 0.09, 0.13), 0.08) for side in (-1, 1)]
    features: list[Part] = [((0.78, -0.08, 0), (0.2, 0.22, 0.1), 0.95), ((0.62, -0.45, 0), (0.12, 0.07, 0.28), 0.15)]
    hair: list[Part] = [((-0.18, 0.55 + 0.04 * (k // 2), 0), (0.65, 0.5, 0.68), 0.1 + 0.08 * k)]
    return [((0, 0, 0), (0.72, 0.95, 0.68), 0.9), *eyes, *features, *hair]


def _fruit(k: int) -> list[Part]:
    stem: Part = ((0, 0.75, 0), (0.04, 0.25, 0.04), 0.2)
    if k < 4:
        return [
            ((0, -0.1 * k, 0), (0.75, 0.75 - 0.05 * k, 0.75), 0.8),
            ((0, 0.1 + 0.1 * k, 0), (0.5, 0.5, 0.5), 0.8),
            stem,
        ]
    berries: list[Part] = [
        ((0.3 * np.cos(a), 0.35 - 0.4 * row, 0.4 * np.sin(a)), (0.32, 0.32, 0.32), 0.6)
        for row in range(2)
        for a in np.linspace(0, 2 * np.pi, k - 1, endpoint=False)
    ]
    return [*berries, stem]


def _plane(k: int) -> list[Part]:
    span, sweep = 0.75 + 0.06 * (k % 4), 0.12 * (k // 4)
    wings: list[Part] = [((side * span / 2, 0, -sweep), (span / 1.7, 0.05, 0.24), 0.75) for side in (-1, 1)]
    tail: list[Part] = [((0, 0.25, -0.85), (0.05, 0.3, 0.17), 0.5), ((0, 0.05, -0.88), (0.38, 0.04, 0.13), 0.7)]
    return [((0, 0, 0), (0.17, 0.18, 1.1), 0.85), *wings, *tail]


def _table(k: int) -> list[Part]:
    top: Part = ((0, 0.25, 0), (0.6 + 0.05 * (k % 4), 0.08, 0.95 - 0.05 * (k % 4)), 0.75)
    if k % 2:
        return [top, ((0, -0.2, 0), (0.1, 0.45, 0.1), 0.5), ((0, -0.6, 0), (0.35, 0.07, 0.35), 0.5)]
    return [top, *_legs(0.42, 0.7, 0.25, length=0.4, width=0.08, shade=0.5)]


_PARTS = dict(zip(CATEGORIES, (_animal, _boat, _car, _chair, _face, _fruit, _plane, _table), strict=True))


def rotation(rxy: np.ndarray, rxz: np.ndarray, ryz: np.ndarray) -> np.ndarray:
    """Make rotation matrices of shape (n, 3, 3).

    Degrees in the x-y, x-z and y-z planes, in this order, from a view a little to the side and from above; y-z is the image plane.
    """
    ones = np.ones(len(rxy))
    matrix = np.broadcast_to(np.eye(3), (len(rxy), 3, 3))
    turns = [
        ((0, 2), _BASE_VIEW[0] * ones),
        ((0, 1), _BASE_VIEW[1] * ones),
        ((0, 1), rxy),
        ((0, 2), rxz),
        ((1, 2), ryz),
    ]
    for (a, b), degrees in turns:
        angle = np.deg2rad(degrees)
        turn = np.zeros((len(degrees), 3, 3)) + np.eye(3)
        turn[:, a, a] = turn[:, b, b] = np.cos(angle)
        turn[:, a, b], turn[:, b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def render(
    shape: Shape, turns: np.ndarray, ty: np.ndarray, tz: np.ndarray, s: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Render poses of one object in orthographic projection, lit from one side.

    Parameters
    ----------
    shape : Shape
    turns : array of shape (n, 3, 3)
        Rotations.
    ty, tz, s : arrays of shape (n,)
        Position up and to the right, and size.
    size : int
        Pixels a side.

    Returns
    -------
    light : float array of shape (n, size, size)
        Luminance in [0, 1] where the object is.
    covered : bool array of shape (n, size, size)
    """
    # Single precision halves the time; it is far finer than the grey levels.
    turns, ty, tz, s = (np.asarray(column, dtype=np.float32) for column in (turns, ty, tz, s))
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    up, right = -axis[:, None] * HALF_WIDTH, axis[None, :] * HALF_WIDTH
    # Position of every pixel in the object's own units, relative to its centre.
    y = (up[None] - ty[:, None, None]) / s[:, None, None]
    z = (right[None] - tz[:, None, None]) / s[:, None, None]
    depth = np.full((len(s), size, size), -np.inf, dtype=np.float32)
    light = np.zeros((len(s), size, size), dtype=np.float32)
    for centre, radii, albedo in zip(*(column.astype(np.float32) for column in shape), strict=True):
        # (v - c)^T Q (v - c) = 1 with Q = R diag(1 / r^2) R^T: a quadratic in the depth x of every pixel.
        Q = np.einsum("nij,j,nkj->nik", turns, 1 / radii**2, turns)
        c = turns @ centre
        dy, dz = y - c[:, 1, None, None], z - c[:, 2, None, None]
        q = Q[:, :, :, None, None]
        half_b = q[:, 0, 1] * dy + q[:, 0, 2] * dz
        rest = q[:, 1, 1] * dy**2 + 2 * q[:, 1, 2] * dy * dz + q[:, 2, 2] * dz**2 - 1
        disc = half_b**2 - q[:, 0, 0] * rest
        dx = (np.sqrt(np.maximum(disc, 0)) - half_b) / q[:, 0, 0]
        front = (disc > 0) & (dx + c[:, 0, None, None] > depth)
        normal = [q[:, i, 0] * dx + q[:, i, 1] * dy + q[:, i, 2] * dz for i in range(3)]
        length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
        lambert = sum(np.float32(_LIGHT[i]) * normal[i] for i in range(3)) / np.maximum(length, 1e-12)
        depth = np.where(front, dx + c[:, 0, None, None], depth)
        light = np.where(front, albedo * (0.25 + 0.75 * np.maximum(lambert, 0)), light)
    return light, np.isfinite(depth)


def backgrounds(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw grey images with a 1/f^1.3 amplitude spectrum, near that of natural scenes: (n, size, size) in [0, 1]."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((n, size, size))) / frequency**_SLOPE
    field = np.fft.irfft2(spectrum, s=(size, size))
    return np.clip(0.42 + _CONTRAST * field / field.std(axis=(1, 2), keepdims=True), 0, 1)
