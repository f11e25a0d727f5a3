"""No pair at all: when do two real spaces align, and does the verdict on the alignment know?

Each set has two clouds of the same things in unknown order, and no pair is known:

- THINGS (real): similarity embeddings of women and of men, of the same 400 objects and of all 1,854;
- V4 and IT (real): two halves of the sites of one recording, 400 images;
- Flickr8k (real): MiniLM embeddings of captions and CLIP embeddings of their images, 400 pairs;
- digits (real): images and spoken words, 400 of each; a partner is any of the same digit.

Controls have no partner, so that every method must be at chance and every verdict must be doubt:
mouse V1 at two different sets of presentations, in which no stimulus effect was seen; mouse V1 and
macaque V4; THINGS objects and Flickr8k images; macaque V4 and IT seeing different images. Their
partners are dealt at random.

Without a pair run `align_unpaired` as it stands, a rotation trained on the anchors that it names,
entropic Gromov-Wasserstein from many random plans and temperatures of which the least distance is
taken (GWTune), a rotation trained from that plan, and low-rank Gromov-Wasserstein. Beside them
stand a rotation trained on 20 pairs and all other points, and, as the ceiling, the better of such a
rotation and of ridge on all pairs, each point mapped by the pairs of the other four fifths.

A point finds its partner if it is among the 1, 5 or 10 most similar of all target points. Plans
are ranked by their mass, maps by hub-corrected cosines.
"""

from __future__ import annotations

from typing import Any

from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study

from .parts.no_pair.methods import (
    BUDGET,
    BUDGET_ALL,
    LOW_RANK,
    N_FOLDS,
    N_PAIRS,
    WORK,
    WORK_OF_CONTROLS,
    align,
)
from .parts.no_pair.report import WORKED, summary
from .parts.no_pair.restarts import EPSILONS
from .parts.no_pair.scoring import N_PERMUTATIONS
from .parts.no_pair.spaces import CONTROLS, THINGS_ALL, digests, draw_task, has_mouse, sets


def cells(run: Run) -> list[dict[str, Any]]:
    out = []
    for seed in run.seeds:
        # All objects take as long as the other sets together: one seed.
        for name in (name for name in sets(run) if name != THINGS_ALL or seed == run.seed):
            work: tuple[str, ...] = WORK_OF_CONTROLS if name in CONTROLS else WORK
            if run.quick or name == THINGS_ALL:
                work = tuple(method for method in work if method != LOW_RANK)
            out += [{"set": name, "work": method, "seed": seed} for method in work]
    return out


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    task = draw_task(run, cell["set"], cell["seed"])
    records = align(run, cell["set"], cell["work"], task, cell["seed"])
    related = cell["set"] not in CONTROLS
    return [{"set": cell["set"], "seed": cell["seed"], "related": related, **record} for record in records]


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    return {"note": note(run), **summary(run, records), "digests": digests(run)}


def note(run: Run) -> str:
    """Return how it was measured."""
    mouse = "" if has_mouse(run) else " The recordings of mouse V1 were not at hand: their controls were left out."
    return (
        "All data are real. Sites of V4, IT and V1 are standardised; embeddings are taken as they are. A seed draws the points, "
        "the halves of the sites, the order of the target and every random start. Both clouds hold the same things, which favours "
        "methods without pairs; disjoint pools were not run. All objects of THINGS were aligned with the first seed alone, to save "
        "time. Entropic GW takes Euclidean distances in units of the root of their mean square and uses POT's solver. Its "
        f"temperatures are drawn log-uniformly from {EPSILONS[0]:g} to {EPSILONS[1]:g}, a range that was set on seed 100. It has "
        f"{BUDGET[0]} starts of at most {BUDGET[1]} steps (for all 1,854 objects {BUDGET_ALL[0]} of {BUDGET_ALL[1]}, in single "
        "precision), with at most 100 Sinkhorn steps each, and its plans are rounded to uniform marginals. GWTune itself samples "
        "temperatures with Optuna and takes up to 1,000 steps. A start fails, as it does there, if the solver cannot represent its "
        "temperature. Low-rank GW has rank 30, on the first 30 principal components of clouds of more than 100 dimensions; it was "
        f"not run on all objects. A method worked if p < .01 beside {N_PERMUTATIONS} permutations of the partners, and if at least "
        f"{WORKED:g} of the points, beyond chance, have their most similar target among the nearest 5 % of their partner's "
        f"neighbours (for digits: with their digit). The {N_PAIRS} pairs are drawn at random, two of each digit, and are not "
        f"scored; with all pairs there are {N_FOLDS} folds. No manifest names the recordings of mouse V1, which are read from the "
        "folder of the mirror "
        "alone: 212 cells and 900 presentations of unknown order. The table gives processor seconds." + mouse
    )


STUDY = Study(
    "no_pair",
    "Alignment without a pair: real people, sites, captions and digits, and controls without a partner",
    cells,
    compute,
    finish,
    n_seeds=3,
    extras=("text",),
)

if __name__ == "__main__":
    main(STUDY)
