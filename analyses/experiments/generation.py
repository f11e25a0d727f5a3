"""Text to image on real MNIST: captions to digits through the frozen decoder of a VAE, from few captioned images.

Frozen and unsupervised: MiniLM (captions), a contrastive encoder and a VAE of the 60,000 training images. Distances among images
are those of the contrastive encoder; each image's VAE latents come along, as both are computed from the same image. Of the
captioned images, 10 to 600 (1 %) are known; the coupling joins the captions of a pool with the other images of the pool, whose
captions are not used. Distances among captions are those of their ridge images (fitted on the pairs). Transport may leave out
images that lie between classes (unbalanced on their side). New captions, in wordings that nothing was fitted on, become latents by
the mean partner (barycentric), by the partner drawn from the plan of the nearest fitted caption (its latents decoded: generation by
retrieval), by a flow from noise under the mean place of that caption's partners, and by a flow from the mean partner. Beside them a
flow from noise under the class, trained end to end on the same latents with the labels of all 60,000 images. A classifier trained
on the training images judges; it has seen neither decoded images nor test digits. Spread: variance of the judge's features within a
wanted class, in units of that of real digits; 0 where all images of a class are one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neurobridge import figures
from neurobridge.assemblies import make_assembly
from neurobridge.bridge import Coupling, bridge_cost, couple, ridge_map
from neurobridge.datasets import load
from neurobridge.evaluate import generate, generation_fidelity
from neurobridge.features import captions_from_templates, embed_text, extract
from neurobridge.features.references.training import Reference, train_reference
from neurobridge.flow import ConditionalFlow, Training
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.panels import count_ticks, make_panels, save_panels
from neurobridge.study.tables import format_mean, mean_ci, over_seeds, select_records

from .parts.common import cosines
from .parts.digits import NAMES
from .parts.digits import WORDINGS as PLAIN_WORDINGS

N_PAIRS = (10, 20, 100, 600)
WORDINGS = (
    *PLAIN_WORDINGS, "a drawing of the digit {label}", "here we see {a}", "the number {label}, written by hand",
    "what is shown is {a}",
)  # fmt: skip
NEW_WORDINGS = (
    "somebody drew {a}", "handwriting of the digit {label}", "the symbol {label} on a dark ground", "a number: {label}",
)  # fmt: skip
# Settings were looked at on the first 5,000 training digits and four other wordings; the pools of the runs lie beyond them.
LATENTS, BETA = 24, 0.5
DEVELOPMENT, EPSILON, UNBALANCED = 10_000, 0.02, 0.1
LABELS = {
    "barycentric": "mean partner",
    "plan": "drawn from the plan",
    "plan-balanced": "drawn from the balanced plan",
    "flow": "flow from noise",
    "flow-barycentric": "flow from mean partner",
    "all labels": "flow under the class, all labels, end to end",
}
DIGITS = list(NAMES)


class Size(NamedTuple):
    """Images of the models' training, of a pool, epochs of VAE and contrastive encoder, flow steps, images made."""

    train: int
    pool: int
    vae_epochs: int
    contrastive_epochs: int
    n_steps: int
    n_made: int


class Models(NamedTuple):
    """Frozen models, the text of either kind of wording, images and what the models say of the training part."""

    judge: Reference
    vae: Reference
    captions: xr.DataArray
    new_captions: xr.DataArray
    test: xr.DataArray
    labels: np.ndarray
    latents: np.ndarray
    embeddings: np.ndarray


def size(run: Run) -> Size:
    return Size(3000, 600, 5, 1, 150, 400) if run.quick else Size(60_000, 6000, 6, 4, 2500, 2000)


def parts(run: Run) -> list[Any]:
    """Training and test part of MNIST, once a process."""
    return run.once("mnist", lambda: [load("mnist", part=part, mirror=run.mirror) for part in ("train", "test")])


