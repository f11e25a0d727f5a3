"""
How well are sites predicted from few pairs?
============================================

The figure of most papers on alignment: held-out predictivity against the number of pairs, with ridge
regression on the same pairs and chance.

The responses are real: 168 sites of macaque IT, averaged over trials (``majajhong2015-it-v6``), dealt
into two sets of 84. The sets play the part of two animals, and agree better than animals would. 128
images are held out; two draws.
"""

# %%
# Two sets of sites that saw the same images.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

recordings: Any = nb.load("majajhong2015-it-v6").recordings
sites = np.random.default_rng(0).permutation(168)
first, second = recordings.isel(neuroid=np.sort(sites[:84])), recordings.isel(neuroid=np.sort(sites[84:]))

# %%
# Every method gets the same pairs, pools and held-out images. All other images are in one set alone.

aligners = {
    "ridge": nb.aligners.RidgeAligner(),
    "procrustes": nb.aligners.ProcrustesAligner(),
    "fused": nb.BridgeAligner(map="barycentric"),
}
curve = nb.learning_curve(first, second, aligners, n_pairs=(10, 30, 100), n_seeds=2, n_permutations=100, progress=False)
print(curve["mean"].round(3).to_pandas().to_string())

# %%
# Bars are 95 % intervals over draws, wide because there are two.

fig, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
nb.figures.plot(curve, ax=ax, title="real macaque IT, 84 sites to 84 sites, 128 held-out images")
plt.show()
