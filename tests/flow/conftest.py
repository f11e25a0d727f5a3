"""Known couplings between known spaces."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from neurobridge.flow import BASES, ConditionalFlow, Training, train


class Matching:
    """A known coupling: row i of the source belongs to row i of the target."""

    def __init__(self, n: int, n_anchors: int = 20) -> None:
        self.n = n
        self.anchors = (np.arange(n_anchors), np.arange(n_anchors))

    def sample(self, n, rng):
        rows = rng.integers(0, self.n, n)
        return rows, rows


class Independent(Matching):
    """The product coupling."""

    def sample(self, n, rng):
        return rng.integers(0, self.n, n), rng.integers(0, self.n, n)


def spaces(n: int = 600, d_source: int = 3, d_target: int = 5, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d_source)) * [1, 2, 3][:d_source] + 5
    W = rng.normal(size=(d_source, d_target))
    return X, np.sin((X - 5) @ W / 3) + 0.3 * (X - 5) @ W


@pytest.fixture(scope="session")
def known():
    """Known couplings and spaces: ``Matching(n)``, ``Independent(n)``, ``spaces(n)``."""
    return SimpleNamespace(Matching=Matching, Independent=Independent, spaces=spaces)


@pytest.fixture(scope="session")
def flows(known):
    """A trained flow of every base, 500 points it was trained on, and 100 it was not."""
    X, Y = known.spaces()
    training = Training(n_steps=400, width=64, batch_size=128)
    trained = {
        base: ConditionalFlow(base, training=training).fit(X[:500], Y[:500], known.Matching(500)) for base in BASES
    }
    return SimpleNamespace(X=X[:500], Y=Y[:500], new=(X[500:], Y[500:]), of=trained)


@pytest.fixture
def interrupted(monkeypatch):
    """Fit a flow and stop it at a step: ``interrupted(step, flow, X, Y, coupling)``."""

    def fit(step, flow, *arrays):
        whole_step = train.training_step

        def step_or_stop(state, points, options):
            if state.step == step:
                raise KeyboardInterrupt
            whole_step(state, points, options)

        with monkeypatch.context() as patch:
            patch.setattr(train, "training_step", step_or_stop)
            with pytest.raises(KeyboardInterrupt):
                flow.fit(*arrays)

    return fit
