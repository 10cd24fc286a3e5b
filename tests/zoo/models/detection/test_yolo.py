"""The YOLOs' detections and losses, against darknet's own program and mmdet on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from eval.coco import CocoEvaluator
from eval.detectors import ground_truth
from eval.records import concatenate, detections_from_padded
from tests.zoo.models.detection.dense import assert_detections_equal, output_of
from tests.zoo.models.detection.rcnn import assert_near, sizes_of, small_targets, targets_of
from train.checks.detection import unmatched
from zoo.data import DetectionData, normalize, open_detection, train_batches
from zoo.data.transforms import letterbox
from zoo.models.detection.parts.yolo import YoloDecoding, YoloOutput
from zoo.models.detection.parts.yolo_loss import DARKNET_V2, MMDET, YoloLoss
from zoo.models.detection.yolov1.loss import YoloV1Loss
from zoo.ops.grid_anchors import GridAnchors
from zoo.ops.grid_coder import RootCoder
from zoo.outputs import Targets
from zoo.predict import detect
from zoo.registry import family_of
from zoo.types import InputError

slow = pytest.mark.slow
CASES = [
    pytest.param("yolov1_darknet_local", YoloV1Loss(), marks=slow),
    ("yolov1_darknet_tiny", YoloV1Loss()),
    ("yolov2_darknet", DARKNET_V2),
    pytest.param("yolov2_darknet_tiny", YoloLoss(ignore=0.6, object_weight=5.0), marks=slow),
    pytest.param("yolov3_darknet", YoloLoss(), marks=slow),
    pytest.param("yolov3_darknet_spp", YoloLoss(), marks=slow),
    ("yolov3_darknet_tiny", YoloLoss()),
]
PARTS = ("logits", "deltas", "objectness")


@pytest.mark.parametrize(("case", "loss"), CASES)
def test_detections_and_gradients_are_darknets(golden, case, loss):
    """Darknet computes no loss, but its negative gradient, which it calls delta."""
    peer = golden(case)
    output, targets = output_of(peer), targets_of(peer)
    found = jax.jit(family_of(peer.model).decode)(output, sizes_of(peer.inputs[1]))
    for i in range(2):
        expected = {k: peer.groups[f"detections/{i}/{k}"] for k in ("boxes", "scores", "labels")}
        areas = (expected["boxes"][:, 2:] - expected["boxes"][:, :2]).prod(axis=1)
        expected = {k: x[areas > 0] for k, x in expected.items()}
        count = len(expected["scores"])
        assert count >= 3
        assert found.valid[i].sum() == count
        order = np.lexsort((expected["labels"], -expected["scores"]))
        np.testing.assert_array_equal(found.labels[i][:count], expected["labels"][order])
        for name in ("boxes", "scores"):
            assert_near(getattr(found, name)[i][:count], expected[name][order], name)

    @jax.jit
    def gradients(parts):
        def total(parts):
            losses, _ = loss(output.replace(**parts), targets)
            return sum(mean.total for mean in losses.values())

        return jax.grad(total)(parts)

    steps = gradients({name: getattr(output, name) for name in PARTS})
    for name, step in steps.items():
        expected = peer.groups[f"steps/{name}"]
        if isinstance(loss, YoloV1Loss):  # its paper has no factor of 1/2 before the squares
            step, expected = -step / 2, np.asarray(expected)
            if name == "logits":  # those of a cell are repeated for its boxes
                count = peer.model.num_boxes
                step, expected = (
                    np.asarray(x).reshape(2, -1, count, x.shape[-1]) for x in (step, expected)
                )
                step, expected = step.sum(axis=2), expected[:, :, 0]
        else:
            step = -step
        assert np.abs(expected).max() > 0.1
        assert_near(step, expected, name)


def test_detections_and_losses_are_mmdets(golden):
    peer = golden("yolov3_mmdet")
    assert_detections_equal(peer)
    losses, metrics = jax.jit(MMDET.__call__)(output_of(peer), targets_of(peer))
    names = {"loss_cls": "class", "loss_conf": "objectness", "loss_xy": "place", "loss_wh": "size"}
    assert set(losses) == set(names.values())
    for theirs, ours in names.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 0.1
        np.testing.assert_allclose(losses[ours].total, expected, rtol=1e-4, err_msg=theirs)
    assert metrics["matched_objects"].value() == 1


GRID = GridAnchors(**zoo.create("yolov3_nano").anchor_fields, strides=(4, 8))
CELLS = GridAnchors((((8, 8), (8, 8)),), (8,))


def drawn_output(grid, decoding=None):
    """Random outputs for two images of 64 px."""
    shapes = tuple((64 // stride, 64 // stride) for stride in grid.strides)
    anchors = np.broadcast_to(levels := np.concatenate(grid.per_level(shapes)), (2, *levels.shape))
    draw = np.random.default_rng(0).normal
    parts = (draw(size=(*anchors.shape[:2], *more)) for more in ((3,), (4,), ()))
    arrays = (jnp.asarray(x, jnp.float32) for x in (*parts, anchors))
    return YoloOutput(*arrays, grid, shapes, decoding or YoloDecoding())


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        (drawn_output(GRID), YoloLoss()),
        (drawn_output(GRID), MMDET),
        (drawn_output(CELLS, YoloDecoding("none", coder=RootCoder(64))), YoloV1Loss()),
    ],
    ids=["v3", "mmdet", "v1"],
)
def test_without_objects_there_is_only_background(output, loss):
    targets, loss = small_targets(), jax.jit(loss.__call__)
    losses, metrics = loss(output, targets)
    assert all(mean.value() > 0 for mean in losses.values())
    assert metrics["matched_objects"].value() == 1
    empty = targets.replace(valid=jnp.zeros((2, 2), bool))
    losses, _ = loss(output, empty)
    assert {name for name, mean in losses.items() if mean.value() > 0} == {"objectness"}
    second = loss(output, targets.replace(image_valid=jnp.array([False, True])))[0]
    assert all(mean.total == 0 for name, mean in second.items() if name != "objectness")
    assert second["objectness"].weight == 1
    without = targets.replace(
        boxes=targets.boxes[:, :0], labels=targets.labels[:, :0], valid=targets.valid[:, :0]
    )
    assert loss(output, without)[0]["objectness"].value() == losses["objectness"].value()


def test_boxes_near_objects_are_not_background():
    """An anchor of no object, whose box has an IoU above `ignore` with one, has no loss."""
    output = drawn_output(GRID)
    output = output.replace(deltas=jnp.zeros_like(output.deltas))  # boxes are the anchors
    targets = small_targets()
    anchor = 16 * 16 * 3 + (3 * 8 + 4) * 3 + 1
    boxes = targets.boxes.at[0, 0].set(output.anchors[0, anchor])
    targets = targets.replace(boxes=boxes)
    matches = YoloLoss(ignore=0.7).match(output, targets)
    assert matches.positive[0, anchor]
    assert matches.counted[0, anchor]
    assert not matches.counted[0, anchor + 1]  # 15 x 23 and 17 x 27: IoU 0.75
    assert YoloLoss(ignore=0.8).match(output, targets).counted[0, anchor + 1]
    assert matches.positive.sum() == 2
    _, metrics = jax.jit(YoloLoss().__call__)(output, targets)
    assert metrics["positive_anchor_4"].value() >= 0.5
    assert metrics["positive_level_0"].value() + metrics["positive_level_1"].value() == 1


def test_anchors_of_coco_fit_no_digit():
    """The doctor names the anchors without objects, and that the others do not fit."""
    output = drawn_output(GridAnchors((((40, 50), (62, 45)), ((116, 90), (373, 326))), (4, 8)))
    boxes = jnp.array([[[8.0, 8, 20, 24], [30, 30, 40, 48]], [[0.0] * 4] * 2])
    _, metrics = jax.jit(YoloLoss().__call__)(output, small_targets().replace(boxes=boxes))
    notes, problems = unmatched({name: float(x.value()) for name, x in metrics.items()})
    assert "no object of the batch has the anchor 1, 2, 3 of its cell" in notes
    assert problems[0].startswith("only 0% of the batch's objects have a fitting anchor")


def test_yolo_v1_takes_images_of_one_size():
    model = zoo.create("yolov1_nano", num_classes=3)
    with pytest.raises(InputError, match="images of 64 x 32 pixels, but image_size=64"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 32, 3)))


def test_wrong_settings():
    with pytest.raises(InputError, match=r"loss\.ignore is 1.5"):
        YoloLoss(ignore=1.5)
    with pytest.raises(InputError, match=r"loss\.box_weight is -1.0"):
        YoloLoss(box_weight=-1.0)
    with pytest.raises(InputError, match=r"loss\.class_weight is -1.0"):
        YoloV1Loss(class_weight=-1.0)
    model = zoo.create("yolov3_nano", neck_dims=(32,))
    with pytest.raises(ValueError, match="2 levels of anchors, but neck_dims"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def test_predictions_in_a_letterbox_are_in_the_images_pixels():
    model = zoo.create("yolov3_nano", num_classes=3)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    found = zoo.predict(model, variables, image)
    how = zoo.preprocessing("yolov3_nano")
    assert how.crop_mode == "letterbox"
    framed = letterbox(image, (64, 64))
    assert (framed[:11] == 128).all()
    batch = normalize(jnp.asarray(framed[None]), how.mean, how.std)
    sizes = jnp.array([[64, 64]])
    expected = jax.jit(detect, static_argnums=0)(model, variables, batch, sizes, sizes)
    kept = np.asarray(expected.valid[0])
    boxes = np.asarray(expected.boxes[0][kept])
    scale = np.array([90 / 64, 60 / 42] * 2)  # 64 x 42 px, 11 rows below the top
    boxes = np.clip((boxes - np.array([0, 11, 0, 11])) * scale, 0, [90, 60, 90, 60])
    assert len(found.boxes) == len(boxes) > 3
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "loss"),
    [("yolov1_nano", YoloV1Loss()), ("yolov2_nano", DARKNET_V2), ("yolov3_nano", YoloLoss())],
)
def test_one_batch_is_learned_by_heart(name, loss):
    """After 150 steps of 8 scenes AP50 is 1, but for objects that share a cell with another one.

    Of the 32 digits, 3 have no cell of their own in v1's grid, and 1 has none of v2's anchors.
    """
    data = DetectionData(train_split="train[:8]", threads=0)
    examples = open_detection(data, "train")
    batch = next(train_batches(examples, 8, seed=0))
    images = normalize(jnp.asarray(batch["image"]), data.mean, data.std)
    names = ("boxes", "labels", "box_valid", "size", "valid")
    targets = Targets(*(jnp.asarray(batch[name]) for name in names))
    model = zoo.create(name, num_classes=10)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    params, stats = variables["params"], variables["batch_stats"]
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(3e-3))

    @jax.jit
    def step(params, stats, state):
        def total(params):
            output, changed = model.apply(
                {"params": params, "batch_stats": stats},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            losses, _ = loss(output, targets)
            return sum(mean.value() for mean in losses.values()), changed["batch_stats"]

        gradient, stats = jax.grad(total, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), stats, state

    state = optimizer.init(params)
    for _ in range(150):
        params, stats, state = step(params, stats, state)
    trained = {"params": params, "batch_stats": stats}
    sizes = jnp.asarray(batch["size"])
    found = jax.jit(detect, static_argnums=0)(model, trained, images, sizes, sizes)
    evaluator = CocoEvaluator(dict(enumerate(examples.class_names)))
    truth = concatenate([ground_truth(examples, i) for i in batch["index"].tolist()])
    rows = detections_from_padded(
        batch["index"], *map(np.asarray, (found.boxes, found.labels, found.scores, found.valid))
    )
    evaluator.update(batch["index"], truth, rows)
    own = loss(model.apply(trained, images), targets)[1]["matched_objects"].value()
    assert own == {"yolov1_nano": 29 / 32, "yolov2_nano": 31 / 32, "yolov3_nano": 1}[name]
    assert evaluator.compute()["AP50"] > own - 0.01
