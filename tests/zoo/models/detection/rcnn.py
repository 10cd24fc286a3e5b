"""What the tests of two-stage detectors share."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import zoo
from zoo.outputs import Targets

TORCHVISION = {
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "rpn_box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
}
DETECTRON2 = {
    "loss_rpn_cls": "objectness",
    "loss_rpn_loc": "rpn_box",
    "loss_cls": "class",
    "loss_box_reg": "box",
}


def assert_near(found, expected, name):
    """Differences of at most 1e-4 of the largest value: torchvision's are computed in float64."""
    atol = 1e-4 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=name)


def sizes_of(valid):
    return jnp.stack([valid.any(axis=axis).sum(axis=1) for axis in (2, 1)], axis=1)


def targets_of(peer, **more):
    """The targets of a golden, and further ones."""
    boxes = jnp.asarray(peer.groups["targets/boxes"])
    return Targets(
        boxes,
        jnp.asarray(peer.groups["targets/labels"]),
        jnp.arange(boxes.shape[1]) < peer.groups["targets/counts"][:, None],
        sizes_of(peer.inputs[1]),
        jnp.ones(len(boxes), bool),
        **more,
    )


def assert_maps_equal(peer):
    """The feature maps that a golden has are the peer's."""
    features = jax.jit(lambda *x: peer.model.apply(*x, method="features"))
    maps = features(peer.variables, *peer.inputs).maps
    checked = [name for name in peer.groups if name.startswith("maps/")]
    assert checked
    for name in checked:
        assert_near(maps[int(name.removeprefix("maps/"))], peer.groups[name], name)
    return maps


def detections_of(peer, decode):
    """The detections that a golden's model finds."""
    apply = jax.jit(lambda *x: decode(peer.model.apply(*x), sizes_of(x[2])))
    return apply(peer.variables, *peer.inputs)


def assert_boxes_equal(peer, found):
    """Boxes, scores and labels are the peer's; returns the number of detections of each image."""
    counts = []
    for i in range(len(found.boxes)):
        expected = {k: peer.groups[f"detections/{i}/{k}"] for k in ("boxes", "scores", "labels")}
        counts.append(len(expected["scores"]))
        assert counts[-1] > 3
        assert found.valid[i].sum() == counts[-1]
        np.testing.assert_array_equal(found.labels[i][: counts[-1]], expected["labels"])
        for name in ("boxes", "scores"):
            assert_near(getattr(found, name)[i][: counts[-1]], expected[name], name)
    return counts


def assert_losses_equal(peer, loss, targets, names):
    """The losses of a training step are the peer's; `names` has its names and ours."""
    apply = partial(peer.model.apply, train=True, mutable=["batch_stats"])
    output, _ = jax.jit(apply)(peer.variables, *peer.inputs, targets=targets)
    losses, _ = loss(output, targets)
    assert set(losses) == set(names.values())
    for theirs, ours in names.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 1e-3
        np.testing.assert_allclose(losses[ours].value(), expected, rtol=1e-4, err_msg=theirs)


def small_model(name, loss, part, **fields):
    """A small model with random weights, its variables, and a function of parameters and targets.

    The function gives the gradient of the loss named `part`, and all losses.
    """
    model = zoo.create(name, num_classes=3, **fields)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)

    def total(params, targets):
        output, _ = model.apply(
            {**variables, "params": params},
            images,
            targets=targets,
            train=True,
            mutable=["batch_stats"],
        )
        found, _ = loss(output, targets)
        return found[part].value(), found

    return model, variables, jax.jit(jax.grad(total, has_aux=True))


def small_targets(**more):
    """Two objects in one image of 64 px, and an image without objects."""
    boxes = jnp.array([[[8.0, 8, 30, 36], [30, 30, 60, 50]], [[0.0] * 4] * 2])
    labels, valid = jnp.array([[1, 0], [0, 0]]), jnp.array([[True, True], [False, False]])
    sizes = jnp.full((2, 2), 64)
    return Targets(boxes, labels, valid, sizes, jnp.ones(2, bool), **more)
