"""Captions, images and weights into the functions that make features: refused, or finite and one row a stimulus."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import strategies as st

import neurobridge as nb
from neurobridge import evaluate, features, figures
from neurobridge.points.conversion import real_array
from tests.fuzz.campaign import Campaign, attempt
from tests.fuzz.strategies import IDS, NAMES, arrays, damage

LINES = st.one_of(st.sampled_from(["a cat", "two cats", "", " ", "{a}", "{label}", "{", "{0}", "NA"]), IDS)


class Encoder(torch.nn.Module):
    """A stand-in of three dimensions: the number of letters, of words and of capitals."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 0})

    def get_max_seq_length(self) -> None:
        return None

    def encode(self, texts: list[str], *, output_value: str = "", **options: Any) -> Any:
        rows = [[len(text), len(text.split()), sum(letter.isupper() for letter in text)] for text in texts]
        return [torch.tensor([row, row], dtype=torch.float32) for row in rows] if output_value else np.array(rows)


@st.composite
def tables(draw: st.DrawFn) -> Any:
    """Captions as people give them: a list, a mapping, a frame, something else."""
    n = draw(st.integers(0, 5))
    captions = draw(
        st.lists(st.sampled_from(["a cat", "two cats"]), min_size=n, max_size=n)
        | st.lists(LINES, min_size=n, max_size=n)
    )
    ids = draw(st.just([f"s{k // 2}" for k in range(n)]) | st.lists(IDS, min_size=n, max_size=n))
    table = {draw(st.just("stimulus_id") | NAMES): ids, draw(st.just("caption") | NAMES): captions}
    if draw(st.booleans()):
        table[draw(NAMES)] = draw(st.lists(IDS, min_size=n, max_size=n))
    kind = draw(st.sampled_from(["list", "mapping", "frame", "indexed", "array", "text", "none"]))
    if kind in ("frame", "indexed"):
        frame = pd.DataFrame(table, dtype=object)
        return frame if kind == "frame" else frame.set_index(frame.columns[0])
    return {
        "list": captions,
        "mapping": table,
        "array": np.array([*captions, None], dtype=object)[:-1],
        "text": "a cat",
        "none": None,
    }[kind]


def _embedded(table: Any, **options: Any) -> None:
    with attempt():
        embedded = nb.features.embed_text(table, Encoder(), **options)
    assert np.isfinite(embedded.values).all()
    assert embedded.values[:, 0].tolist() == [len(text) for text in embedded["caption"].values]
    n = len(next(iter(table.values()))) if isinstance(table, dict) else len(table)
    assert len(embedded) == n


def _read(table: Any) -> None:
    with attempt():
        captions = features.read_captions(table)
    assert not captions["caption"].str.strip().eq("").any()
    assert not captions["stimulus_id"].isna().any()


def _templates(drawn: tuple[Any, ...]) -> None:
    labels, templates, names, n_captions, ids = drawn
    with attempt():
        table = features.captions_from_templates(labels, templates, names=names, n_captions=n_captions, stimulus_id=ids)
    assert len(set(table["category_name"])) <= len(labels)
    assert not table["caption"].str.contains("{", regex=False).any() or any("{" in str(x) for x in [names, *labels])
    assert ids is None or len(table) == len(ids) * (n_captions or 1)
    assert not table.duplicated(["stimulus_id", "caption"]).any() or ids is not None


TEMPLATES = st.lists(st.sampled_from(["{a}", "the {label}"]), min_size=1, max_size=3) | st.lists(LINES, max_size=3)
WORDINGS = st.tuples(
    st.lists(st.sampled_from(["cat", "dog", 3]), max_size=3, unique_by=str) | st.lists(IDS, max_size=3),
    TEMPLATES | st.dictionaries(st.sampled_from(["cat", "dog", 3]), TEMPLATES, max_size=3) | st.none() | LINES,
    st.none() | st.dictionaries(st.sampled_from(["cat", "dog"]), LINES | st.lists(LINES, max_size=2), max_size=2),
    st.none() | st.sampled_from([1, 2, 0, -1, 1.5, "1", True]),
    st.none() | st.none() | st.lists(IDS, max_size=3),
)


@st.composite
def stacks(draw: st.DrawFn) -> xr.DataArray:
    """Images in an assembly: of bytes, of other numbers, with odd dimensions or ids."""
    healthy = draw(st.booleans())
    n = 8 if healthy else draw(st.sampled_from([0, 1, 3, 4]))
    shape = (n, *draw(st.sampled_from([(6, 6), (6, 5), (6, 6, 3), (6, 6, 1), (6, 6, 2), (0, 6), (6,), (1, 1)])))
    kind = "u1" if healthy else draw(st.sampled_from(["u1", "u1", "u1", "f4", "i8", "bool", "O", "U"]))
    values = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 255, shape).astype(kind)
    dims = ("presentation", "row", "column", "channel")[: len(shape)]
    plain_ids, plain_labels = st.just([f"s{k}" for k in range(n)]), st.just((["a", "b"] * n)[:n])
    ids = draw(plain_ids if healthy else plain_ids | st.lists(IDS, min_size=n, max_size=n))
    labels = draw(
        plain_labels if healthy else plain_labels | st.lists(st.sampled_from(["a", None]), min_size=n, max_size=n)
    )
    coords = {"stimulus_id": ("presentation", np.array([*ids, None], dtype=object)[:-1]),
              "category_name": ("presentation", np.array([*labels, None], dtype=object)[:-1])}  # fmt: skip
    if not healthy and draw(st.integers(0, 5)) == 0:
        dims = (*dims[:-1], "x")
    return xr.DataArray(values, dims=dims, coords=coords)


SIZED = features.Preprocess(size=6, grayscale=True)
NETWORK = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten()).eval()


