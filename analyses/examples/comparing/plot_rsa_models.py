"""
Which model has the geometry of human IT?
=========================================

92 images were shown to four people and two monkeys, and every pair of images has a dissimilarity in
each person's inferior temporal cortex. Four models predict these dissimilarities: pixels, a bank of
Gabor filters, the categories that a person would name, and the monkeys. Which of them differ, and
does any reach what the people have in common?

The data are real: ``kriegeskorte2008``, four people, the mean of two sessions each.
"""

# %%
# One RDM a person.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

experiment: Any = nb.load("kriegeskorte2008")
rdms, stimuli = experiment.rdms, experiment.stimuli
of_people = rdms[(rdms["species"].values == "human") & (rdms["session"].values > 0)]
people = {
    f"person {name}": of_people[of_people["subject"].values == name].mean("rdm").values
    for name in np.unique(of_people["subject"].values)
}

# %%
# The models. Categories predict two values alone, so that most of their dissimilarities are tied:
# "rho-a" does not prefer them for it, as Spearman's coefficient does.

category = stimuli["category_name"].to_numpy()
animate = ~stimuli["inanimate"].to_numpy()
pixels = experiment.images.values[:, ::5, ::5].reshape(92, -1).astype(float)
gabor = nb.extract(nb.features.GaborEnergy(), experiment.images, "v1")
models = {
    "pixels": 1 - np.corrcoef(pixels),
    "Gabor": nb.similarity.rdm(gabor).values,
    "animate": (animate[:, None] != animate).astype(float),
    "categories": (category[:, None] != category).astype(float),
    "monkey IT": rdms[rdms["species"].values == "monkey"][0].values,
}

# %%
# Images and people are both drawn, so that the tests speak of other images and other people. The
# variance is corrected for counting the noise of each measurement too often.

scores = {
    comparator: nb.similarity.compare_rsa_models(models, people, comparator=comparator, n_bootstrap=300, seed=0)
    for comparator in ("rho-a", "spearman")
}
for comparator, score in scores.items():
    print(comparator, "ceiling", round(float(score["ceiling"]), 3), "to", round(float(score["ceiling_upper"]), 3))
    print(score[["raw", "sem", "p_value_fdr", "p_ceiling_fdr"]].to_dataframe().round(3).to_string())
print(scores["rho-a"]["p_difference_fdr"].to_pandas().round(3).to_string())

# %%
# Four people leave three degrees of freedom: few pairs of models differ, though their bars do.

fig, axes = plt.subplots(1, 2, figsize=(12.5, 4), sharey=True, layout="constrained")
for ax, score in zip(axes, scores.values(), strict=True):
    nb.figures.rsa_models(score, ax=ax)
plt.show()
