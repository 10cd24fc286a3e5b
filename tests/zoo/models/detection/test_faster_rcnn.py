"""Faster R-CNN's parts, against torchvision's and detectron2's outputs on drawn weights."""

import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.zoo.models.detection.rcnn import (
    DETECTRON2,
    TORCHVISION,
    assert_boxes_equal,
    assert_losses_equal,
    assert_maps_equal,
    assert_near,
    sizes_of,
    targets_of,
)
from zoo.models.detection.parts.decode import RoiDecoding, softmax_rois
from zoo.models.detection.parts.losses import DETECTRON2_LOSS, TwoStageLoss
from zoo.outputs import Targets
from zoo.types import InputError

# `test_goldens.py` compares the outputs of all cases.
CASES = ["faster_rcnn_torchvision_v1", "faster_rcnn_detectron2"]
CASES += [
    pytest.param(f"faster_rcnn_torchvision_{case}", marks=pytest.mark.slow)
    for case in ("v2", "mobilenet")
]


@pytest.fixture(scope="module", params=CASES)
def peer(request, golden):
    return golden(request.param)


def test_maps_equal_the_peers(peer):
    assert_maps_equal(peer)


def test_anchors_and_detections_equal_the_peers(peer):
    images, valid = peer.inputs
    output = jax.jit(peer.model.apply)(peer.variables, images, valid)
    np.testing.assert_allclose(output.anchors[1], peer.groups["anchors/all"], rtol=1e-6, atol=1e-6)
    assert_boxes_equal(peer, softmax_rois(output, sizes_of(valid)))


@pytest.mark.parametrize(
    ("case", "loss", "names"),
    [
        ("faster_rcnn_torchvision_v1", TwoStageLoss(), TORCHVISION),
        ("faster_rcnn_detectron2", DETECTRON2_LOSS, DETECTRON2),
    ],
)
def test_losses_equal_the_peers_for_the_same_samples(golden, case, loss, names):
    peer = golden(case)
    assert_losses_equal(peer, loss, targets_of(peer), names)


