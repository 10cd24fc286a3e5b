"""R-CNN and SPP-net: the features of regions, and what their classifiers make of them."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.ops.test_roi_pool import pool_one
from zoo.classical.selective_search import propose
from zoo.data.digit_scenes import draw_scene
from zoo.models.detection.parts.decode import region_rois
from zoo.models.detection.parts.outputs import RegionOutput
from zoo.models.detection.parts.region_classifier import region_features
from zoo.ops.warp_regions import warp_regions
from zoo.outputs import Proposals
from zoo.predict.image import _propose
from zoo.types import SCENE_SEARCH

BOXES = np.array([[4, 6, 30, 40], [0, 20, 20, 48], [20, 10, 26, 22], [33, 2, 40, 48]], np.float32)
GIVEN = Proposals(jnp.array([BOXES] * 2), jnp.ones((2, 4), bool))


SMALL = {"num_blocks": (1, 1), "stage_dims": (8, 8), "stem_dim": 8}


def drawn(name, **fields):
    """A model, its random variables, and two images of 64 px, the second of 48 x 40 px."""
    model = zoo.create(name, num_classes=3, **fields)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    valid = jnp.ones((2, 64, 64), bool).at[1, 48:].set(False).at[1, :, 40:].set(False)
    variables = jax.jit(model.init)(jax.random.key(1), images)
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(2)
    leaves = [jnp.float32(rng.normal(leaf, 0.1)) for leaf in leaves]
    return model, jax.tree.unflatten(tree, leaves), images, valid


def features(model, variables, images, valid):
    apply = jax.jit(lambda *x: model.apply(*x, method=region_features))
    return apply(variables, images, valid, GIVEN)


@pytest.mark.parametrize("name", ["rcnn_nano", pytest.param("sppnet_nano", marks=pytest.mark.slow)])
def test_classes_are_a_linear_function_of_the_features(name):
    model, variables, images, valid = drawn(name)
    _, found = features(model, variables, images, valid)
    head = variables["params"]["head"]["logits"]
    output = jax.jit(model.apply)(variables, images, valid, GIVEN)
    expected = found @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(output.class_logits, expected, rtol=0, atol=1e-3)
    assert output.box_deltas is None and output.proposals_valid.all()


def test_rcnn_sees_each_region_alone():
    """Its features are those of the backbone for the warped region; chunks change nothing."""
    model, variables, images, valid = drawn("rcnn_nano")
    pooled, _ = features(model, variables, images, valid)
    body = {collection: tree["body"] for collection, tree in variables.items()}
    real = jnp.where(valid[..., None], images, 0)
    sizes, image = jnp.array([[64, 64], [48, 40]]), jnp.array([1] * 4)
    crops = warp_regions(real, jnp.asarray(BOXES), image, sizes, size=40)
    maps = model.make_body().apply(body, crops, method="feature_maps")
    scale = float(jnp.abs(maps[-1]).max())
    np.testing.assert_allclose(pooled[1], maps[-1].reshape(4, -1), rtol=0, atol=1e-5 * scale)

    for size in (1, 3):
        again, _ = features(model.clone(chunk=size), variables, images, valid)
        np.testing.assert_allclose(again, pooled, rtol=0, atol=1e-5 * scale)


def test_gradients_of_chunks_are_those_of_the_whole():
    model, variables, images, valid = drawn("rcnn_nano", backbone_fields=SMALL)

    def gradient(model):
        def total(params):
            given = {**variables, "params": params}
            return (model.apply(given, images, valid, GIVEN, train=True).class_logits ** 2).mean()

        return jax.jit(jax.grad(total))(variables["params"])

    whole, parts = gradient(model), gradient(model.clone(chunk=3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), whole, parts)


def test_rcnn_averages_the_last_map():
    model, variables, images, valid = drawn("rcnn_nano", dense_dims=())
    pooled, _ = features(model, variables, images, valid)
    for bins, expected in ((5, pooled), (1, pooled.reshape(2, 4, 25, 96).mean(axis=2))):
        found, _ = features(model.clone(pool_size=bins), variables, images, valid)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_sppnet_pools_a_pyramid_of_bins_at_the_scale_of_the_region():
    """Each box from the map of the scale at which its area is nearest to 32 x 32 pixels."""
    model, variables, images, valid = drawn("sppnet_nano")
    pooled, _ = features(model, variables, images, valid)
    body = {collection: tree["body"] for collection, tree in variables.items()}
    image = np.where(np.asarray(valid)[..., None], images, 0)[1]
    for i, (box, factor) in enumerate(zip(BOXES, (1, 1, 2, 2), strict=True)):
        side = 64 * factor
        enlarged = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
        maps = model.make_body().apply(body, jnp.asarray(enlarged)[None], method="feature_maps")
        last = np.asarray(maps[-1][0])
        bins = [
            pool_one(last, box, np.zeros((n, n, 96)), 8 / factor, n, "spp_net")[0].reshape(-1, 96)
            for n in (6, 3, 2, 1)
        ]
        expected = np.concatenate(bins).ravel()
        atol = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(pooled[1, i], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["rcnn_nano", "sppnet_nano"])
def test_svms_score_the_features_and_refine_boxes(name):
    model, variables, images, valid = drawn(name, classifier="svm")
    pooled, found = features(model, variables, images, valid)
    head = variables["params"]["head"]
    assert set(head) == {"dense_0", "svm", "ridge"}
    output = jax.jit(model.apply)(variables, images, valid, GIVEN)
    scores = found @ head["svm"]["kernel"] + head["svm"]["bias"]
    deltas = pooled @ head["ridge"]["kernel"] + head["ridge"]["bias"]
    np.testing.assert_allclose(output.class_logits, scores, rtol=0, atol=1e-3)
    scale = float(jnp.abs(deltas).max())
    np.testing.assert_allclose(
        output.box_deltas, deltas.reshape(2, 4, 3, 4), rtol=0, atol=1e-5 * scale
    )


def test_scores_of_svms_are_sigmoids_of_each_class_alone():
    logits = jnp.array([[[2.0, -1.0], [1.0, -9.0]]])
    boxes = jnp.array([[[0.0, 0, 10, 10], [0, 0, 10, 12]]])
    both = jnp.ones((1, 2), bool)
    shift = jnp.zeros((1, 2, 2, 4)).at[0, 0, 1, 0].set(5.0)  # half a width to the right
    sizes = jnp.array([[50, 50]])
    for overlap, count in ((0.3, 2), (0.9, 3)):
        output = RegionOutput(
            *(boxes, both, logits, shift),
            scores="sigmoid",
            decoding_fields={"iou_threshold": overlap},
        )
        found = region_rois(output, sizes)
        assert found.valid[0].sum() == count
    expected = 1 / (1 + np.exp([-2.0, -1.0, 1.0]))
    np.testing.assert_allclose(found.scores[0, :3], expected, rtol=1e-6)
    assert found.labels[0, :3].tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.boxes[0, 2], [5, 0, 15, 10], atol=1e-5)


def test_regions_without_refinement_keep_their_boxes():
    logits = jnp.array([[[4.0, 0.0, 0.0], [0.0, 5.0, 0.0]]])
    boxes = jnp.array([[[3.0, 4, 13, 24], [20, 4, 33, 14]]])
    output = RegionOutput(boxes, jnp.ones((1, 2), bool), logits)
    found = region_rois(output, jnp.array([[50, 50]]))
    np.testing.assert_allclose(found.boxes[0, :2], boxes[0, ::-1], atol=1e-5)
    assert found.labels[0, :2].tolist() == [1, 0]


def test_predictions_use_the_proposals_at_the_size_of_the_input():
    """`zoo.predict` proposes regions of the image itself, and gives boxes of the image itself."""
    image = np.kron(draw_scene("test", 0).image, np.ones((2, 3, 1), np.uint8))  # 128 x 192
    found = _propose(image, SCENE_SEARCH, (64, 96))
    boxes = propose(image, SCENE_SEARCH)
    assert found.valid[0].sum() == len(boxes) > 10
    np.testing.assert_allclose(found.boxes[0, : len(boxes)], boxes / 2)
    assert not found.boxes[0, len(boxes) :].any()

    model = zoo.create("fastrcnn_nano", num_classes=2)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    predicted = zoo.predict(model, variables, image).boxes
    assert predicted.max() > 100  # in an image of 192 px, of which the model sees 96
