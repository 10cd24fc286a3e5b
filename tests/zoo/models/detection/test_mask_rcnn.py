"""Mask R-CNN's parts, against torchvision's and detectron2's outputs on drawn weights."""

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
    assert_near,
    detections_of,
    sizes_of,
    small_model,
    small_targets,
    targets_of,
)
from zoo.models.detection.parts.losses import DETECTRON2_LOSS
from zoo.models.detection.parts.mask_loss import MaskRCNNLoss
from zoo.models.detection.parts.objects import mask_detections
from zoo.ops.instance_masks import paste_masks
from zoo.types import InputError

BLOCKS = ("inner_blocks", "layer_blocks")
MASK_LOGITS = "roi_heads.mask_predictor.mask_fcn_logits.weight"
CASES = ["mask_rcnn_torchvision_v1", "mask_rcnn_torchvision_v2", "mask_rcnn_detectron2"]
CASES += ["mask_rcnn_detectron2_c4"]
# `test_goldens.py` compares the outputs of all cases.
SHORT = [CASES[0], *(pytest.param(case, marks=pytest.mark.slow) for case in CASES[1:])]


@pytest.fixture(scope="module", params=SHORT)
def peer(request, golden):
    return golden(request.param)


def test_masks_of_detections_equal_the_peers(peer):
    found = detections_of(peer, mask_detections)
    assert found.paste == ("centres" if peer.source == "detectron2" else "whole_pixels")
    for i, count in enumerate(assert_boxes_equal(peer, found)):
        expected = peer.groups[f"detections/{i}/masks"][:, 0]
        assert np.ptp(expected) > 0.1
        assert_near(found.mask_crops[i][:count], expected, "masks")


@pytest.mark.parametrize("case", SHORT[:2])
def test_masks_in_the_image_equal_torchvisions(golden, case):
    peer = golden(case)
    found = detections_of(peer, mask_detections)
    for i, size in enumerate(np.asarray(sizes_of(peer.inputs[1])).tolist()):
        pasted = peer.groups[f"detections/{i}/pasted"]
        shown = found.mask_crops[i][: len(pasted)], found.boxes[i][: len(pasted)]
        assert_near(paste_masks(*shown, tuple(size), found.paste), pasted, "pasted")


def test_losses_equal_the_peers_for_the_same_samples(peer):
    """Also with batch norm, whose statistics do not count filling."""
    loss, names = MaskRCNNLoss(), TORCHVISION
    if peer.source == "detectron2":
        loss, names = MaskRCNNLoss(**vars(DETECTRON2_LOSS), binary_masks=True), DETECTRON2
    targets = targets_of(peer, masks=jnp.asarray(peer.groups["targets/masks"]))
    assert_losses_equal(peer, loss, targets, {**names, "loss_mask": "mask"})


@pytest.fixture(scope="module")
def nano():
    return small_model("maskrcnn_nano", MaskRCNNLoss(), "mask")


def drawn_masks():
    return jax.random.bernoulli(jax.random.key(2), 0.4, (2, 2, 64, 64))


def test_an_image_that_is_padding_does_not_count_and_without_objects_the_loss_is_zero(nano):
    _, variables, losses = nano
    targets = small_targets(masks=drawn_masks())
    whole = losses(variables["params"], targets)[1]["mask"]
    assert whole.weight == 28**2 * 2  # the two true boxes: random proposals overlap less
    np.testing.assert_allclose(whole.value(), np.log(2), rtol=0.02)  # the last layer starts small
    none = targets.replace(image_valid=jnp.array([False, True]))
    gradient, found = losses(variables["params"], none)
    assert found["mask"].weight == 0
    assert all(not jnp.any(x) for x in jax.tree.leaves(gradient))  # and is a number


