"""
One result in the style of a journal
====================================

Every figure function takes axes and gives axes back, and has the width and the size of text of a journal
inside a ``with`` block. The scores are SIMULATED.
"""

# %%
# A result to draw: two methods, forty sites.

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

rng = np.random.default_rng(0)
stimuli = {"stimulus_id": range(100)}
latents = rng.normal(size=(100, 4))
sites = latents @ rng.normal(size=(4, 40)) + 1.5 * rng.normal(size=(100, 40))
recordings = nb.make_assembly(sites, presentation=stimuli, neuroid={"neuroid_id": range(40)})
model = nb.make_assembly(
    latents @ rng.normal(size=(4, 60)) + rng.normal(size=(100, 60)),
    presentation=stimuli,
    neuroid={"neuroid_id": range(60)},
)
scores = {
    name: nb.predictivity(model, recordings, name, n_permutations=100, splits="kfold,n_splits=5")
    for name in ("pls", "ridge")
}

# %%
# The width of one column of a journal, with letters for the panels.

with nb.figures.journal("wide"):
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    nb.figures.paired(scores, ax=axes[0])
    nb.figures.sites(scores, ax=axes[1], title="simulated, 40 sites, 100 stimuli")
    nb.figures.panel_letters(axes)
plt.show()

# %%
# The caption and the text for those who cannot see the figure are written by the package as well;
# ``nb.figures.save_figure`` writes PNG, SVG and PDF.

print(nb.figures.caption(scores["ridge"]))