def frozen_models(run: Run) -> Models:
    """Train and read everything once a process."""

    def make() -> Models:
        n = size(run)
        train, test = parts(run)
        images = train.images[: n.train]
        judge = train_reference("conv_net", images, seed=0)
        vae = train_reference(
            "conv_vae",
            images,
            seed=0,
            epochs=n.vae_epochs,
            batch_size=64 if run.quick else None,
            n_latents=LATENTS,
            beta=BETA,
        )
        contrastive = train_reference("conv_contrastive", images, seed=0, epochs=n.contrastive_epochs)

        def read_layer(model: Reference, layer: str) -> np.ndarray:
            return extract(model.model, images, layer, preprocess=model.preprocess, batch_size=512).values.astype(float)

        embeddings = read_layer(contrastive, "encoder.latents")
        text = [
            embed_text(captions_from_templates(DIGITS, wordings, names=NAMES, n_captions=2 * len(wordings)))
            for wordings in (WORDINGS, NEW_WORDINGS)
        ]
        return Models(
            judge, vae, text[0], text[1], test.images, images["category_name"].values.astype(str), read_layer(vae, "encoder.mean"),
            (embeddings - embeddings.mean(axis=0)) / embeddings.std(axis=0),
        )  # fmt: skip

    return run.once("models", make)


def cells(run: Run) -> list[dict[str, Any]]:
    counts = (20, 100) if run.quick else N_PAIRS
    all_label_cells = [{"kind": "all labels", "seed": seed, "n_pairs": size(run).train} for seed in run.seeds]
    return [*all_label_cells, *({"kind": "pairs", "seed": seed, "n_pairs": n} for seed in run.seeds for n in counts)]


