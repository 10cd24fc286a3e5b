"""Faster R-CNN without a pyramid, with a PAFPN, and as mmdet has it: on drawn weights.

`tests/zoo/models/test_goldens.py` compares the outputs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.zoo.models.detection.rcnn import (
    DETECTRON2,
    assert_boxes_equal,
    assert_losses_equal,
    assert_maps_equal,
    detections_of,
    targets_of,
)
from zoo.models.detection.parts.decode import RoiDecoding, softmax_rois
from zoo.models.detection.parts.losses import DETECTRON2_LOSS
from zoo.types import InputError

CASES = ["faster_rcnn_mmdet", "faster_rcnn_mmdet_pafpn", "faster_rcnn_detectron2_c4"]


@pytest.fixture(scope="module", params=CASES)
def peer(request, golden):
    return golden(request.param)


def test_maps_and_anchors_equal_the_peers(peer):
    assert_maps_equal(peer)
    output = jax.eval_shape(peer.model.apply, peer.variables, *peer.inputs)
    assert output.anchors.shape[1:] == peer.groups["anchors/all"].shape


def test_detections_equal_the_peers(peer):
    """The peers drop no small boxes."""
    rule = RoiDecoding(min_size=0.0)
    assert_boxes_equal(peer, detections_of(peer, lambda *x: softmax_rois(*x, rule)))


@pytest.mark.slow
def test_losses_on_the_fourth_map_equal_detectron2s(golden):
    peer = golden("faster_rcnn_detectron2_c4")
    assert_losses_equal(peer, DETECTRON2_LOSS, targets_of(peer), DETECTRON2)


@pytest.mark.parametrize("case", ["faster_rcnn_mmdet", "cascade_rcnn_mmdet"])
def test_a_file_of_mmdet_gives_the_model_its_conventions(golden, tmp_path, case):
    peer = golden(case)
    np.savez(path := tmp_path / "mmdet.npz", **peer.weights)
    given = {k: peer.fields[k] for k in ("backbone_fields", "pyramid_dim", "box_dims")}
    tops = {k: v for k, v in peer.fields["proposal_fields"].items() if k != "min_size"}
    fields = {"num_classes": 5, "proposal_fields": tops, **given}
    model, variables, report = zoo.load_with_report(peer.name, path, **fields)
    assert (report.source, report.problems) == ("mmdet", 0)
    assert model.pooling_fields == peer.model.pooling_fields
    anchors = {"order": "ratio", "rounded": False}
    assert model.anchor_fields == {**peer.model.anchor_fields, **anchors}
    assert model.proposal_fields == {"train_kept": 1000, "min_size": 0.0, **tops}
    assert model.preprocessing is None  # as the variant says

    zoo.save(model, variables, back := tmp_path / "back.safetensors", source="mmdet")
    written = load_file(back)
    for name, x in written.items():  # the last layer of a cascade is scaled, and back
        np.testing.assert_allclose(x, peer.weights[name], rtol=1e-6, atol=0, err_msg=name)
    counters = {name for name in peer.weights if name.endswith("num_batches_tracked")}
    assert written.keys() == peer.weights.keys() - counters


def test_caffes_backbones_take_pixels_of_0_to_255():
    fields = {"backbone_fields": {"stride_in_1x1": True}}
    model = zoo.create("fasterrcnn_resnet50_fpn", **fields)
    family = zoo.registry.family_of(model)
    how = next(m for m in family.names if m.source == "mmdet").preprocessing(model, "file.pth")
    assert how.std == (1 / 255,) * 3


def test_the_region_head_of_the_fourth_map_is_the_last_stage():
    model = zoo.create("fasterrcnn_resnet50_c4")
    images = jnp.zeros((1, 75, 90, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    assert {name.rpartition("_")[0] for name in shapes["box"]["stage"]} == {"stages_3"}
    assert not any(name.startswith("stages_3") for name in shapes["body"])
    assert shapes["rpn"]["head"]["conv_0"]["kernel"].shape == (3, 3, 1024, 1024)


def test_a_neck_is_a_known_one_and_none_needs_a_resnet():
    with pytest.raises(InputError, match="needs a ResNet"):
        zoo.create("fasterrcnn_nano", neck="none", backbone="mobilenetv3_nano", backbone_fields={})
    with pytest.raises(InputError, match="neck 'bifpn' is not one of fpn, pafpn, panet, none"):
        zoo.create("fasterrcnn_nano", neck="bifpn")
