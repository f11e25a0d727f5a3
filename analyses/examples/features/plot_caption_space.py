"""
Wordings of one thing lie together
==================================

Captions of ten digits in several wordings, embedded by MiniLM, which has read text alone. Does the space
know that "a handwritten 3" and "the digit three" are the same thing? The captions are made from
templates; the embedding is real (extra ``text``).
"""

# %%
# Eight wordings of ten digits.

import matplotlib.pyplot as plt

import neurobridge as nb

names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
table = nb.features.captions_from_templates(
    [str(k) for k in range(10)], names={str(k): name for k, name in enumerate(names)}, n_captions=6, seed=0
)
captions = nb.features.embed_text(table)
print(table["caption"].head(3).tolist())

# %%
# Cosine distances, ordered by digit: the blocks on the diagonal are wordings of one digit.

matrix = nb.similarity.rdm(captions, distance="cosine")
fig, ax = plt.subplots(figsize=(5, 4.2), layout="constrained")
nb.figures.dissimilarities(matrix, ax=ax, title="60 captions, six of each digit, MiniLM")
plt.show()