def draw_pool(run: Run, cell: dict[str, Any], frozen: Models) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pool of images, the known ones among them (as many of each digit), and the caption of every image of the pool."""
    rng = np.random.default_rng([cell["seed"], 5])
    first = 0 if run.quick else DEVELOPMENT
    pool = first + rng.permutation(len(frozen.labels) - first)[: size(run).pool]
    pool_digits, caption_digits = frozen.labels[pool], frozen.captions["category_name"].values
    known_rows = np.concatenate([np.flatnonzero(pool_digits == digit)[: cell["n_pairs"] // 10] for digit in DIGITS])
    rows_of = {digit: np.flatnonzero(caption_digits == digit) for digit in DIGITS}
    return pool, known_rows, np.array([rng.choice(rows_of[digit]) for digit in pool_digits])


def couple_pool(
    frozen: Models, pool: np.ndarray, known_rows: np.ndarray, caption_rows: np.ndarray
) -> tuple[Any, np.ndarray, Any]:
    """Map of captions to where distances are taken, those of the pool's captions, and plans to the pool's images by balance."""
    text = frozen.captions.values.astype(float)
    used_captions, row = np.unique(caption_rows, return_inverse=True)
    embeddings = frozen.embeddings[pool]
    to_images = ridge_map(text[caption_rows[known_rows]], embeddings[known_rows])
    X = to_images(text[used_captions])
    cost = bridge_cost(X, embeddings, (row[known_rows], known_rows), metric=("cosine", "geodesic"))
    mass, uniform = np.bincount(row) / len(row), np.full(len(pool), 1 / len(pool))
    rhos = (UNBALANCED, None)
    plans = {rho: couple(cost, epsilon=EPSILON, unbalanced=rho, a=mass, b=uniform, tol=1e-4) for rho in rhos}
    return to_images, X, plans


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    frozen, n, seed = frozen_models(run), size(run), cell["seed"]
    rng = np.random.default_rng([seed, 6])
    repeats = n.n_made // len(frozen.new_captions)
    asked_rows = np.repeat(np.arange(len(frozen.new_captions)), repeats)
    wanted = frozen.new_captions["category_name"].values.astype(str)[asked_rows]
    options: dict[str, Any] = {"training": Training(n_steps=n.n_steps), "seed": seed}
    purity: dict[str, float] = {}
    if cell["kind"] == "all labels":
        codes = frozen.labels.astype(int)
        # Every image with its class; source rows are the ten classes.
        class_coupling = Coupling.of_pairs((codes, np.arange(len(codes))), (10, len(codes)))
        flow = ConditionalFlow(base="noise", **options).fit(np.eye(10), frozen.latents, class_coupling)
        latents_by_method = {"all labels": flow.transport(np.eye(10)[wanted.astype(int)])}
    else:
        pool, known_rows, caption_rows = draw_pool(run, cell, frozen)
        to_images, X, plans = couple_pool(frozen, pool, known_rows, caption_rows)
        plan, balanced = plans[UNBALANCED], plans[None]
        Z = frozen.latents[pool]
        asked_points = to_images(frozen.new_captions.values.astype(float))
        caption_digits = frozen.captions["category_name"].values[np.unique(caption_rows)]
        for rho, name in ((UNBALANCED, "plan"), (None, "plan-balanced")):
            i, j = plans[rho].sample(20_000, rng)
            purity[name] = float((caption_digits[i] == frozen.labels[pool][j]).mean())
        mean_partner: Callable[[np.ndarray], np.ndarray] = lambda points: np.asarray(plan.map(points, Z))  # noqa: E731
        # Where a caption's partners lie on average says the digit more plainly than the caption's own place.
        partner_means = np.asarray(plan.map(X, frozen.embeddings[pool]))
        nearest = nearest_caption(X, asked_points)
        from_noise = ConditionalFlow(base="noise", **options).fit(partner_means, Z, plan)
        from_mean = ConditionalFlow(base=mean_partner, seed=seed).fit(X, Z, plan)
        latents_by_method = {
            "barycentric": mean_partner(asked_points)[asked_rows],
            "plan": Z[draw_partners(plan, nearest[asked_rows], rng)],
            "plan-balanced": Z[draw_partners(balanced, nearest[asked_rows], rng)],
            "flow": from_noise.transport(partner_means[nearest[asked_rows]]),
            "flow-barycentric": from_mean.transport(asked_points)[asked_rows],
        }
    records = []
    for name, latents in latents_by_method.items():
        images = decode(frozen, latents, wanted)
        scores = score_images(frozen, images, seed)
        records.append({**cell, "method": name, **({"purity": purity[name]} if name in purity else {}), **scores})
        if seed == run.seed:
            np.save(sheet_file(run, name, cell["n_pairs"]), np.uint8(255 * images.values[:: max(1, repeats // 5)]))
    return records


def nearest_caption(X: np.ndarray, new: np.ndarray) -> np.ndarray:
    """For each new caption the fitted one nearest to it, by cosine."""
    return cosines(new, X).argmax(axis=1)


def draw_partners(plan: Coupling, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a partner of each caption from the plan's conditional."""
    used_rows, inverse = np.unique(rows, return_inverse=True)
    share = plan.conditional(used_rows)
    return np.array([rng.choice(share.shape[1], p=share[k]) for k in inverse])


def decode(frozen: Models, latents: np.ndarray, wanted: np.ndarray) -> xr.DataArray:
    assembly = make_assembly(
        np.asarray(latents, dtype=np.float32),
        presentation={"stimulus_id": [f"made-{k}" for k in range(len(latents))], "category_name": wanted},
        neuroid={"neuroid_id": [f"latent-{k}" for k in range(latents.shape[1])]},
    )
    return generate(assembly, frozen.vae.model.decoder)  # type: ignore[arg-type]


