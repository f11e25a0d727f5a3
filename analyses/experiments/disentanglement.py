"""Does a more disentangled code align better? Beta-VAEs on simulated scenes and real MNIST.

Convolutional VAEs with 10 latents and beta from 0.25 to 16 (Higgins et al. 2017) are trained
without labels. Disentanglement is measured on other images by DCI (Eastwood & Williams 2018:
entropy of random-forest importances) and by the mutual information gap (Chen et al. 2018); both
are first tried on a code of known factors. Alignment is the held-out R^2 of a map to a second
space, fitted with 20 or 100 known pairs: from scenes to simulated sites with mixed tuning to the
factors, and from digits to the features of a classifier. The factors of scenes are those they were
rendered from (object, position, size, rotation). The factors of digits are the class, and slant,
stroke thickness, width and height measured from the pixels. The control is a random rotation of
the same latents, which keeps their information and mixes the factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import linalg

from neurobridge.assemblies import Pairs, make_assembly
from neurobridge.bridge import kernel_map
from neurobridge.evaluate.curves.folds import CurveFold, draw_curve_fold
from neurobridge.features import extract, train_reference
from neurobridge.flow import Standardiser
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.methods import make_aligner
from neurobridge.study.tables import format_mean, format_p, mean_ci, over_seeds, select_records, verdict

from .parts.disentanglement.design import DATA, MAPS, N_LATENTS, N_PAIRS, betas, turns
from .parts.disentanglement.factors import (
    N_SITES,
    OBJECTS,
    FactorData,
    dci,
    factor_data,
    mig,
    partial_rank_correlation,
    rises_text,
    rotate_codes,
    sizes,
)  # fmt: skip
from .parts.disentanglement.figures import draw_disentanglement, draw_known_truth

# A latent is active by the rule of Burda et al. 2016.
ACTIVE = 0.01


def cells(run: Run) -> list[dict[str, Any]]:
    grid = [{"data": d, "beta": b, "seed": s} for d in DATA for s in run.seeds for b in betas(run)]
    return [{"data": "known truth", "beta": 0.0, "seed": s} for s in run.seeds] + grid


def disentanglement_scores(
    codes: np.ndarray, factors: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, float]:
    """Return all measures of codes, of rotated codes, and by permuted factors (chance)."""
    order = rng.permutation(len(codes))
    permuted_factors = {name: values[order] for name, values in factors.items()}
    rotated = rotate_codes(codes, rng)
    return {
        **dci(codes, factors), "mig": mig(codes, factors),
        "dci_rotated": dci(rotated, factors)["dci"], "mig_rotated": mig(rotated, factors),
        "dci_null": dci(codes, permuted_factors)["dci"], "mig_null": mig(codes, permuted_factors),
    }  # fmt: skip


def known_truth(run: Run, cell: dict[str, Any]) -> list[Record]:
    """Score the factors themselves as a code, rotated further and further.

    The code has a little noise and two idle latents.
    """
    spaces, rng = factor_data(run, "scenes"), np.random.default_rng([cell["seed"], 7])
    n, factors = len(spaces.measured), spaces.factors
    idle = rng.standard_normal((n, 2))
    codes = np.concatenate(
        [factors["object"][:, None] == np.array(OBJECTS), np.stack(list(factors.values())[1:], 1), idle], 1
    )
    codes = (codes - codes.mean(axis=0)) / codes.std(axis=0) + 0.1 * rng.standard_normal(codes.shape)
    skew = rng.standard_normal((N_LATENTS, N_LATENTS))
    records: list[Record] = []
    for turn in turns(run):
        mixed = codes @ linalg.expm(turn * (skew - skew.T))
        source = make_assembly(
            mixed[: sizes(run).align],
            presentation={"stimulus_id": spaces.target["stimulus_id"].values},
            neuroid={"neuroid_id": [f"code-{k}" for k in range(N_LATENTS)]},
        )
        fold = draw_curve_fold(source, spaces.target, N_PAIRS[-1], seed=cell["seed"])
        record = {**cell, "turn": turn, "kind": "truth", "dci": dci(mixed, factors)["dci"], "mig": mig(mixed, factors)}
        for name in MAPS:
            record[name] = alignment_scores(fold, name, fold.pairs, cell["seed"], None, np.empty(0))["r2"]
        records.append(record)
    return records


def alignment_scores(
    fold: CurveFold, name: str, pairs: Pairs, seed: int, head: Any, labels: np.ndarray
) -> dict[str, Any]:
    """Return held-out R^2 in standard deviations, and accuracy of the frozen head if any."""
    aligner = make_aligner(name, seed).fit(fold.source_train, fold.target_train, pairs)
    r2 = aligner.score(fold.source_test, fold.target_test)
    return {"r2": r2, "accuracy": _accuracy(aligner.transform(fold.source_test).values, head, labels)}


def _accuracy(features: np.ndarray, head: Any, labels: np.ndarray) -> float | None:
    """Return the accuracy of a linear head; None without one."""
    return (
        None if head is None else float(((features @ head[0].T + head[1]).argmax(axis=1).astype(str) == labels).mean())
    )


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    if cell["data"] == "known truth":
        return known_truth(run, cell)
    spaces, size, seed = factor_data(run, cell["data"]), sizes(run), cell["seed"]
    vae = train_reference(
        "conv_vae", spaces.train, seed=seed, epochs=size.epochs, batch_size=64, beta=cell["beta"], n_latents=N_LATENTS
    )
    codes = extract(vae.model, spaces.measured, "encoder.mean", preprocess=vae.preprocess)
    rng = np.random.default_rng([seed, 1])
    # At large beta a VAE may collapse to a constant code, which cannot be scaled; noise carries as little information.
    dead = codes.values.var(axis=0) < 1e-12
    codes = codes.copy(data=codes.values + dead * 1e-3 * rng.standard_normal(codes.shape))
    variance = codes.values.var(axis=0)
    # The aligner would scale an inactive latent up to unit variance. At least two latents are kept.
    kept_latents = np.sort(np.argsort(-variance)[: max(2, int((variance > ACTIVE).sum()))])
    records: list[Record] = [{
        **cell, "kind": "vae", **disentanglement_scores(codes.values.astype(float), spaces.factors, rng),
        "n_active": int((variance > ACTIVE).sum()), "loss": float(vae.card["training"]["losses"][-1]),
    }]  # fmt: skip
    source = codes[: size.align, kept_latents]
    sources = {False: source, True: source.copy(data=rotate_codes(source.values.astype(float), rng))}
    for n_pairs in N_PAIRS[-1:] if run.quick else N_PAIRS:
        for rotated in (False, True):
            fold = draw_curve_fold(sources[rotated], spaces.target, n_pairs, seed=seed)
            labels = spaces.labels(fold.target_test)
            shared = {**cell, "kind": "alignment", "n_pairs": n_pairs, "rotated": rotated, "n_test": len(labels)}
            # One seed shows the effect of rotation on the fused bridge, which is slow; ridge runs on all seeds.
            names = MAPS if not rotated or seed == run.seed else MAPS[1:]
            for name in names if n_pairs == N_PAIRS[-1] or not rotated else ():
                records.append(
                    {**shared, "method": name, **alignment_scores(fold, name, fold.pairs, seed, spaces.head, labels)}
                )
            if not rotated:
                permuted_pairs = Pairs(fold.pairs.source_id, rng.permutation(fold.pairs.target_id))
                chance_scores = alignment_scores(fold, "ridge", permuted_pairs, seed, spaces.head, labels)
                records.append({**shared, "method": "chance", **chance_scores})
    records.append(
        {**shared, "method": "all pairs", "rotated": False, **_all_pairs_scores(source, spaces, seed, labels)}
    )
    return records


def _all_pairs_scores(source: xr.DataArray, spaces: FactorData, seed: int, labels: np.ndarray) -> dict[str, Any]:
    """Return the ceiling of these latents: kernel ridge on all training pairs."""
    n = int(0.8 * source.sizes["presentation"])
    fold = draw_curve_fold(source, spaces.target, n, seed=seed, unpaired="none")
    source_scale, target_scale = Standardiser.fit(fold.source_train.values), Standardiser.fit(fold.target_train.values)
    fitted = kernel_map(
        source_scale.forward(fold.source_train.values), target_scale.forward(fold.target_train.values), seed=seed
    )
    predicted, true_values = (
        fitted(source_scale.forward(fold.source_test.values)),
        target_scale.forward(fold.target_test.values),
    )
    return {
        "r2": 1
        - float(np.square(predicted - true_values).sum() / np.square(true_values - true_values.mean(axis=0)).sum()),
        "accuracy": _accuracy(target_scale.backward(predicted), spaces.head, labels),
        "accuracy_of_target": _accuracy(fold.target_test.values, spaces.head, labels),
    }


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    seeds = over_seeds(run.seeds)
    truth = select_records(records, kind="truth")
    columns = ("dci", "mig", *MAPS)
    tables = [{
        "title": f"Known truth (simulated): factors as a code, turned; R^2 to simulated sites with {N_PAIRS[-1]} pairs; {seeds}",
        "columns": ["turn", "DCI", "MIG", *(f"R^2, {name}" for name in MAPS)],
        "rows": [[f"{t:g}", *(format_mean([r[c] for r in select_records(truth, turn=t)]) for c in columns)] for t in turns(run)],
    }]  # fmt: skip
    correlation_rows: list[list[Any]] = []
    relations: list[dict[str, Any]] = []
    for data, title in DATA.items():
        vaes = select_records(records, kind="vae", data=data)
        alignments = select_records(records, kind="alignment", data=data)
        tables.append(_table(title, vaes, alignments, seeds, betas(run)))
        for name in MAPS:
            for n_pairs in sorted({r["n_pairs"] for r in alignments}):
                group = select_records(alignments, method=name, n_pairs=n_pairs, rotated=False)
                relations.append(
                    {"data": data, "method": name, "n_pairs": n_pairs, **_relation(vaes, group, betas(run))}
                )
                relation = relations[-1]
                tested = ("beta", "dci", "mig", "informativeness", "partial")
                correlation_rows.append([
                    f"{data}, {name}, {n_pairs} pairs",
                    *(f"{relation[key][0]:+.2f} (p = {relation[key][1]:.4f})" for key in tested), relation["steps"],
                ])  # fmt: skip
    tables.append({
        "title": "Rank correlation with held-out R^2 over all VAEs (Spearman's rho; chance 0, p by 9,999 permutations); steps: "
        "rises of mean R^2 from one beta to the next in the order of mean DCI",
        "columns": ["R^2 of", "beta", "DCI", "MIG", "informativeness", "DCI, given informativeness", "steps up"],
        "rows": correlation_rows,
    })  # fmt: skip
    control = {data: _rotation(select_records(records, data=data)) for data in DATA}
    tables.append({
        "title": f"The same latents turned by a random rotation: change of DCI and of R^2 with {N_PAIRS[-1]} pairs, mean over VAEs "
        "± 95 % CI",
        "columns": ["data", "n", "change of DCI", *(f"change of R^2, {name}" for name in MAPS)],
        "rows": [
            [data, str(len(c["dci"])), format_mean(c["dci"]), *(format_mean(c[name], 4) for name in MAPS)]
            for data, c in control.items()
        ],
    })  # fmt: skip
    draw_disentanglement(run, records)
    draw_known_truth(run, truth)
    fused = [test for test in relations if test["method"] == "fused"]
    related_positively = [test["dci"][0] > 0 and test["dci"][1] < 0.05 for test in fused]
    rising = [up and _nearly_all(test["steps"]) for up, test in zip(related_positively, fused, strict=True)]
    effect = {data: (mean_ci(c["fused"]), float(np.mean(c["dci"]))) for data, c in control.items()}
    truth_loss = mean_ci([r["fused"] for r in select_records(truth, turn=turns(run)[0])])[0] - mean_ci(
        [r["fused"] for r in select_records(truth, turn=turns(run)[-1])]
    )[0]  # fmt: skip
    end_dcis = [mean_ci([r["dci"] for r in select_records(truth, turn=turns(run)[k])])[0] for k in (0, -1)]
    fused_text = "; ".join(
        f"{t['data']}, {t['n_pairs']} pairs: rho(DCI, R^2) {t['dci'][0]:+.2f} ({format_p(t['dci'][1])}), given informativeness "
        f"{t['partial'][0]:+.2f} ({format_p(t['partial'][1])}), rho(beta, R^2) {t['beta'][0]:+.2f}, {t['steps']} steps up"
        for t in fused
    )
    rotation_text = "; ".join(
        f"{data}: DCI {drop:+.3f}, R^2 {mean:+.4f} ± {half:.4f}" for data, ((mean, half), drop) in effect.items()
    )
    costly = [mean + half < -0.01 for (mean, half), _ in effect.values()]
    steps_text = "; ".join(f"{t['data']}, {t['n_pairs']} pairs: {t['steps']}" for t in fused)
    claims = [
        {
            "claim": "Over VAEs, more disentangled latents go with better alignment",
            "verdict": verdict(sum(related_positively), len(related_positively), part=0),
            "evidence": "rule: fused bridge, rho(DCI, R^2) > 0 with p < .05 (uncorrected, VAEs of one beta taken as independent), "
            f"at every data set and number of pairs; {fused_text}",
        },
        {
            "claim": "The relation is monotonic",
            "verdict": verdict(sum(rising), len(rising), part=0),
            "evidence": "rule: as before, and mean R^2 rising from one beta to the next, in the order of mean DCI, at all steps "
            f"but one; {steps_text}",
        },
        {
            "claim": "It is the disentanglement itself that helps: mixing the same latents by a rotation costs alignment",
            "verdict": verdict(sum(costly), len(costly), part=0),
            "evidence": "rule: the 95 % CI of the change of R^2 (fused bridge) lies below -.01 in every data set; "
            f"{rotation_text}; true factors as a code: R^2 {-truth_loss:+.3f} from the first turn to the last",
        },
    ]  # fmt: skip
    size = sizes(run)
    count = len(select_records(records, kind="vae"))
    rhos = [[t[key][0] for t in fused] for key in ("dci", "beta", "informativeness")]
    spans = [f"{min(values):+.2f} to {max(values):+.2f}" for values in rhos]
    answer = (
        f"Over {count} beta-VAEs held-out R^2 goes with DCI (rho {spans[0]}), with small beta (rho with beta {spans[1]}) and with "
        f"how much the latents tell (rho {spans[2]}); R^2 rises at {', '.join(t['steps'] for t in fused)} steps of mean DCI, so "
        f"the relation is {'monotonic' if all(rising) else 'not monotonic'}. Turning the same latents changes R^2 by "
        f"{' and '.join(f'{mean:+.3f} ({data}, DCI {drop:+.2f})' for data, ((mean, _), drop) in effect.items())}, and turning true "
        f"factors from DCI {end_dcis[0]:.2f} to {end_dcis[1]:.2f} by {-truth_loss:+.3f}: "
        + ("mixing the axes costs alignment." if any(costly) else "the axes themselves do not matter to alignment.")
    )
    note = (
        f"The scenes and their {N_SITES} sites are SIMULATED; the digits are real MNIST. Each VAE was trained on {size.train:,} "
        f"images ({size.epochs} epochs, {N_LATENTS} latents) and measured on {size.factors:,} others, of which {size.align} are "
        "aligned, a fifth of them held out. Latents whose variance is below .01 are left out of alignment. These VAEs are small "
        "and trained briefly, so their disentanglement spans only a part of the scale; a code of the true factors is therefore "
        "shown too. The factors of digits (slant, width and height) are measured by the moments of the ink and depend on the "
        "digit. Sites with mixed tuning to the factors take the place of those of simulated HvM, which are made for 64 objects at "
        "64 pixels. With rotated latents the fused bridge was run on the first seed."
    )
    captions = {
        "disentanglement.png": f"Simulated scenes (above) and real MNIST (below): disentanglement and held-out R^2 by beta, and "
        f"one against the other; {run.n_seeds} seeds, bars are 95 % CI.",
        "known_truth.png": "Simulated scenes, and the true factors as a code, rotated further and further: R^2 against DCI.",
    }
    return {
        "note": note, "tables": tables, "claims": claims, "answer": answer, "relations": relations,
        "digests": factor_data(run, "digits").digests,
        "figures": [{"file": file, "caption": text} for file, text in captions.items()],
    }  # fmt: skip


def _nearly_all(rises_of_steps: str) -> bool:
    """Tell whether a text such as "5 of 6" lacks one at most."""
    rises, _, total = rises_of_steps.partition(" of ")
    return int(rises) >= int(total) - 1


def _table(
    title: str, vaes: list[Record], alignments: list[Record], seeds: str, values: Sequence[float]
) -> dict[str, Any]:
    """Tabulate disentanglement and alignment by beta."""
    counts = sorted({r["n_pairs"] for r in alignments})
    measures = ("dci", "mig", "dci_rotated", "dci_null", "mig_null", "informativeness", "n_active")
    aligners = [(name, n) for name in (*MAPS, "chance") for n in counts] + [("all pairs", counts[-1])]
    has_labels = alignments[0]["accuracy"] is not None
    columns = ["beta", "DCI", "MIG", "DCI rotated", "DCI chance", "MIG chance", "informativeness", "active latents"]
    columns += [f"R^2 {name}, {n} pairs" if name != "all pairs" else "R^2 all pairs (ceiling)" for name, n in aligners]
    rows = []
    for beta in values:
        group = select_records(alignments, beta=beta, rotated=False)
        row = [f"{beta:g}", *(format_mean([r[m] for r in select_records(vaes, beta=beta)]) for m in measures)]
        row += [format_mean([r["r2"] for r in select_records(group, method=name, n_pairs=n)]) for name, n in aligners]
        if has_labels:
            row += [
                format_mean([r["accuracy"] for r in select_records(group, method="fused", n_pairs=n)]) for n in counts
            ]
            row += [format_mean([r["accuracy"] for r in select_records(group, method="all pairs")])]
            row += [format_mean([r["accuracy_of_target"] for r in select_records(group, method="all pairs")])]
        rows.append(row)
    if has_labels:
        columns += [f"accuracy fused, {n} pairs (chance .1)" for n in counts]
        columns += ["accuracy all pairs", "accuracy of true features (ceiling)"]
    return {"title": f"{title}: n = {alignments[0]['n_test']} held out; {seeds}", "columns": columns, "rows": rows}


def _relation(vaes: list[Record], group: list[Record], values: Sequence[float]) -> dict[str, Any]:
    """Return the rank correlations of R^2 with beta and each measure over VAEs."""
    r2_of = {(r["beta"], r["seed"]): r["r2"] for r in group}
    y = [r2_of[r["beta"], r["seed"]] for r in vaes]
    x = {key: [r[key] for r in vaes] for key in ("beta", "dci", "mig", "informativeness")}
    means = [
        [float(np.mean([v for v, r in zip(column, vaes, strict=True) if r["beta"] == beta])) for beta in values]
        for column in (x["dci"], y)
    ]
    return {
        **{key: partial_rank_correlation(column, y) for key, column in x.items()},
        "partial": partial_rank_correlation(x["dci"], y, x["informativeness"]), "steps": rises_text(*means),
    }  # fmt: skip


def _rotation(group: list[Record]) -> dict[str, list[float]]:
    """Return the changes of DCI and of R^2 by rotation, a value for each VAE."""
    vaes, alignments = select_records(group, kind="vae"), select_records(group, kind="alignment", n_pairs=N_PAIRS[-1])
    out = {"dci": [r["dci_rotated"] - r["dci"] for r in vaes]}
    for name in MAPS:
        r2_of = {(r["beta"], r["seed"], r["rotated"]): r["r2"] for r in alignments if r["method"] == name}
        out[name] = [r2 - r2_of[beta, seed, False] for (beta, seed, rotated), r2 in r2_of.items() if rotated]
    return out


STUDY = Study(
    "disentanglement",
    "Disentanglement and alignment: beta-VAEs on rendered scenes (simulated) and on real MNIST",
    cells,
    compute,
    finish,
    n_seeds=3,
)

if __name__ == "__main__":
    main(STUDY)
