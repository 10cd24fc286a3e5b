"""SSD's parts, against torchvision's outputs on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.zoo.models.detection.dense import assert_detections_equal, assert_losses_equal, output_of
from tests.zoo.models.detection.rcnn import assert_near, small_targets, targets_of
from zoo.models.detection.parts.class_decoding import ClassDecoding
from zoo.models.detection.parts.dense import DenseOutput
from zoo.models.detection.ssd.loss import SSDLoss
from zoo.types import InputError

# `test_goldens.py` compares the outputs of both cases.
CASES = ["ssd_torchvision", pytest.param("ssd_torchvision_lite", marks=pytest.mark.slow)]
LOSSES = {"classification": "class", "bbox_regression": "box"}


@pytest.mark.parametrize("case", CASES)
def test_maps_boxes_detections_and_losses_equal_torchvisions(golden, case):
    peer = golden(case)
    maps = jax.jit(lambda v, x: peer.model.apply(v, x, method="features"))(
        peer.variables, peer.images
    )
    assert len(maps) >= 5
    for i, found in list(enumerate(maps))[1:]:
        assert_near(found, peer.groups[f"maps/{i}"], f"maps/{i}")
    assert_detections_equal(peer)
    metrics = assert_losses_equal(peer, SSDLoss(), LOSSES)
    assert 0 < metrics["matched_objects"] < 1  # one object only has the box that overlaps it most


@pytest.mark.parametrize("case", CASES)
def test_the_way_back_to_torchvision(golden, case, tmp_path):
    peer = golden(case)
    zoo.save(peer.model, peer.variables, path := tmp_path / "back.safetensors", "torchvision")
    written = load_file(path)
    theirs = {k: x for k, x in peer.weights.items() if "num_batches_tracked" not in k}
    assert written.keys() == theirs.keys()
    for name, x in theirs.items():
        np.testing.assert_array_equal(written[name], x, err_msg=name)


def test_a_new_number_of_classes_keeps_all_but_the_logits(golden, tmp_path):
    peer = golden("ssd_torchvision")
    np.savez(path := tmp_path / "weights.npz", **peer.weights)
    _, _, report = zoo.load_with_report(peer.name, path, **{**peer.fields, "num_classes": 3})
    layers = {name.rpartition("/")[0] for name in report.reinitialised}
    assert layers == {f"params/head/logits_{i}" for i in range(5)}


@pytest.mark.parametrize(
    ("name", "sides", "count"),
    [
        ("ssd300_vgg16", [38, 19, 10, 5, 3, 1], 8732),
        ("ssd512_vgg16", [64, 32, 16, 8, 4, 2, 1], 24564),
        ("ssdlite320_mobilenet_v3_large", [20, 10, 5, 3, 2, 1], 3234),
    ],
)
def test_maps_and_boxes_of_the_papers(name, sides, count):
    """The numbers of boxes are the papers' and torchvision's."""
    model = zoo.create(name)
    size = zoo.preprocessing(name).size
    assert size == (model.image_size, model.image_size)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    output, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    assert [x.shape[1:3] for x in maps] == [(side, side) for side in sides]
    assert output.anchors.shape == (1, count, 4)


def test_only_the_hardest_negatives_have_a_loss(golden):
    """By hand: the positives, and three negatives of an image for each of its positives."""
    peer = golden("ssd_torchvision")
    output, targets = output_of(peer), targets_of(peer)
    loss = SSDLoss(negatives=2.0)
    matches = loss.match(output, targets)
    total, count = 0.0, 0
    for i in range(2):
        logits = np.asarray(output.logits[i], np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        positive = np.asarray(matches.positive[i])
        labels = np.asarray(targets.labels[i])[np.asarray(matches.object[i])]
        total -= log_p[positive, labels[positive]].sum()
        negatives = np.sort(-log_p[~positive, -1])[::-1]
        total += negatives[: 2 * positive.sum()].sum()
        count += positive.sum()
    found = loss(output, targets)[0]["class"]
    np.testing.assert_allclose(found.total, total, rtol=1e-5)
    assert found.weight == count


def test_without_objects_there_is_no_loss():
    """As in torchvision: an image without positive boxes has no negative ones either."""
    model = zoo.create("ssd_nano", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    output, _ = jax.jit(model.init_with_output)(jax.random.key(1), images)
    targets = small_targets()
    losses = SSDLoss()(output, targets)[0]
    assert all(mean.value() > 0 for mean in losses.values())
    losses = SSDLoss()(output, targets.replace(valid=jnp.zeros((2, 2), bool)))[0]
    assert all(mean.value() == 0 for mean in losses.values())
    second = SSDLoss()(output, targets.replace(image_valid=jnp.array([False, True])))[0]
    assert all(mean.total == 0 for mean in second.values())


def test_each_class_has_its_own_candidates_and_suppression():
    anchors = jnp.array([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 50]]])
    probabilities = jnp.array([[[0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]])
    output = DenseOutput(jnp.log(probabilities), jnp.zeros((1, 3, 4)), anchors)
    sizes = jnp.array([[45, 35]])
    found = ClassDecoding()(output, sizes)
    count = int(found.valid.sum())
    np.testing.assert_allclose(found.scores[0, :count], [0.6, 0.4, 0.3, 0.2], rtol=1e-5)
    np.testing.assert_array_equal(found.labels[0, :count], [0, 1, 1, 0])
    np.testing.assert_allclose(found.boxes[0, 2], [20, 20, 35, 45])
    found = ClassDecoding(candidates=1)(output, sizes)
    np.testing.assert_allclose(found.scores[0], [0.6, 0.4], rtol=1e-5)
    found = ClassDecoding(most=1, score_threshold=0.7)(output, sizes)
    assert found.valid.tolist() == [[False]]


def test_wrong_settings_of_the_loss():
    with pytest.raises(InputError, match=r"loss\.negatives is -1.0"):
        SSDLoss(negatives=-1.0)
