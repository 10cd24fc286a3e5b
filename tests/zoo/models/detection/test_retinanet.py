"""RetinaNet's parts, against torchvision's, detectron2's and mmdet's outputs on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.zoo.models.detection.dense import (
    assert_detections_equal,
    assert_features_equal,
    assert_losses_equal,
    output_of,
)
from tests.zoo.models.detection.rcnn import assert_near, small_targets, targets_of
from zoo.described import preprocessing_of
from zoo.models.detection.retinanet.loss import RetinaNetLoss
from zoo.ops.anchors import Anchors
from zoo.types import InputError

LOSSES = {
    "retinanet_torchvision_v1": (
        RetinaNetLoss(),
        {"classification": "class", "bbox_regression": "box"},
    ),
    "retinanet_torchvision_v2": (
        RetinaNetLoss(box="giou"),
        {"classification": "class", "bbox_regression": "box"},
    ),
    "retinanet_detectron2": (
        RetinaNetLoss(normaliser="batch"),
        {"loss_cls": "class", "loss_box_reg": "box"},
    ),
    "retinanet_mmdet": (
        RetinaNetLoss(normaliser="batch", low_quality="reassigned_ties"),
        {"loss_cls": "class", "loss_bbox": "box"},
    ),
}
# `test_goldens.py` compares the outputs of all cases.
SLOW = ("retinanet_torchvision_v2", "retinanet_mmdet")
SHORT = [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in LOSSES]


@pytest.mark.parametrize("case", SHORT)
def test_maps_anchors_detections_and_losses_equal_the_peers(golden, case):
    peer = golden(case)
    assert_features_equal(peer)
    assert_detections_equal(peer)
    metrics = assert_losses_equal(peer, *LOSSES[case])
    assert metrics["matched_objects"] == 0.75  # the smallest object has an IoU below 0.5
    assert metrics["positive_level_0"] > 0


def test_old_names_of_torchvision_and_the_way_back(golden, tmp_path):
    peer = golden("retinanet_torchvision_v1")
    old = {}
    for name, x in peer.weights.items():
        for i in range(4):
            name = name.replace(f"conv.{i}.0.", f"conv.{2 * i}!")
        name = name.replace("blocks.0.0.", "blocks.0.").replace("blocks.1.0.", "blocks.1.")
        old[name.replace("blocks.2.0.", "blocks.2.").replace("!", ".")] = x
    assert "head.regression_head.conv.6.weight" in old
    np.savez(path := tmp_path / "old.npz", **old)
    fields = {k: v for k, v in peer.fields.items() if k != "norm_epsilon"}
    model, variables, report = zoo.load_with_report("retinanet_resnet50_fpn", path, **fields)
    assert (report.source, report.problems, model.norm_epsilon) == ("torchvision", 0, 0.0)

    zoo.save(model, variables, back := tmp_path / "back.safetensors", source="torchvision")
    written = load_file(back)
    assert written.keys() == peer.weights.keys()
    for part, first in (("weight", 0), ("bias", -20)):
        name = f"head.classification_head.cls_logits.{part}"
        shape = (9, 6, *written[name].shape[1:])
        columns, expected = written[name].reshape(shape), peer.weights[name].reshape(shape)
        np.testing.assert_array_equal(columns[:, 1:], expected[:, 1:])
        np.testing.assert_array_equal(columns[:, 0], first)


@pytest.mark.parametrize(("source", "std"), [("detectron2", 1 / 255), ("mmdet", 0.229)])
def test_files_of_other_sources_give_the_model_their_conventions(golden, tmp_path, source, std):
    peer = golden(f"retinanet_{source}")
    np.savez(path := tmp_path / "weights.npz", **peer.weights)
    body = {k: v for k, v in peer.fields["backbone_fields"].items() if k != "stride_in_1x1"}
    kept = ("score_threshold", "candidates")
    decoding = {k: peer.fields["decoding_fields"][k] for k in kept}
    narrow = {"num_classes": 5, "pyramid_dim": 8, "num_convs": 2}
    fields = {**narrow, "backbone_fields": body, "decoding_fields": decoding}
    model, _, report = zoo.load_with_report("retinanet_resnet50_fpn_c5", path, **fields)
    assert (report.source, report.problems) == (source, 0)
    assert preprocessing_of(model).std[0] == std
    ours, theirs = (dict(m.decoding_fields) for m in (model, peer.model))
    assert {**theirs, "most": 100} == ours
    anchors = [Anchors(**m.anchor_fields) for m in (model, peer.model)]
    assert anchors[0] == anchors[1]
    same = ("preprocessing", "anchor_fields", "decoding_fields")
    assert model.clone(**{k: getattr(peer.model, k) for k in same}) == peer.model


def test_a_new_number_of_classes_keeps_all_but_the_logits(golden, tmp_path):
    peer = golden("retinanet_torchvision_v2")
    np.savez(path := tmp_path / "weights.npz", **peer.weights)
    fields = {**peer.fields, "num_classes": 3}
    _, variables, report = zoo.load_with_report(peer.name, path, **fields)
    layer = "params/head/logits"
    assert set(report.reinitialised) == {f"{layer}/kernel", f"{layer}/bias"}
    bias = variables["params"]["head"]["logits"]["bias"]
    np.testing.assert_allclose(jax.nn.sigmoid(bias), 0.01, rtol=1e-5)


@pytest.mark.slow
def test_the_normaliser_of_the_batch_is_that_of_one_image_for_one_image(golden):
    peer = golden("retinanet_torchvision_v2")
    output, targets = output_of(peer), targets_of(peer)
    for i, other in ((0, 1), (1, 0)):
        one = targets.replace(image_valid=jnp.arange(2) == i)
        image, batch = (RetinaNetLoss(normaliser=n)(output, one)[0] for n in ("image", "batch"))
        alone = targets.replace(valid=targets.valid.at[other].set(False))
        for name, mean in image.items():
            assert mean.value() > 0
            np.testing.assert_allclose(mean.value(), batch[name].value(), rtol=1e-6)
        empty = RetinaNetLoss(normaliser="batch")(output, alone)[0]
        np.testing.assert_allclose(empty["box"].value(), batch["box"].value(), rtol=1e-6)


def test_an_image_without_objects_has_only_a_loss_of_classes():
    model = zoo.create("retinanet_nano", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    targets = small_targets()

    def box_loss(params, targets):
        output = model.apply({**variables, "params": params}, images)
        losses, _ = RetinaNetLoss()(output, targets)
        return losses["box"].value(), losses["class"].value()

    grad = jax.jit(jax.value_and_grad(box_loss, has_aux=True))
    none = targets.replace(valid=jnp.zeros((2, 2), bool))
    (value, classes), gradient = grad(variables["params"], none)
    assert value == 0
    assert classes > 0
    assert not any(bool(x.any()) for x in jax.tree.leaves(gradient))
    (value, _), gradient = grad(variables["params"], targets)
    assert value > 0
    assert bool(gradient["head"]["deltas"]["kernel"].any())
    assert not bool(gradient["head"]["logits"]["kernel"].any())


def test_first_probabilities_are_small_so_that_negatives_do_not_dominate():
    model = zoo.create("retinanet_nano", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (1, 64, 64, 3))
    output, _ = jax.jit(model.init_with_output)(jax.random.key(1), images)
    assert_near(jax.nn.sigmoid(output.logits).mean(), 0.01, "probability")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"high": 0.3}, r"loss\.high is 0.3, but must be in loss\.low=0.4..1"),
        ({"gamma": -1.0}, r"loss\.gamma is -1.0"),
    ],
)
def test_wrong_settings_of_the_loss(fields, match):
    with pytest.raises(InputError, match=match):
        RetinaNetLoss(**fields)
