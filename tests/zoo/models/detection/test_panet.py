"""PANet against a definition in PyTorch on drawn weights, with the names of the authors' code.

`tests/zoo/models/test_goldens.py` compares the outputs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.zoo.models.detection.rcnn import (
    assert_boxes_equal,
    assert_maps_equal,
    assert_near,
    detections_of,
    small_model,
    small_targets,
)
from zoo.models.detection.parts.mask_loss import MaskRCNNLoss
from zoo.models.detection.parts.objects import mask_detections
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.types import InputError


@pytest.fixture(scope="module")
def peer(golden):
    return golden("panet_panet")


def test_maps_and_anchors_equal_the_peers(peer):
    assert_maps_equal(peer)
    output = jax.jit(peer.model.apply)(peer.variables, *peer.inputs)
    expected = peer.groups["anchors/all"]
    np.testing.assert_allclose(output.anchors[1], expected, rtol=1e-6, atol=1e-5)


def test_detections_and_masks_equal_the_peers(peer):
    found = detections_of(peer, mask_detections)
    for i, count in enumerate(assert_boxes_equal(peer, found)):
        expected = peer.groups[f"detections/{i}/masks"]
        assert np.ptp(expected) > 0.1
        assert_near(found.mask_crops[i][:count], expected, "masks")


def test_a_file_of_the_authors_gives_the_model_its_conventions(peer, tmp_path):
    np.savez(path := tmp_path / "model_step179999.npz", **peer.weights)
    implied = ("norm_epsilon", "backbone_fields")
    fields = {name: value for name, value in peer.fields.items() if name not in implied}
    body = {k: v for k, v in peer.fields["backbone_fields"].items() if k != "stride_in_1x1"}
    model, variables, report = zoo.load_with_report(
        "panet_resnet50_fpn", path, **fields, backbone_fields=body
    )
    assert (report.source, report.problems) == ("panet", 0)
    assert model.clone(preprocessing=None) == peer.model
    assert model.preprocessing.std == (1 / 255,) * 3
    assert set(report.implied) == {p for p in report.implied if p.startswith("batch_stats/body/")}
    np.testing.assert_array_equal(variables["batch_stats"]["body"]["stem_norm"]["var"], 1)

    zoo.save(model, variables, back := tmp_path / "back.safetensors", source="panet")
    written = load_file(back)
    assert written.keys() == peer.weights.keys()
    for name, x in written.items():
        np.testing.assert_array_equal(x, peer.weights[name], err_msg=name)

    variables["batch_stats"]["body"]["stem_norm"]["var"] += 1
    with pytest.raises(InputError, match="no name for batch_stats/body/stem_norm/var"):
        zoo.save(model, variables, back, source="panet")


def test_a_region_is_pooled_from_every_map():
    """Of maps that rise by one to the right in every cell, the mean is at the middle of the box."""
    maps = [jnp.broadcast_to(jnp.arange(n, dtype=jnp.float32), (1, n, n)) for n in (16, 8)]
    pool = RoiPooling(size=1, sampling_ratio=2)
    boxes = jnp.array([[[8.0, 8.0, 25.0, 25.0], [0, 0, 9, 9]]])
    valid = jnp.array([[True, False]])
    found = pool.from_all([x[..., None] for x in maps], (4, 8), boxes, valid)
    np.testing.assert_allclose(jnp.stack(found)[:, 0, :, 0, 0, 0], [[16.5 / 4, 0], [16.5 / 8, 0]])
    shorter = RoiPooling(size=1, sampling_ratio=2, last_pixel=True)
    found = shorter.from_all([x[..., None] for x in maps], (4, 8), boxes, valid)
    np.testing.assert_allclose(jnp.stack(found)[:, 0, 0, 0, 0, 0], [4, 2])


@pytest.mark.slow
def test_the_loss_of_masks_reaches_every_level_and_both_branches():
    _, variables, losses = small_model("panet_nano", MaskRCNNLoss(), "mask")
    masks = jax.random.bernoulli(jax.random.key(2), 0.4, (2, 2, 64, 64))
    gradient, found = losses(variables["params"], small_targets(masks=masks))
    assert found["mask"].weight == 16**2 * 2
    mask = gradient["mask"]
    layers = [mask["pool"]["level_0"], mask["pool"]["level_1"], mask["head"]["dense_convs"]]
    layers += [mask["head"]["conv"], gradient["pyramid"]]
    for layer in layers:
        assert all(jnp.any(x) for x in jax.tree.leaves(layer))


def test_masks_do_not_see_the_stem():
    model = zoo.create("panet_nano", mask_detail=True)
    with pytest.raises(InputError, match="mask_detail is not for PANet"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
