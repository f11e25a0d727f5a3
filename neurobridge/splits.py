"""Train and test rows for every kind of cross-validation: the namespace of `neurobridge.evaluate.splits`."""

from neurobridge.evaluate.splits import *  # noqa: F403