@pytest.mark.slow
def test_masks_in_frames_have_the_loss_of_those_of_the_image(nano):
    """The two true boxes are the only positive regions; their cells fit those of the frames."""
    _, variables, losses = nano
    boxes = small_targets().boxes
    rows, columns = jnp.arange(64)[:, None] + 0.5, jnp.arange(64) + 0.5
    left, top, right, bottom = (boxes[..., i, None, None] for i in range(4))
    upper = (rows < (top + bottom) / 2) & (columns > left) & (columns < right) & (rows > top)
    whole = losses(variables["params"], small_targets(masks=upper))
    cells = jnp.broadcast_to(jnp.arange(112)[:, None] < 56, (2, 2, 112, 112))
    crops = small_targets(masks=(cells * 255).astype(jnp.uint8), mask_frames=boxes)
    small = losses(variables["params"], crops)
    assert small[1]["mask"].weight == whole[1]["mask"].weight > 0
    np.testing.assert_allclose(small[1]["mask"].value(), whole[1]["mask"].value(), rtol=1e-3)
    largest = max(jnp.abs(x).max() for x in jax.tree.leaves(whole[0]["mask"]))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=0.05 * largest),
        small[0]["mask"],
        whole[0]["mask"],
    )
    lower = crops.replace(masks=crops.masks[:, :, ::-1])
    gradient = losses(variables["params"], lower)[0]["mask"]
    differences = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), gradient, whole[0]["mask"])
    assert max(jax.tree.leaves(differences)) > 0.2 * largest


def test_data_without_masks_are_refused(nano):
    _, variables, losses = nano
    with pytest.raises(InputError, match=r"data\.masks=true"):
        losses(variables["params"], small_targets())


def test_predict_gives_masks_in_pixels_of_the_image_inside_the_boxes(nano):
    model, variables, _ = nano
    image = np.random.default_rng(0).integers(0, 256, (48, 90, 3), np.uint8)
    found = zoo.predict(model, variables, image)
    assert found.masks.shape == (20, 48, 90)
    assert found.masks.dtype == bool
    assert found.mask_crops is None
    rows, columns = np.arange(48)[:, None], np.arange(90)
    for mask, (left, top, right, bottom) in zip(found.masks, found.boxes, strict=True):
        # The ring of a half cell that torchvision adds, and whole pixels.
        x, y = 1 + (right - left) / 28, 1 + (bottom - top) / 28
        inside = (columns > left - x) & (columns < right + x) & (rows > top - y)
        assert not mask[~(inside & (rows < bottom + y))].any()
    assert found.masks.any() and not found.masks.all()


def test_names_of_files_from_before_torchvision_0_13_and_the_way_back(golden, tmp_path):
    peer = golden("mask_rcnn_torchvision_v1")
    names = {f"mask_head.{i}.0.": f"mask_head.mask_fcn{i + 1}." for i in range(2)}
    names |= {".conv.0.0.": ".conv."}
    names |= {f"{block}.{i}.0.": f"{block}.{i}." for block in BLOCKS for i in range(4)}
    old = {}
    for name, array in peer.weights.items():
        for now, before in names.items():
            name = name.replace(now, before)
        old[name] = array
    assert "roi_heads.mask_head.mask_fcn2.weight" in old
    np.savez(tmp_path / "old.npz", **old)
    model, variables, report = zoo.load_with_report(peer.name, tmp_path / "old.npz", **peer.fields)
    assert report.source == "torchvision"
    jax.tree.map(np.testing.assert_array_equal, variables, peer.variables)
    zoo.save(model, variables, tmp_path / "new.safetensors", source="torchvision")
    logits = load_file(tmp_path / "new.safetensors")[MASK_LOGITS]
    assert not logits[0].any()  # the background's mask, which nothing uses
    np.testing.assert_array_equal(logits[1:], peer.weights[MASK_LOGITS][1:])


def test_a_file_of_detectron2_gives_the_model_its_conventions(golden, tmp_path):
    peer = golden("mask_rcnn_detectron2")
    np.savez(tmp_path / "model.npz", **peer.weights)
    left_out = ("paste", "pooling_fields", "anchor_fields")
    fields = {name: value for name, value in peer.fields.items() if name not in left_out}
    fields |= {"decoding_fields": {"most": 6}}
    model, _, report = zoo.load_with_report(peer.name, tmp_path / "model.npz", **fields)
    assert report.source == "detectron2"
    assert model.clone(preprocessing=None) == peer.model