def _extracted(images: xr.DataArray) -> None:
    with attempt():
        made = nb.extract(NETWORK, images, ["0", "1"], preprocess=SIZED)
    assert np.isfinite(made.values).all()
    assert made.shape == (len(images), 64)


def _components(images: xr.DataArray) -> None:
    with attempt():
        pca = features.fit_pca(NETWORK, images, ["1"], n_components=2, preprocess=SIZED)
    kept = nb.extract(NETWORK, 255 - images, ["1"], preprocess=SIZED, pooling=pca)
    assert np.isfinite(kept.values).all()
    assert kept.shape == (len(images), 2)


def _trained(images: xr.DataArray) -> None:
    with attempt():
        reference = features.train_reference("conv_net", images, epochs=1, batch_size=4)
    assert all(torch.isfinite(weight).all() for weight in reference.model.parameters())


def _drawn_sheet(images: xr.DataArray) -> None:
    from matplotlib import pyplot as plt

    with attempt():
        sheet = figures.contact_sheet(images, n_columns=2)
    height = images.shape[1] * -(-len(images) // 2)
    assert sheet.images[0].get_array().shape[:2] == (height, 2 * images.shape[2])
    plt.close("all")


def _generated(drawn: Any) -> None:
    with attempt():
        latents = nb.make_assembly(
            drawn.values,
            presentation={"stimulus_id": range(len(drawn.plain))},
            neuroid={"neuroid_id": range(drawn.plain.shape[1])},
        )
        images = evaluate.generate(latents, lambda z: z.repeat(1, 4)[:, :4], image_shape=(2, 2))
    assert np.isfinite(images.values).all()
    assert images.shape == (len(drawn.plain), 2, 2)


def _spectrogram(drawn: Any) -> None:
    with attempt():
        spectrogram = features.log_mel_spectrogram(drawn.values, 8000)
    assert spectrogram.shape[1] == 40
    assert np.isfinite(spectrogram).all()


def _sound_features(drawn: Any) -> None:
    with attempt():
        values = real_array(drawn.values)
    if values.shape != drawn.plain.shape:
        return
    coords = {
        "stimulus_id": ("presentation", [f"s{k}" for k in range(len(values))]),
        "n_samples": ("presentation", np.full(len(values), values.shape[1])),
    }
    sounds = xr.DataArray(values, dims=("presentation", "sample"), coords=coords, attrs={"sampling_rate_hz": 8000})
    with attempt():
        made = features.log_mel(sounds, n_parts=2)
    assert made.shape == (len(drawn.plain), 80)
    assert np.isfinite(made.values).all()


def _filters(settings: tuple[Any, Any, Any]) -> None:
    rate, n_fft, n_mels = settings
    with attempt():
        filters = features.mel_filters(rate, n_fft, n_mels=n_mels)
    assert filters.shape == (n_mels, n_fft // 2 + 1)
    assert (filters >= 0).all()
    assert filters.any(axis=1).all()


def _compared(images: xr.DataArray) -> None:
    """Real images stand for generated ones and for reconstructions: nothing is between them."""
    named = {"classes": ["a", "b"], "n_permutations": 3}
    summed = {name: (lambda x: x.reshape(len(x), -1)[:, :2].float()) for name in ("classifier", "features")}
    with attempt():
        score = evaluate.generation_fidelity(
            images, "category_name", real=images, reconstructions=images, **summed, **named
        )
    assert not any(
        np.isinf(variable.values).any() for variable in score.data_vars.values() if variable.dtype.kind == "f"
    )


def _weights(contents: bytes) -> None:
    model = torch.nn.Linear(3, 2)
    before = features.weights_digest(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        path.write_bytes(contents)
        try:
            with attempt():
                features.load_weights(model, path)
        except BaseException:
            assert features.weights_digest(model) == before, "a refused file changed the model"
            raise
    assert all(torch.isfinite(weight).all() for weight in model.parameters()) or contents != WHOLE


def _whole_weights() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(torch.nn.Linear(3, 2).state_dict(), path)
        return path.read_bytes()


WHOLE = _whole_weights()
LATENTS = arrays(st.tuples(st.integers(0, 4), st.integers(0, 3)))
SETTINGS_OF_FILTERS = st.sampled_from([8000, 256, 512, 40, 20, 1, 0, -1, 2.5, np.nan, np.inf, "8000", None, True])
#: What is drawn, and what is checked of it.
ENTRANCES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "features.read_captions": (tables(), _read),
    "features.captions_from_templates": (WORDINGS, _templates),
    "features.embed_text": (tables(), _embedded),
    "features.embed_text tokens": (tables(), lambda table: _embedded(table, pooling="mean", batch_size=1)),
    "features.extract": (stacks(), _extracted),
    "features.fit_pca": (stacks(), _components),
    "features.train_reference": (stacks(), _trained),
    "features.load_weights": (damage(WHOLE), _weights),
    "figures.contact_sheet": (stacks(), _drawn_sheet),
    "features.log_mel_spectrogram": (arrays(st.tuples(st.integers(0, 400))), _spectrogram),
    "features.log_mel": (arrays(st.tuples(st.integers(1, 3), st.integers(1, 400))), _sound_features),
    "features.mel_filters": (st.tuples(SETTINGS_OF_FILTERS, SETTINGS_OF_FILTERS, SETTINGS_OF_FILTERS), _filters),
    "evaluate.generate": (LATENTS, _generated),
    "evaluate.generation_fidelity": (stacks(), _compared),
}


@pytest.mark.parametrize("entrance", list(ENTRANCES))
def test_refused_or_whole(campaign: Campaign, entrance: str) -> None:
    campaign.run(entrance, *ENTRANCES[entrance])
