"""
Which of several models predicts V4 best?
=========================================

Three models are compared on the same folds of the same images. The layer of a model is chosen
inside the training images of each fold; differences are paired over images and neurons, and
corrected for their number.

The recordings are real: 50 V4 neurons and the 640 images shown (``cowley2023-v4-210325``).
"""

# %%
# A fixed Gabor energy model with three layers, a convolutional network with random weights, and pixels.

from typing import Any

import matplotlib.pyplot as plt
import torch

import neurobridge as nb

v4: Any = nb.load("cowley2023-v4-210325")
recordings = nb.average_repetitions(v4.recordings)
ceiling = nb.internal_consistency(v4.recordings)["ceiling"]
pixels = torch.nn.Sequential()
pixels.add_module("pixels", torch.nn.Identity())
torch.manual_seed(0)
random_net = torch.nn.Sequential()
random_net.add_module("conv1", torch.nn.Sequential(torch.nn.Conv2d(3, 16, 5, stride=2), torch.nn.ReLU()))
random_net.add_module("conv2", torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3, stride=2), torch.nn.ReLU()))
small = nb.features.Preprocess(size=32)
models = {
    "Gabor energy": nb.extract(nb.features.GaborEnergy(), v4.images, ["colour", "v1", "v2"]),
    "random network": nb.extract(random_net, v4.images, ["conv2"], preprocess=small),
    "8 x 8 pixels": nb.extract(pixels, v4.images, "pixels", preprocess=nb.features.Preprocess(size=8)),
}

# %%
# Predictivity by ridge, and the similarity of dissimilarities. From a shell, with files:
#
#     neurobridge compare gabor.nc random.nc pixels.nc --recordings v4.nc --metrics ridge,rdm --out comparison/

compared = nb.compare_models(models, recordings, ("ridge", "rdm"), ceiling=ceiling, seed=0)
tables = nb.evaluate.comparison_tables(compared)
print(tables["models"].round(3).to_string())
print(tables["pairs"].round(4).to_string())

# %%
# The line beside the points joins models that do not differ. The ceiling of an RDM is not known here:
# it needs several animals.

fig, axes = plt.subplots(1, 2, figsize=(10, 2.9), layout="constrained")
for ax, metric in zip(axes, ("ridge", "rdm"), strict=True):
    nb.figures.compared_models(compared, metric, ax=ax, title="real V4, 50 neurons, 640 images, 5 folds, seed 0")
plt.show()
