"""Backbones inside larger models: their names in the files of detectors, and frozen norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.models.backbones import backbone_rules, make_backbone, make_frozen_backbone
from zoo.registry import family_of
from zoo.types import InputError
from zoo.weights.maps import plan
from zoo.weights.tree import abstract_leaves, flatten, unflatten


def trunk(weights):
    """A peer's tensors before the pooling, which detectors have, without counters of batches."""
    heads = ("fc.", "linear.", "classifier.")
    return {
        name.removeprefix("features."): x
        for name, x in weights.items()
        if not name.startswith(heads) and "num_batches" not in name
    }


@pytest.mark.parametrize(
    ("case", "source", "prefix"),
    [
        ("resnet_timm_bottleneck_batch", "torchvision", "backbone.body."),
        ("resnet_timm_bottleneck_batch", "mmdet", "backbone."),
        ("resnet_detectron2_msra", "detectron2", "backbone.bottom_up."),
        ("resnet_detectron2_groups", "detectron2", "backbone."),
        ("mobilenetv3_torchvision", "torchvision", "backbone.body."),
    ],
)
def test_names_in_a_detectors_file(golden, case, source, prefix):
    """Every tensor of the trunk is read, and none that a detector's file does not have."""
    peer = golden(case)
    theirs = {prefix + name: x for name, x in trunk(peer.weights).items()}
    body = make_backbone(peer.name, {**peer.fields, "num_classes": 0}, jnp.float32)
    ours = flatten(peer.variables)
    leaves = [x for x in ours if x.split("/")[1] not in ("head", "hidden")]
    inside = {leaf.replace("/", "/trunk/", 1): ours[leaf] for leaf in leaves}
    steps = plan(backbone_rules(body, source, prefix, "trunk"), inside)
    assert {step.theirs for step in steps} == theirs.keys()
    for step in steps:
        found = step.layout.read(theirs[step.theirs])
        for path, array in zip(step.ours, found, strict=True):
            np.testing.assert_array_equal(array, inside[path], err_msg=path)


def test_a_source_without_the_backbone_has_no_rules():
    assert backbone_rules(make_backbone("vit_nano_patch4_32", {}, jnp.float32), "mmdet", "") == ()


@pytest.mark.parametrize(("caffe", "channels"), [(True, [2, 1, 0]), (False, [0, 1, 2])])
def test_channels_of_mmdets_styles(caffe, channels):
    """Its style ``caffe``, with the stride in the 1 x 1 convolution, has blue, green and red."""
    fields = {"block": "bottleneck", "stride_in_1x1": caffe}
    body = make_backbone("resnet_nano", fields, jnp.float32)
    (step,) = plan(backbone_rules(body, "mmdet", ""), ["params/body/stem_conv/kernel"])
    weight = np.random.default_rng(0).normal(size=(4, 3, 7, 7))
    (kernel,) = step.layout.read(weight)
    np.testing.assert_array_equal(kernel, weight[:, channels].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(step.layout.write(kernel), weight)


def test_maps_of_torchvisions_detectors(golden):
    """The first block of stride 32 and the last convolution, from weights without a head."""
    peer = golden("mobilenetv3_torchvision")
    fields = {**peer.fields, "map_blocks": (3, 4)}
    body = make_frozen_backbone(peer.name, fields, jnp.float32)
    assert (body.norm, body.feature_strides) == ("frozen", (8, 8))
    shapes = jax.eval_shape(
        lambda x: body.init(jax.random.key(0), x, method="feature_maps"), peer.images
    )
    flat = flatten(peer.variables)
    variables = unflatten({path: flat[path] for path in flatten(shapes)})
    maps = jax.jit(lambda v, x: body.apply(v, x, method="feature_maps"))(variables, peer.images)
    for i, found in enumerate(maps):
        expected = peer.groups[f"detector/{i}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_norms_are_frozen_unless_given():
    for fields, norm in (
        ({}, "frozen"),
        ({"norm": "batch"}, "batch"),
        ({"norm": "group"}, "group"),
    ):
        assert make_frozen_backbone("resnet_nano", fields, jnp.float32).norm == norm
    body = make_frozen_backbone("mixer_nano_patch4_32", {}, jnp.float32)
    assert "head" not in str(list(abstract_leaves(body, family_of(body).example(body))))
    with pytest.raises(InputError, match="no backbone 'resnet_5'"):
        make_frozen_backbone("resnet_5", {}, jnp.float32)
