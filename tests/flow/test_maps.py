"""A flow whose base is a fitted map: where it starts, where it takes the cloud, and how it is kept."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
import torch
from sklearn.base import clone

from neurobridge.bridge import ridge_map
from neurobridge.flow import ODE, ConditionalFlow, FlowFileError, Training, VelocityMLP
from neurobridge.flow.networks import SHARE_HELD_BACK, SpreadVelocity
from neurobridge.maps.kernel import kernel_map
from neurobridge.store.state import sealed
from tests.refusals import refused

undertrained = pytest.mark.filterwarnings("ignore::neurobridge.points.support.OffSupportWarning")
SMALL = Training(n_steps=20, width=16, depth=1, batch_size=32)


@pytest.fixture(scope="module")
def mapped(known):
    """Points, two maps between their spaces, and a flow that starts at them."""
    X, Y = known.spaces(n=100)
    maps = ridge_map(X, Y), kernel_map(Y, X)
    return X, Y, maps, ConditionalFlow(maps, training=SMALL).fit(X, Y, known.Matching(100))


@undertrained
@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_the_cloud_of_images_is_spread_as_the_target_is(sigma):
    # Targets N(0, 1) in their units, of which the source tells half: the best map has variance 1/2. The flow's path has variance
    # 1/2 + s^2 at its start and 1 + s^2 at its end, so the flow stretches by the root of their ratio, and turns nothing.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    Y = (X + rng.normal(size=(4000, 2))) * [1, 10] + 3

    class Rows:
        anchors = np.arange(20), np.arange(20)

        def sample(self, n, rng):
            rows = rng.integers(0, 4000, n)
            return rows, rows

    def best(Z):
        return Z * [1, 10] + 3

    training = Training(sigma=sigma, n_steps=500, width=32, batch_size=512)
    flow = ConditionalFlow(best, training=training).fit(X, Y, Rows())
    new = rng.normal(size=(1000, 2))
    stretch = np.sqrt((1 + sigma**2) / (0.5 + sigma**2))
    exact = stretch * new * [1, 10] + 3
    error = np.square((flow.transport(new) - exact) / [1, 10]).mean()
    assert error < 0.02 * np.square((best(new) - exact) / [1, 10]).mean() + 0.005


def test_the_path_is_wide_and_training_short_where_the_base_is_a_map(known):
    X, Y = known.spaces(n=60)
    image = ridge_map(X, Y)
    runs = [
        ConditionalFlow(base, training=SMALL.replace(sigma=sigma)).fit(X, Y, known.Matching(60)).losses_
        for base, sigma in ((image, None), (image, 0.5), (image, 0.1), ("affine", None), ("affine", 0.1))
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    np.testing.assert_array_equal(runs[3], runs[4])
    smallest = Training(width=4, depth=1, batch_size=2)
    assert len(ConditionalFlow(image, training=smallest).fit(X, Y, known.Matching(60)).losses_) == 100


@undertrained
def test_an_untrained_flow_from_a_map_gives_each_dimension_the_mean_and_spread_of_the_target(known):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    Y = X * [4, 1, 0.5] + [3, -1, 0]

    def shrunk(Z):
        return Z * [0.5, 0.5, 0.25] + [1, 1, 1]

    untrained = Training(n_steps=1, learning_rate=1e-12, width=4, depth=1, batch_size=2)
    flow = ConditionalFlow(shrunk, training=untrained, ode=ODE(n_steps=64)).fit(X, Y, known.Matching(200))
    moved = flow.transport(X)
    # Eightfold, twofold, twofold: all within the limit, so that every point reaches its partner.
    np.testing.assert_allclose(moved, Y, atol=1e-4)
    np.testing.assert_allclose(np.corrcoef(moved[:, 0], shrunk(X)[:, 0])[0, 1], 1, atol=1e-6)


@undertrained
def test_no_dimension_is_narrowed_or_stretched_without_bound(known):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    untrained = Training(n_steps=1, learning_rate=1e-12, width=4, depth=1, batch_size=2)
    flow = ConditionalFlow(lambda Z: Z * [3, 1e-4], training=untrained, ode=ODE(n_steps=64)).fit(
        X, X, known.Matching(200)
    )
    moved = flow.transport(X)
    np.testing.assert_allclose(moved.std(axis=0) / X.std(axis=0), [3, 10e-4], rtol=0.03)


@undertrained
def test_validation_keeps_the_closed_form_where_the_network_would_cost_correlation(known):
    # Partners are told by the first dimension alone: what a network learns of the others is noise.
    rng = np.random.default_rng(0)
    X, noise = rng.normal(size=(300, 4)), rng.normal(size=(300, 4))
    Y = 0.5 * X + noise
    training = Training(validation=0.2, width=64, n_steps=100, validate_every=20)
    flow = ConditionalFlow(lambda Z: 0.5 * Z, training=training).fit(X, Y, known.Matching(300))
    moved = flow.transport(X)
    rs = [np.diag(np.corrcoef(points.T, Y.T)[:4, 4:]) for points in (X, moved)]
    assert np.median(rs[1]) > np.median(rs[0]) - 0.02
    assert flow.validation_losses_[0] == flow.validation_losses_.min()
    np.testing.assert_allclose(moved.var(axis=0).sum() / Y.var(axis=0).sum(), 1, atol=0.1)


@undertrained
def test_a_network_of_clear_gain_acts_in_full_and_another_is_held_back(known):
    # A ring that a map has folded onto a line needs the network; of an image that is right it has nothing to add.
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 400)
    ring = np.c_[np.cos(angle), np.sin(angle)]
    noisy = ring + 0.05 * np.random.default_rng(1).normal(size=ring.shape)
    training = Training(validation=0.2, width=64, n_steps=200, validate_every=50, batch_size=64)
    shares = []
    for starts in (lambda Z: Z.clip(-1, 0.2), lambda Z: Z):
        flow = ConditionalFlow(starts, training=training).fit(ring, noisy, known.Matching(400))
        shares.append(float(flow.forward_.velocity.share))
        assert not flow.forward_.velocity.training
    assert shares[1] == pytest.approx(SHARE_HELD_BACK)
    unjudged = ConditionalFlow(lambda Z: Z, training=training.replace(validation=0.0)).fit(
        ring, noisy, known.Matching(400)
    )
    assert float(unjudged.forward_.velocity.share) == 1


def test_training_sees_the_whole_network_and_transport_its_share():
    velocity = SpreadVelocity(VelocityMLP(2), 2)
    for weight in velocity.parameters():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
    t, x = torch.zeros(3, 1), torch.ones(3, 2)
    velocity.share.fill_(0.25)
    whole = velocity.train()(t, x)
    torch.testing.assert_close(velocity.eval()(t, x), whole / 4)


@undertrained
def test_paths_start_at_the_maps_and_are_retraced_to_them(mapped):
    X, Y, (forward_map, backward_map), flow = mapped
    for direction, points, base_map in (("forward", X, forward_map), ("backward", Y, backward_map)):
        images = base_map(points)
        np.testing.assert_allclose(flow.start(points, direction), images, atol=1e-9)
        moved = flow.transport(points, direction, method="dopri5")
        np.testing.assert_allclose(flow.retrace(moved, points, direction), images, atol=1e-3 * images.std())
    assert flow.forward_.n_condition == 0


@undertrained
def test_a_lazy_array_starts_at_the_map_too(mapped):
    X, _, _, flow = mapped
    lazy = flow.transport(da.from_array(X, chunks=(30, 2)))
    np.testing.assert_allclose(lazy.compute(scheduler="synchronous"), flow.transport(X), rtol=1e-4, atol=1e-4)


@undertrained
def test_one_map_goes_forward_alone(known):
    X, Y = known.spaces(n=60)
    flow = ConditionalFlow(ridge_map(X, Y), training=SMALL).fit(X, Y, known.Matching(60))
    assert flow.transport(X).shape == Y.shape
    with refused(ValueError, "base=("):
        flow.transport(Y, "backward")
    with pytest.raises(ValueError, match=r"n_samples=2 .*'maps'"):
        flow.transport(X, n_samples=2)


@undertrained
def test_a_flow_from_kept_maps_is_loaded_as_it_was(mapped, known, tmp_path):
    X, Y, _, flow = mapped
    flow.save(tmp_path)
    again = ConditionalFlow.load(tmp_path)
    for direction, points in (("forward", X), ("backward", Y)):
        np.testing.assert_array_equal(again.transport(points, direction), flow.transport(points, direction))
    np.testing.assert_array_equal(again.fit(X, Y, known.Matching(100)).losses_, flow.losses_)


@undertrained
def test_code_is_not_kept_and_must_be_given_again(mapped, known, tmp_path):
    X, Y, maps, _ = mapped
    given = (lambda Z: maps[0](Z), lambda Z: maps[1](Z))
    flow = ConditionalFlow(given, training=SMALL).fit(X, Y, known.Matching(100))
    flow.save(tmp_path)
    with refused(FlowFileError, "flow.json", "forward", "load(folder, base="):
        ConditionalFlow.load(tmp_path)
    again = ConditionalFlow.load(tmp_path, base=given)
    np.testing.assert_array_equal(again.transport(Y, "backward"), flow.transport(Y, "backward"))
    with pytest.raises(FlowFileError, match=r"flow.json.*base map"):
        ConditionalFlow.load(tmp_path, base=given[::-1])
    one = ConditionalFlow(given[0], training=SMALL).fit(X, Y, known.Matching(100))
    one.save(tmp_path)
    np.testing.assert_array_equal(ConditionalFlow.load(tmp_path, base=given[0]).transport(X), one.transport(X))


def test_a_kept_map_that_lost_a_part_is_refused(mapped, tmp_path):
    path = mapped[3].save(tmp_path)
    header = json.loads(path.read_text())
    del header["digest"]
    path.write_bytes(sealed({**header, "images": {"forward": "KernelMap", "backward": "KernelMap"}}))
    with refused(FlowFileError, "flow.json", "kernel-map", "'centres', 'coef', 'kernel_coef'"):
        ConditionalFlow.load(tmp_path)
    path.write_bytes(sealed({k: v for k, v in header.items() if k != "images"}))
    with pytest.raises(FlowFileError, match=r"flow.json.*'images'"):
        ConditionalFlow.load(tmp_path)


@undertrained
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_run_from_maps_continues_where_it_was_interrupted(validation, mapped, known, tmp_path, interrupted):
    X, Y, maps, _ = mapped
    training = SMALL.replace(n_steps=100, checkpoint_every=30, validation=validation, validate_every=20)
    whole = ConditionalFlow(maps, training=training).fit(X, Y, known.Matching(100))
    kept = ConditionalFlow(maps, training=training.replace(checkpoint=tmp_path))
    interrupted(70, clone(kept), X, Y, known.Matching(100))
    with pytest.raises(FlowFileError, match=r"forward.json.*\(data "):
        clone(kept).set_params(base=(ridge_map(X[:50], Y[:50]), maps[1])).fit(X, Y, known.Matching(100))
    resumed = clone(kept).fit(X, Y, known.Matching(100))
    assert resumed.resumed_at_ == {"forward": 60, "backward": 0}
    for a, b in ((resumed.forward_, whole.forward_), (resumed.backward_, whole.backward_)):
        assert all(map(torch.equal, a.velocity.state_dict().values(), b.velocity.state_dict().values()))


def test_maps_that_do_not_fit_are_refused(known):
    X, Y = known.spaces(n=40)
    for base in (3, ("affine", "pad"), (ridge_map(X, Y),), None):
        with refused(ValueError, "base", "affine"):
            ConditionalFlow(base, training=SMALL).fit(X, Y, known.Matching(40))
    for image in (lambda Z: Z, lambda Z: np.full((len(Z), 5), np.nan)):
        with refused(ValueError, "(40, ", (40, 5)):
            ConditionalFlow(image, training=SMALL).fit(X, Y, known.Matching(40))