def test_a_file_of_detectron2_gives_the_model_its_conventions(golden, tmp_path):
    peer = golden("faster_rcnn_detectron2")
    extra = {"pixel_mean": np.zeros((3, 1, 1), np.float32)}
    extra["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros((3, 4), np.float32)
    with open(path := tmp_path / "model_final.pkl", "wb") as file:
        pickle.dump(
            {"model": {**peer.weights, **extra}, "__author__": "Detectron2 Model Zoo"}, file
        )
    body = {k: v for k, v in peer.fields["backbone_fields"].items() if k != "stride_in_1x1"}
    tops = {k: v for k, v in peer.fields["proposal_fields"].items() if k != "min_size"}
    narrow = {"num_classes": 5, "pyramid_dim": 8, "box_dims": (32, 32), "roi_sampling": {"num": 16}}
    fields = {"backbone_fields": body, "proposal_fields": tops, **narrow}
    model, variables, report = zoo.load_with_report("fasterrcnn_resnet50_fpn", path, **fields)
    assert report.source == "detectron2"
    assert set(report.dropped) == set(extra)
    assert model.preprocessing.std == (1 / 255,) * 3
    assert model.clone(preprocessing=None) == peer.model
    images, valid = peer.inputs
    output = jax.jit(model.apply)(variables, images, valid)
    assert_near(output.class_logits, peer.outputs["class_logits"], "class_logits")


def test_old_names_of_torchvision_and_the_way_back(golden, tmp_path):
    peer = golden("faster_rcnn_torchvision_v1")
    old = {
        name.replace("conv.0.0.", "conv.")
        .replace("blocks.0.0.", "blocks.0.")
        .replace("blocks.1.0.", "blocks.1.")
        .replace("blocks.2.0.", "blocks.2.")
        .replace("blocks.3.0.", "blocks.3."): x
        for name, x in peer.weights.items()
    }
    assert old.keys() != peer.weights.keys()
    for part in ("weight", "bias"):  # of the background's box
        old[f"roi_heads.box_predictor.bbox_pred.{part}"][:4] = 1
    np.savez(path := tmp_path / "old.npz", **old)
    fields = {k: v for k, v in peer.fields.items() if k != "norm_epsilon"}
    model, variables, report = zoo.load_with_report("fasterrcnn_resnet50_fpn", path, **fields)
    assert (report.source, report.problems, model.norm_epsilon) == ("torchvision", 0, 0.0)

    zoo.save(model, variables, back := tmp_path / "back.safetensors", source="torchvision")
    written = load_file(back)
    for part in ("weight", "bias"):
        name = f"roi_heads.box_predictor.bbox_pred.{part}"
        np.testing.assert_array_equal(written[name][:4], 0)
        np.testing.assert_array_equal(written[name][4:], old[name][4:])
    assert written.keys() == peer.weights.keys()


def test_a_new_number_of_classes_keeps_all_but_the_predictor(golden, tmp_path):
    peer = golden("faster_rcnn_torchvision_v1")
    np.savez(path := tmp_path / "weights.npz", **peer.weights)
    fields = {**peer.fields, "num_classes": 3}
    _, variables, report = zoo.load_with_report("fasterrcnn_resnet50_fpn", path, **fields)
    assert {p.rpartition("/")[0] for p in report.reinitialised} == {
        "params/box/predictor/logits",
        "params/box/predictor/deltas",
    }
    assert variables["params"]["box"]["predictor"]["logits"]["bias"].shape == (4,)


def drawn(num_objects=2, **fields):
    """A nano, its variables, a padded batch, and targets of which the last is padding."""
    model = zoo.create("fasterrcnn_nano", num_classes=3, **fields)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    valid = jnp.arange(64) < jnp.array([64, 48])[:, None, None]
    valid = jnp.broadcast_to(valid, (2, 64, 64))
    boxes = jnp.array([[[4.0, 5, 20, 28], [30, 30, 45, 56], [0, 0, 0, 0]]] * 2)
    targets = Targets(
        boxes,
        jnp.array([[0, 2, 0]] * 2),
        jnp.arange(3) < jnp.array([[num_objects]] * 2),
        sizes_of(valid),
        jnp.array([True, True]),
    )
    variables = jax.jit(model.init)(jax.random.key(1), images)
    return model, variables, images, valid, targets


def test_proposals_are_within_each_image():
    model, variables, images, valid, _ = drawn()
    head = variables["params"]["rpn"]["head"]
    head["deltas"] = jax.tree.map(lambda x: 100 * x, head["deltas"])  # boxes beyond the image
    output = jax.jit(model.apply)(variables, images, valid)
    boxes, good = np.asarray(output.proposals), np.asarray(output.proposals_valid)
    assert good.sum(axis=1).min() > 10
    assert boxes[1][good[1]][:, [0, 2]].max() == 48
    assert boxes[0][good[0]].min() == 0


@pytest.mark.parametrize("num_objects", [0, 2])
def test_samples_of_a_training_step(num_objects):
    model, variables, images, valid, targets = drawn(num_objects)
    apply = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    rngs = {"sample": jax.random.key(2)}
    output, _ = apply(variables, images, valid, targets=targets, rngs=rngs)
    rois, anchors = output.roi_samples, output.anchor_samples
    assert rois.boxes.shape == (2, 32, 4)
    assert anchors.index.shape == (2, 64)
    assert bool(anchors.drawn.all())
    # At most a quarter is positive, and the true boxes are.
    assert rois.positive.sum(axis=1).max() <= 8
    assert (rois.positive.sum(axis=1) >= num_objects).all()
    assert (anchors.positive.sum(axis=1) >= num_objects).all()
    np.testing.assert_array_equal(rois.labels == 3, ~np.asarray(rois.positive))
    assert set(np.unique(rois.labels[rois.positive])) == ({0, 2} if num_objects else set())
    losses, _ = TwoStageLoss()(output, targets)
    assert all(bool(jnp.isfinite(loss.value())) for loss in losses.values())
    assert (losses["box"].value() > 0) == (num_objects > 0)

    other, _ = apply(variables, images, valid, targets=targets, rngs={"sample": jax.random.key(3)})
    assert bool((other.anchor_samples.index != anchors.index).any())


def test_an_image_that_fills_the_batch_has_no_loss():
    model, variables, images, valid, targets = drawn()
    apply = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    output, _ = apply(variables, images, valid, targets=targets)
    both = TwoStageLoss()(output, targets)[0]
    first = TwoStageLoss()(output, targets.replace(image_valid=jnp.array([True, False])))[0]
    second = TwoStageLoss()(output, targets.replace(image_valid=jnp.array([False, True])))[0]
    for name, whole in both.items():
        part = first[name] + second[name]
        np.testing.assert_allclose(part.total, whole.total, rtol=1e-5)
        np.testing.assert_allclose(part.weight, whole.weight)


def test_the_loss_needs_samples():
    model, variables, images, valid, targets = drawn()
    output = jax.eval_shape(model.apply, variables, images, valid)
    with pytest.raises(ValueError, match="train=True and targets"):
        TwoStageLoss()(output, targets)
    with pytest.raises(InputError, match=r"loss\.box_beta is -1.0"):
        TwoStageLoss(box_beta=-1.0)


def test_duplicates_of_a_class_are_suppressed_and_background_is_no_detection():
    boxes = jnp.array([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 50], [0, 0, 30, 30]]])
    scores = jnp.array(
        [[[0.6, 0.3, 0.1], [0.5, 0.06, 0.44], [0.02, 0.9, 0.08], [0.04, 0.01, 0.95]]]
    )
    deltas = jnp.zeros((1, 4, 2, 4))
    valid, sizes = jnp.ones((1, 4), bool), jnp.array([[45, 35]])
    found = RoiDecoding().from_logits(jnp.log(scores), deltas, boxes, valid, sizes)
    count = int(found.valid.sum())
    np.testing.assert_allclose(found.scores[0, :count], [0.9, 0.6, 0.3], rtol=1e-5)
    np.testing.assert_array_equal(found.labels[0, :count], [1, 0, 1])
    np.testing.assert_allclose(found.boxes[0, 0], [20, 20, 35, 45])  # clipped to the image
