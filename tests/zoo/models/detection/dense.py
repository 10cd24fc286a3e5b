"""What the tests of dense detectors share."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.zoo.models.detection.rcnn import assert_near, sizes_of, targets_of
from zoo.registry import family_of


def output_of(peer):
    """The output of a golden's model, without training."""
    return jax.jit(peer.model.apply)(peer.variables, *peer.inputs)


def assert_features_equal(peer):
    """The maps of the pyramid but the finest are the peer's."""
    sides = [-(-side // 32) * 32 for side in peer.images.shape[1:3]]
    rows, columns = (side - old for side, old in zip(sides, peer.images.shape[1:3], strict=True))
    images = jnp.pad(peer.images, ((0, 0), (0, rows), (0, columns), (0, 0)))
    maps = jax.jit(lambda v, x: peer.model.apply(v, x, method="features"))(peer.variables, images)
    assert len(maps) == 5
    for i in range(1, 5):
        assert_near(maps[i], peer.groups[f"maps/{i}"], f"maps/{i}")


def assert_detections_equal(peer):
    """Anchors and detections are the peer's."""
    output = output_of(peer)
    np.testing.assert_allclose(output.anchors[1], peer.groups["anchors/all"], rtol=1e-6, atol=1e-5)
    found = jax.jit(family_of(peer.model).decode)(output, sizes_of(peer.inputs[1]))
    for i in range(len(found.boxes)):
        expected = {k: peer.groups[f"detections/{i}/{k}"] for k in ("boxes", "scores", "labels")}
        count = len(expected["scores"])
        assert count > 3
        assert found.valid[i].sum() == count
        np.testing.assert_array_equal(found.labels[i][:count], expected["labels"])
        for name in ("boxes", "scores"):
            assert_near(getattr(found, name)[i][:count], expected[name], name)


def assert_losses_equal(peer, loss, names):
    """The losses are the peer's; `names` has its names and ours."""
    losses, metrics = jax.jit(loss.__call__)(output_of(peer), targets_of(peer))
    assert set(losses) == set(names.values())
    for theirs, ours in names.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 1e-3
        np.testing.assert_allclose(losses[ours].value(), expected, rtol=1e-4, err_msg=theirs)
    return {name: float(mean.value()) for name, mean in metrics.items()}