def score_images(frozen: Models, images: xr.DataArray, seed: int) -> dict[str, Any]:
    """Agreement, Frechet distance and spread, beside reconstructions and real digits, as many of each."""
    n, net = images.sizes["presentation"], frozen.judge.model
    real, other_images = frozen.test[:n], frozen.test[n : 2 * n]
    codes = extract(frozen.vae.model, other_images, "encoder.mean", preprocess=frozen.vae.preprocess, batch_size=512)
    rebuilt = decode(frozen, codes.values, other_images["category_name"].values.astype(str))

    def features(pixels: torch.Tensor) -> torch.Tensor:
        return net.features(net.conv2(net.conv1(pixels)))  # type: ignore[operator]

    score = generation_fidelity(
        images, "category_name", classifier=net, classes=DIGITS, features=features, real=real, reconstructions=rebuilt,
        n_permutations=200, seed=seed,
    )  # fmt: skip
    agreement, frechet = (score[key].values.tolist() for key in ("agreement", "frechet"))
    spreads = [within_class_variance(features, item) for item in (images, rebuilt, real)]
    return {
        "agreement": agreement[0], "agreement_reconstructed": agreement[1], "agreement_real": agreement[2],
        "frechet": frechet[0], "frechet_reconstructed": frechet[1], "frechet_real": frechet[2],
        "spread": spreads[0] / spreads[2], "spread_reconstructed": spreads[1] / spreads[2],
        "null_95": float(np.quantile(score["null"].values, 0.95)), "chance": float(score["null"].mean()), "n_images": n,
    }  # fmt: skip


def within_class_variance(features: Callable[[torch.Tensor], torch.Tensor], images: xr.DataArray) -> float:
    """Mean over classes of the total variance of the features within a class."""
    pixels = images.values.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
    with torch.no_grad():
        values = features(torch.from_numpy(pixels[:, None])).numpy()
    labels = images["category_name"].values
    return float(np.mean([values[labels == digit].var(axis=0).sum() for digit in np.unique(labels)]))


