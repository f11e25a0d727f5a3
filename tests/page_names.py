"""Names that the code blocks of a page take for given, made small: what a reader has when they come to the page."""

from __future__ import annotations

from typing import Any

import numpy as np

import neurobridge as nb

Names = dict[str, Any]


def assembly(values: np.ndarray, prefix: str = "u", *, first: int = 0, **labels: Any) -> Any:
    ids = [f"image-{k:03d}" for k in range(first, first + len(values))]
    neuroid = {"neuroid_id": [f"{prefix}{k}" for k in range(values.shape[1])]}
    return nb.make_assembly(values, presentation={"stimulus_id": ids, **labels}, neuroid=neuroid)


def two_spaces(n: int = 120, seed: int = 0) -> tuple[Any, Any]:
    """A model of 12 units and recordings of 6 sites of the same simulated stimuli, four objects and two categories."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n, 4))
    objects = np.array(["ant", "bee", "cup", "pot"])[(latents[:, 0] > 0) * 2 + (latents[:, 1] > 0)]
    labels = {"object_name": objects, "category_name": np.where(latents[:, 0] > 0, "tool", "animal")}
    model = latents @ rng.normal(size=(4, 12)) + 0.3 * rng.normal(size=(n, 12))
    sites = latents @ rng.normal(size=(4, 6)) + 0.5 * rng.normal(size=(n, 6))
    return assembly(model, "u", **labels), assembly(sites, "s", **labels)


def trials_of(recordings: Any, n_repetitions: int = 4, seed: int = 0) -> Any:
    """Single trials of the same stimuli, with noise."""
    rng = np.random.default_rng(seed)
    n = len(recordings)
    labels = {
        name: np.tile(recordings[name].values, n_repetitions)
        for name in ("stimulus_id", "object_name", "category_name")
    }
    values = np.tile(recordings.values, (n_repetitions, 1))
    return nb.make_assembly(
        values + rng.normal(size=values.shape),
        presentation={**labels, "repetition": np.repeat(range(n_repetitions), n)},
        neuroid={"neuroid_id": recordings["neuroid_id"].values},
    )


def in_time(trials: Any, n_bins: int = 4) -> Any:
    """The same trials with a signal in the later half of the time bins."""
    rng = np.random.default_rng(1)
    gain = np.arange(n_bins) >= n_bins // 2
    values = trials.values[:, :, None] * gain + rng.normal(size=(*trials.shape, n_bins))
    return nb.make_assembly(
        values,
        presentation={
            name: trials[name].values for name in ("stimulus_id", "object_name", "category_name", "repetition")
        },
        neuroid={"neuroid_id": trials["neuroid_id"].values},
        time_bin={"time_bin_start": 20 * np.arange(n_bins), "time_bin_end": 20 * np.arange(1, n_bins + 1)},
    )


def aligner_page(block: int, names: Names) -> None:
    if block == 0:
        model, recordings = two_spaces()
        names.update(nb=nb, np=np, model=model[:80], recordings=recordings[:80])
        names.update(new_model=model[80:], new_recordings=recordings[80:])
        names.update(test_model=model[80:], test_recordings=recordings[80:])
    elif block == 1:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(60, 12))
        names.update(X=X, Y=X @ rng.normal(size=(12, 11)) + rng.normal(size=(60, 11)), X_new=X[:5])
    elif block == 2:
        import sklearn

        names.update(sklearn=sklearn, mask=np.arange(60) % 2 == 0)
    elif block == 3:
        names.update(classifier=lambda points: np.where(points[:, 0] > 0, "tool", "animal"))
    elif block == 4:
        layers = {"neuroid_id": range(12), "layer": ["early"] * 4 + ["late"] * 8}
        ids = {"stimulus_id": names["model"]["stimulus_id"].values}
        names.update(several_layers=nb.make_assembly(names["model"].values, presentation=ids, neuroid=layers))
    elif block == 5:
        rng = np.random.default_rng(2)
        latents = rng.normal(size=(90, 3))
        A, B, C = (assembly(latents @ rng.normal(size=(3, 7)) + 0.3 * rng.normal(size=(90, 7)), name) for name in "abc")
        names.update(A=A, B=B, C=C)
    elif block == 6:
        names.update(ceiling=None)
    elif block == 7:
        import torch

        from neurobridge.evaluate import generate, generation_fidelity

        torch.manual_seed(0)
        captions, latents = two_spaces(80)
        decoder = torch.nn.Linear(6, 784)
        real = generate(latents, decoder, image_shape=(28, 28))
        names.update(generate=generate, generation_fidelity=generation_fidelity, decoder=decoder, captions=captions)
        names.update(
            aligner=nb.aligners.RidgeAligner().fit(captions, latents), latents_of_others=latents, real_images=real
        )
        names.update(hidden=lambda x: x.flatten(1)[:, :5], classes=["animal", "tool"])
        names.update(classifier=lambda x: x.flatten(1)[:, :2])


def decoding_page(block: int, names: Names) -> None:
    model, recordings = two_spaces()
    if block == 0:
        names.update(recordings=recordings[:80], model_space=model[:80], recordings_held_out=recordings[80:])
        names.update(aligner=nb.aligners.RidgeAligner().fit(recordings[:80], model[:80]))
    elif block == 1:
        names.update(trials=trials_of(recordings[:40]), model=model[:40])
    elif block == 2:
        names.update(trials=in_time(trials_of(recordings[:24], 3)))
    elif block == 3:
        many = assembly(np.tile(recordings.values[:40], 25), "s", object_name=recordings["object_name"].values[:40],
                        category_name=recordings["category_name"].values[:40])  # fmt: skip
        trials = trials_of(many)
        names.update(
            session_1=trials.isel(neuroid=range(75)), session_2=trials.isel(neuroid=range(75, 150)), recordings=trials
        )
    elif block == 4:
        rng = np.random.default_rng(0)
        ids, truth = recordings["stimulus_id"].values, recordings["object_name"].values
        image = np.repeat(ids, 6)
        wrong = rng.random(len(image)) < 0.3
        answer = np.where(wrong, rng.permutation(np.repeat(truth, 6)), np.repeat(truth, 6))
        names.update(recordings=recordings, image=image, truth=np.repeat(truth, 6), answer=answer)
    elif block == 6:
        names.update(model=model, recordings=recordings)


def arrays_page(block: int, names: Names) -> None:
    """The plain arrays of the pages on the method, diagnostics and flow."""
    if block > 0:
        return
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(120, 6)) * np.linspace(3, 1, 6)
    Y = 2 * X @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 0.1 * rng.normal(size=(120, 6))
    pairs = (np.arange(30), np.arange(30))
    names.update(np=np, X=X, Y=Y, pairs=pairs, X_new=X[:4], Y_new=Y[:4])
    names["coupling"] = nb.bridge.couple(nb.bridge.bridge_cost(X, Y, pairs), epsilon=0.2)


def evaluation_page(block: int, names: Names) -> None:
    if block > 0:
        names.update(predictivity=nb.predictivity)
        return
    model, recordings = two_spaces(160)
    variation = np.tile([0, 3, 6, 6], 40)
    model = model.assign_coords(variation=("presentation", variation))
    names.update(activations=model, responses=recordings, recordings=trials_of(recordings))


#: Page -> what makes the names of its blocks; None where the page makes its own.
GIVEN: dict[str, Any] = {
    "docs/index.md": None,
    "docs/start.md": None,
    "docs/figures.md": None,
    "docs/scale.md": None,
    "CONTRIBUTING.md": None,
    "docs/aligner.md": aligner_page,
    "docs/decoding.md": decoding_page,
    "docs/diagnostics.md": arrays_page,
    "docs/flow.md": arrays_page,
    "docs/method.md": arrays_page,
    "docs/evaluation.md": evaluation_page,
}
