"""
How well are sites predicted from few pairs?
============================================

The figure of most papers on alignment: held-out predictivity against the number of pairs, with ridge regression on the same
pairs, the noise ceiling and chance.

The data are SIMULATED: V4 and IT sites of two simulated animals and the rendered objects shown to them. The model is a bank of
Gabor filters. 26 images are held out, three draws.
"""

# %%
# Recordings, their ceiling, and a model of the same images.

import matplotlib.pyplot as plt

import neurobridge as nb

experiment = nb.simulate_hvm({3: 2}, n_repetitions=10, image_size=48)
trials = nb.select(experiment.recordings.isel(time_bin=0), region="V4")
ceiling = nb.internal_consistency(trials, n_bootstrap=0)["ceiling"]
recordings = nb.average_repetitions(trials)
model = nb.extract(nb.features.GaborEnergy(), experiment.images, "v1")

# %%
# Every method gets the same pairs, pools and held-out images.

aligners = {
    "ridge": nb.aligners.RidgeAligner(),
    "procrustes": nb.aligners.ProcrustesAligner(),
    "fused": nb.BridgeAligner(map="barycentric"),
}
curve = nb.learning_curve(
    model, recordings, aligners, n_pairs=(5, 15, 45), n_seeds=3, ceiling=ceiling, n_permutations=100, progress=False
)
print(curve["mean"].round(3).to_pandas().to_string())

# %%
# Bars are 95 % intervals over draws.

fig, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
nb.figures.plot(curve, ax=ax, title="simulated V4, 88 sites, 26 held-out images, seeds 0 to 2")
plt.show()