def sheet_file(run: Run, method: str, n_pairs: int) -> Path:
    return run.out / f"sheet-{method.replace(' ', '-')}-{n_pairs}.npy"


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    seeds = over_seeds(run.seeds)
    pairs = select_records(records, kind="pairs")
    all_labels = select_records(records, kind="all labels")
    counts = sorted({r["n_pairs"] for r in pairs})
    methods = [name for name in LABELS if name != "all labels"]
    n_images = records[0]["n_images"]
    tables = []
    for key, description, chance in (
        (
            "agreement",
            "Share of images that the judge names as the caption does",
            format_mean([r["null_95"] for r in pairs]),
        ),
        ("frechet", "Frechet distance of the judge's features to real test digits (smaller is better)", "n/a"),
        ("spread", "Variance within a class, in units of that of real digits", "0"),
    ):
        rows = [
            [
                LABELS[name],
                *(format_mean([r[key] for r in select_records(pairs, method=name, n_pairs=n)]) for n in counts),
            ]
            for name in methods
        ]
        extra = {
            LABELS["all labels"]: format_mean([r[key] for r in all_labels]),
            "VAE reconstructions of test digits (ceiling)": format_mean(
                [r[f"{key}_reconstructed"] for r in records[:1]]
            ),
        }
        extra["real test digits"] = "1" if key == "spread" else format_mean([r[f"{key}_real"] for r in records[:1]])
        extra["chance (95th percentile, shuffled)" if key == "agreement" else "chance"] = chance
        rows += [[name, *[value] * len(counts)] for name, value in extra.items()]
        tables.append({
            "title": f"{description}, by known pairs; n = {n_images} images a method and seed; {seeds}",
            "columns": ["method", *map(str, counts)], "rows": rows,
        })  # fmt: skip
    tables.append({
        "title": f"Share of the plan's mass between captions and images of one digit (chance .1); {seeds}",
        "columns": ["", *map(str, counts)],
        "rows": [
            [LABELS[name], *(format_mean([r["purity"] for r in select_records(pairs, method=name, n_pairs=n)]) for n in counts)]
            for name in ("plan", "plan-balanced")
        ],
    })  # fmt: skip
    most_pairs = counts[-1]
    means = {name: {key: mean_ci([r[key] for r in select_records(pairs, method=name, n_pairs=most_pairs)])[0] for key in
                 ("agreement", "frechet", "spread")} for name in methods}  # fmt: skip
    end_to_end = {key: mean_ci([r[key] for r in all_labels])[0] for key in ("agreement", "frechet", "spread")}
    rebuilt = {key: records[0][f"{key}_reconstructed"] for key in ("agreement", "frechet", "spread")}
    # A method counts as more than class means if it keeps a quarter of the real spread.
    varied_methods = [name for name in methods if means[name]["spread"] >= 0.25]
    accurate_methods = [name for name in methods if means[name]["agreement"] >= 0.95]
    met_by = [name for name in accurate_methods if name in varied_methods]
    means_text = "; ".join(
        f"{LABELS[name]}: agreement {v['agreement']:.3f}, Frechet {v['frechet']:.1f}, spread {v['spread']:.2f}"
        for name, v in means.items()
    )
    reference_text = (
        f"flow under the class with all labels: {end_to_end['agreement']:.3f}, {end_to_end['frechet']:.1f}, {end_to_end['spread']:.2f}; "
        f"reconstructions: {rebuilt['agreement']:.3f}, {rebuilt['frechet']:.1f}, {rebuilt['spread']:.2f}"
    )
    claims = [{
        "claim": f"Captions become the digits they name: agreement of at least .95 with {most_pairs} pairs",
        "verdict": "holds" if met_by else "holds in part" if accurate_methods else "does not hold here",
        "evidence": f"rule: holds if a method with at least a quarter of the real spread reaches .95, in part if another does; "
        f"{means_text}; {reference_text}",
    }]  # fmt: skip
    near_methods = [
        name for name in methods if means[name]["frechet"] <= 1.25 * end_to_end["frechet"] and name in varied_methods
    ]
    claims.append({
        "claim": f"With {most_pairs} pairs the images are as good as those of a class-conditional flow trained end to end on all labels",
        "verdict": "holds" if any(means[name]["agreement"] >= end_to_end["agreement"] - 0.01 for name in near_methods) else "holds in part" if near_methods
        else "does not hold here",
        "evidence": "rule: Frechet distance within a quarter of that flow's (in part), and agreement within .01 of it (holds); "
        f"{means_text}; {reference_text}",
    })  # fmt: skip
    digests = {name: digest for part in parts(run) for name, digest in part.attrs["digests"].items()}
    _main_figure(run, records, counts, methods)
    _sheet(run, most_pairs, [*methods, "all labels"])
    note = (
        f"Real MNIST. Judge, VAE ({LATENTS} latents, beta {BETA}) and contrastive encoder: trained on {size(run).train:,} training "
        f"images, the last two without labels, seed 0; pools of {size(run).pool:,} training images. Captions: {len(WORDINGS)} "
        f"wordings, digits as figures or words; asked in {len(NEW_WORDINGS)} other wordings. Known pairs: as many of each digit. "
        f"Frechet distances of {n_images} images. 'Drawn from the plan' decodes latents of a pool image. The end-to-end flow is "
        "trained on VAE latents, not on pixels. Settings were looked at on digits that no pool holds and in other wordings. An "
        "image of another digit than was asked for adds to the spread. Reconstructions bound varied images, not class means."
    )
    answer = (
        f"With {most_pairs} captions the judge names as asked {means['plan']['agreement']:.1%} of the images whose latents were drawn "
        f"from the plan (decoded pool images: retrieval), {means['flow']['agreement']:.1%} of those a flow makes from noise, and "
        f"{means['barycentric']['agreement']:.1%} of mean partners, at {means['plan']['spread']:.2f}, {means['flow']['spread']:.2f} and "
        f"{means['barycentric']['spread']:.2f} of the real spread; reconstructions reach {rebuilt['agreement']:.1%}, a flow with "
        f"all labels {end_to_end['agreement']:.1%}. Frechet distances: {means['plan']['frechet']:.1f}, {means['flow']['frechet']:.1f}, "
        f"{means['barycentric']['frechet']:.1f}; {rebuilt['frechet']:.1f} and {end_to_end['frechet']:.1f}."
    )
    return {
        "note": note, "tables": tables, "claims": claims, "answer": answer, "digests": digests,
        "figures": [
            {"file": "generation.png", "caption": f"Real MNIST: agreement, Frechet distance and spread by known pairs; {seeds}."},
            {"file": "contact_sheet.png", "caption": f"Digits made from new captions with {most_pairs} pairs, seed {run.seed}."},
        ],
    }  # fmt: skip


