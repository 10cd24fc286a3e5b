"""EfficientDet's parts, against effdet's outputs on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.zoo.models.detection.dense import assert_detections_equal, assert_losses_equal, output_of
from tests.zoo.models.detection.rcnn import assert_near, small_targets, targets_of
from zoo.models.detection.efficientdet.loss import EfficientDetLoss
from zoo.models.detection.parts.dense import DenseDecoding, DenseOutput
from zoo.models.detection.parts.inputs import pad_images
from zoo.types import InputError


@pytest.fixture(scope="module")
def nano():
    """A small model with random weights, its variables, two images, and a compiled call."""
    model = zoo.create("efficientdet_nano", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    return jax.jit(model.init)(jax.random.key(1), images), images, jax.jit(model.apply)


CASES = {"efficientdet_effdet": 64, "efficientdet_effdet_tf": 128}


@pytest.mark.parametrize(
    "case", ["efficientdet_effdet", pytest.param("efficientdet_effdet_tf", marks=pytest.mark.slow)]
)
def test_maps_anchors_detections_and_losses_equal_effdets(golden, case):
    peer = golden(case)
    images, _ = pad_images(*peer.inputs, CASES[case])
    maps = jax.jit(lambda v, x: peer.model.apply(v, x, method="features"))(peer.variables, images)
    checked = [name for name in peer.groups if name.startswith("maps/")]
    assert len(checked) == len(maps) - 1
    for i, found in list(enumerate(maps))[1:]:
        assert_near(found, peer.groups[f"maps/{i}"], f"maps/{i}")
    assert_detections_equal(peer)
    losses = {"class": "class", "box": "box"}
    metrics = assert_losses_equal(peer, EfficientDetLoss(), losses)
    assert 0 < metrics["matched_objects"] < 1  # one object only has the anchor that fits it best


@pytest.mark.parametrize("case", CASES)
def test_the_way_back_to_effdet(golden, case, tmp_path):
    peer = golden(case)
    zoo.save(peer.model, peer.variables, path := tmp_path / "back.safetensors", "effdet")
    written = load_file(path)
    theirs = {k: x for k, x in peer.weights.items() if "num_batches_tracked" not in k}
    assert written.keys() == theirs.keys()
    for name, x in theirs.items():
        np.testing.assert_array_equal(written[name], x, err_msg=name)


def test_a_new_number_of_classes_keeps_all_but_the_logits(golden, tmp_path):
    peer = golden("efficientdet_effdet")
    np.savez(path := tmp_path / "weights.npz", **peer.weights)
    fields = {**peer.fields, "num_classes": 3}
    _, variables, report = zoo.load_with_report(peer.name, path, **fields)
    layer = "params/head/logits/pointwise"
    assert set(report.reinitialised) == {f"{layer}/kernel", f"{layer}/bias"}
    bias = variables["params"]["head"]["logits"]["pointwise"]["bias"]
    np.testing.assert_allclose(jax.nn.sigmoid(bias), 0.01, rtol=1e-5)


def test_levels_and_anchors_of_d0():
    """The numbers of cells and anchors are effdet's, for 512 px."""
    model = zoo.create("efficientdet_d0")
    images = jax.ShapeDtypeStruct((1, 512, 512, 3), jnp.float32)
    output, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert output.level_sizes == tuple(9 * side**2 for side in (64, 32, 16, 8, 4))
    assert output.logits.shape == (1, 49104, 90)
    assert "last_conv" not in variables["params"]["body"]


def test_candidates_are_those_of_all_levels_together():
    logits = jnp.array([[[3.0], [2.0], [1.0], [2.5]]])
    anchors = 20 * jnp.arange(4.0)[:, None] + jnp.array([0.0, 0, 10, 10])
    output = DenseOutput(logits, jnp.zeros((1, 4, 4)), anchors[None], level_sizes=(3, 1))
    sizes = jnp.array([[100, 100]])
    together = jax.jit(DenseDecoding(candidates=2, per_level=False).__call__)(output, sizes)
    np.testing.assert_allclose(together.boxes[0, :, 0], [0, 60])
    each = jax.jit(DenseDecoding(candidates=2).__call__)(output, sizes)
    np.testing.assert_allclose(each.boxes[0, :, 0], [0, 60, 20])


def test_each_level_has_its_own_norms(nano):
    variables, images, apply = nano
    tower = variables["params"]["head"]["class_tower"]
    assert sorted(tower) == ["conv_0", *(f"norm_0_{level}" for level in range(2))]

    def logits(tower):
        """The logits of each level."""
        head = {**variables["params"]["head"], "class_tower": tower}
        output = apply({**variables, "params": {**variables["params"], "head": head}}, images)
        return np.split(output.logits, np.cumsum(output.level_sizes)[:-1], axis=1)

    norm = tower["norm_0_1"]
    other = {**tower, "norm_0_1": {**norm, "bias": norm["bias"] + 1}}
    pairs = zip(logits(tower), logits(other), strict=True)
    assert [bool((a != b).any()) for a, b in pairs] == [False, True]


def test_loss_by_hand(golden):
    """The normaliser is the number of positive anchors plus 1; the boxes' losses are Huber's."""
    peer = golden("efficientdet_effdet")
    output, targets = output_of(peer), targets_of(peer)
    loss = EfficientDetLoss(delta=0.3, box_weight=2.0)
    matches, found = jax.jit(lambda *x: (loss.match(*x), loss(*x)[0]))(output, targets)
    total, count = 0.0, 0
    for i in range(2):
        positive = np.asarray(matches.positive[i])
        boxes = np.asarray(targets.boxes[i])[np.asarray(matches.object[i])[positive]]
        anchors = np.asarray(output.anchors[i])[positive]
        size, scale = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
        shift = (boxes[:, :2] + size / 2 - anchors[:, :2] - scale / 2) / scale
        wanted = np.concatenate([shift, np.log(size / scale)], axis=1)
        errors = np.abs(np.asarray(output.deltas[i])[positive] - wanted)
        huber = np.where(errors < 0.3, errors**2 / 2, 0.3 * (errors - 0.15))
        total += huber[wanted != 0].sum() / 4
        count += positive.sum()
    np.testing.assert_allclose(found["box"].total, 2 * total, rtol=1e-4)
    assert found["box"].weight == found["class"].weight == count + 1


def test_an_image_without_objects_has_only_a_loss_of_classes(nano):
    variables, images, apply = nano
    output = apply(variables, images)
    assert_near(jax.nn.sigmoid(output.logits).mean(), 0.01, "probability")
    targets = small_targets()
    loss = jax.jit(EfficientDetLoss().__call__)
    assert all(mean.value() > 0 for mean in loss(output, targets)[0].values())
    losses = loss(output, targets.replace(valid=jnp.zeros((2, 2), bool)))[0]
    assert losses["box"].value() == 0
    assert losses["class"].value() > 0


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"high": 1.5}, r"loss\.high is 1.5, but must be at most 1"),
        ({"delta": -1.0}, r"loss\.delta is -1.0"),
    ],
)
def test_wrong_settings_of_the_loss(fields, match):
    with pytest.raises(InputError, match=match):
        EfficientDetLoss(**fields)