#: Line of a way to make an image -> the method whose style it has.
STYLE_OF = {
    "barycentric": "fused",
    "plan": "ridge",
    "plan-balanced": "pairs-flow",
    "flow": "fused-flow",
    "flow-barycentric": "procrustes",
}


def _main_figure(run: Run, records: list[Record], counts: list[int], methods: list[str]) -> None:
    figure, axes = make_panels(3, 5.2, 4.2)
    pairs, all_labels = select_records(records, kind="pairs"), select_records(records, kind="all labels")
    labels = {"agreement": "agreement of the judge", "frechet": "Frechet distance (squared feature units)",
              "spread": "variance within a class (real = 1)"}  # fmt: skip
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        for name in methods:
            results = [mean_ci([r[key] for r in select_records(pairs, method=name, n_pairs=n)]) for n in counts]
            ax.errorbar(counts, [m for m, _ in results], yerr=[np.nan_to_num(h) for _, h in results], capsize=2, markersize=5,
                        label=LABELS[name], **figures.STYLES[STYLE_OF[name]])  # fmt: skip
        lines = {
            "flow, all labels": (mean_ci([r[key] for r in all_labels])[0], "-"),
            "reconstructions (ceiling)": (records[0][f"{key}_reconstructed"], ":"),
        }
        if key == "agreement":
            lines |= {"chance (95th pct.)": (float(np.mean([r["null_95"] for r in pairs])), "--")}
        for k, (name, (value, dashes)) in enumerate(lines.items()):
            ax.axhline(
                value, color=("black", "black", "0.5")[k], linestyle=dashes, linewidth=1, label=f"{name} {value:.2f}"
            )
        ax.set(xscale="log", xlabel="captioned images known (count, log scale)", ylabel=label)
        ax.set_yscale("log" if key == "frechet" else "linear")
        ax.set_ylim({"agreement": (0, 1.05), "frechet": (4, 2000), "spread": (0, 3.2)}[key])
        count_ticks(ax, counts)
        ax.legend(fontsize="x-small", framealpha=0.9, edgecolor="none")
    caption = f"Real MNIST; {records[0]['n_images']} images a method and seed, new wordings; {run.n_seeds} seed(s), bars 95 % CI"
    save_panels(figure, run, "generation", caption)


def _sheet(run: Run, most_pairs: int, methods: list[str]) -> None:
    figure, axes = make_panels(len(methods), 3.1, 6.4)
    for ax, name in zip(axes, methods, strict=True):
        images = np.load(
            sheet_file(run, name, size(run).train if name == "all labels" else most_pairs), allow_pickle=False
        )
        # In the order of the captions, which is that of the digits.
        shown = images.reshape(10, -1, *images.shape[1:])[:, :: len(images) // 50].reshape(-1, *images.shape[1:])
        figures.contact_sheet(
            xr.DataArray(shown, dims=("presentation", "row", "column")), ax=ax, n_columns=5,
            title=LABELS[name].replace(", all labels", ",\nall labels"),
        )  # fmt: skip
    caption = f"Real MNIST; a row a digit, 0 to 9, five images each; {most_pairs} known pairs (right: all labels); seed {run.seed}"
    save_panels(figure, run, "contact_sheet", caption)


STUDY = Study(
    "generation",
    "Text to image: captions to digits through a frozen decoder, real MNIST",
    cells,
    compute,
    finish,
    n_seeds=3,
    extras=("text",),
)

if __name__ == "__main__":
    main(STUDY)
