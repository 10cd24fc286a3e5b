"""Batches for detectors: images are resized, augmented, and padded to buckets of fixed shapes."""

import dataclasses
import json
import logging

import msgspec
import numpy as np
import pytest
from PIL import Image

from tests.zoo.data.coco_folder import rewrite
from zoo.data import DataError, DetectionData, eval_batches, open_detection, train_batches
from zoo.data.detection_examples import choose_bucket
from zoo.data.digit_scenes import draw_scene

replace = dataclasses.replace


def test_the_config_survives_json():
    config = DetectionData(buckets=((800, 1088), (1088, 800)), short_sides=(480, 800))
    text = json.dumps(dataclasses.asdict(config))
    assert msgspec.json.decode(text, type=DetectionData) == config


def test_defaults_are_digit_scenes():
    dataset = open_detection(DetectionData(threads=2), "train")
    assert (len(dataset), dataset.class_names) == (20_000, tuple("0123456789"))
    assert len(open_detection(DetectionData(), "eval")) == 500
    batch = next(train_batches(dataset, 8, seed=0))
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "image": ((8, 64, 64, 3), "uint8"),
        "size": ((8, 2), "int32"),
        "boxes": ((8, 6, 4), "float32"),
        "labels": ((8, 6), "int32"),
        "box_valid": ((8, 6), "bool"),
        "valid": ((8,), "bool"),
        "index": ((8,), "int32"),
        "original_size": ((8, 2), "int32"),
    }
    for row, index in enumerate(batch["index"]):
        scene, count = draw_scene("train", int(index)), batch["box_valid"][row].sum()
        np.testing.assert_array_equal(batch["image"][row], scene.image)
        np.testing.assert_array_equal(batch["boxes"][row, :count], scene.boxes)
        np.testing.assert_array_equal(batch["labels"][row, :count], scene.labels)
        assert not batch["boxes"][row, count:].any()


def test_scenes_annotations_are_what_evaluation_needs():
    dataset = open_detection(DetectionData(masks=True, threads=0), "eval")
    scene, found = draw_scene("test", 5), dataset.source.annotations(5)
    np.testing.assert_array_equal(found.boxes, scene.boxes)
    np.testing.assert_array_equal(found.masks.to_arrays(), scene.masks)
    np.testing.assert_array_equal(found.areas, scene.masks.sum((1, 2)))
    assert (found.image_id, found.size, found.crowd.any()) == (5, (64, 64), False)
    example = dataset.transform(dataset.source[5], np.random.default_rng(0))
    np.testing.assert_array_equal(example["masks"][: len(scene.masks)], scene.masks)


def test_evaluation_examples(config):
    """Small images keep their size if short_sides is empty; crowds are no targets."""
    dataset = open_detection(config, "eval")
    batches = {int(b["index"][0]): b for b in eval_batches(dataset, 1)}
    assert {i: b["image"].shape[1:3] for i, b in batches.items()} == {
        0: (60, 96),
        1: (96, 60),
        2: (60, 96),
        3: (64, 64),
    }
    first = batches[0]
    pixels = np.random.default_rng(3).integers(1, 256, (60, 80, 3), np.uint8)
    np.testing.assert_array_equal(first["image"][0, :60, :80], pixels)
    assert not first["image"][0, :, 80:].any()
    assert first["size"].tolist() == first["original_size"].tolist() == [[60, 80]]
    assert first["box_valid"][0].tolist() == [True, True] + [False] * 4
    assert first["labels"][0, :2].tolist() == [0, 1]
    expected = [[10, 20, 40, 45], [40.5, 5.25, 60.5, 20.75]]
    np.testing.assert_array_equal(first["boxes"][0, :2], expected)
    assert not batches[2]["box_valid"].any()
    assert batches[2]["valid"].all()


def test_an_image_is_resized_as_detr_does_and_into_its_bucket(config):
    config = replace(config, short_sides=(20, 30), long_side=50, buckets=((32, 48), (48, 32)))
    batches = list(eval_batches(open_detection(config, "eval"), 2))
    assert [b["image"].shape[1:3] for b in batches] == [(32, 48), (32, 48), (48, 32)]
    rows = [(i, s) for b in batches for i, s in zip(b["index"], b["size"], strict=True)]
    sizes = {int(index): size.tolist() for index, size in rows if index >= 0}
    # 60 x 80 -> 30 x 40; 50 x 90 -> 28 x 50, which does not fit into 48; 64 x 64 -> 30 x 30
    assert sizes == {0: [30, 40], 1: [40, 30], 2: [27, 48], 3: [30, 30]}
    boxes = {int(b["index"][0]): b["boxes"][0] for b in batches}
    np.testing.assert_allclose(boxes[0][0], np.array([10, 20, 40, 45]) / 2)
    assert [b["valid"].tolist() for b in batches] == [[True, True], [True, False], [True, False]]


def test_buckets_depend_on_the_aspect():
    config = DetectionData(
        buckets=((800, 1088), (1088, 800), (800, 1344), (960, 960)), short_sides=(480, 800)
    )
    chosen = {size: choose_bucket(size, config) for size in [(480, 640), (640, 480), (500, 500)]}
    assert chosen == {(480, 640): (800, 1088), (640, 480): (1088, 800), (500, 500): (800, 1088)}
    assert choose_bucket((360, 640), config) == (800, 1344)
    assert choose_bucket((3600, 6400), config) == (800, 1344)


AUGMENTED = {
    "short_sides": (40, 48, 56),
    "long_side": 96,
    "random_crop": True,
    "flip": True,
    "masks": True,
    "buckets": ((64, 96), (96, 64)),
}


def test_augmented_batches_are_the_same_for_any_threads_and_hosts(config):
    config = replace(config, **AUGMENTED)

    def take(threads, **shard):
        dataset = open_detection(replace(config, threads=threads), "train")
        batches = train_batches(dataset, 4, seed=7, **shard)
        return [next(batches) for _ in range(12)]

    wanted = take(0)
    assert {batch["image"].shape[1:3] for batch in wanted} == {(64, 96), (96, 64)}
    halves = [take(8, process_index=i, process_count=2) for i in range(2)]
    for batch, *parts in zip(wanted, *halves, strict=True):
        for key, value in batch.items():
            np.testing.assert_array_equal(value, np.concatenate([part[key] for part in parts]))


def test_augmented_boxes_stay_around_their_masks(config):
    """DETR's crop has at least 384 pixels; images are first enlarged to at least 400 pixels."""
    dataset = open_detection(replace(config, **AUGMENTED), "train")
    batches = train_batches(dataset, 4, seed=0)
    seen, counts = set(), set()
    for _ in range(30):
        batch = next(batches)
        height, width = np.moveaxis(batch["size"], -1, 0)
        for row, index in enumerate(batch["index"]):
            seen.add((int(index), height[row], width[row]))
            counts.add((int(index), int(batch["box_valid"][row].sum())))
            chosen = batch["box_valid"][row]
            masks = batch["masks"][row, chosen]
            for box, mask in zip(batch["boxes"][row, chosen], masks, strict=True):
                rows, columns = np.nonzero(mask)
                extent = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                np.testing.assert_allclose(box, extent, atol=1.6)
                assert (box[2:] <= [width[row], height[row]]).all()
    assert len(seen) > 40
    assert {(0, 2), (1, 0), (1, 1)} <= counts  # an object was cropped away


def test_a_run_has_at_most_as_many_shapes_as_buckets(config):
    config = replace(config, **AUGMENTED | {"buckets": ((64, 96), (96, 64), (70, 70))})
    dataset = open_detection(config, "train")
    batches = train_batches(dataset, 2, seed=0)
    shapes = {tuple(v.shape for v in next(batches).values()) for _ in range(40)}
    assert len(shapes) <= 3
    indices = np.concatenate([batch["index"] for batch in eval_batches(dataset, 3)])
    assert sorted(indices[indices >= 0].tolist()) == [0, 1, 2, 3]


def test_more_objects_than_room(config, caplog):
    tight = replace(config, max_objects=1)
    message = r"max_objects is 1, but 1 images of coco:.* up to 2, the first image 3; set --data"
    with pytest.raises(DataError, match=message):
        open_detection(tight, "train")
    with caplog.at_level(logging.WARNING):
        dataset = open_detection(replace(tight, too_many="drop_smallest"), "train")
    assert "up to 1, the smallest, are left out" in caplog.text
    batch = next(b for b in eval_batches(dataset, 1) if b["index"][0] == 0)
    np.testing.assert_array_equal(batch["boxes"][0], [[10, 20, 40, 45]])


def test_bad_images_are_named_or_left_out(config, coco):
    (coco / "val2017" / "14.png").write_bytes(b"")
    (coco / "val2017" / "159.png").unlink()
    with pytest.raises(
        DataError, match=r"val2017/\d+\.png: (cannot be read: No such|the image is)"
    ):
        list(eval_batches(open_detection(config, "eval"), 2))
    dataset = open_detection(replace(config, on_error="skip"), "eval")
    batches = list(eval_batches(dataset, 2))
    assert sum(batch["valid"].sum() for batch in batches) == 2
    assert dataset.skipped == 2
    for batch in batches:
        assert not batch["box_valid"][~batch["valid"]].any()
        assert (batch["size"] > 0).all()


def test_images_of_another_size_are_refused(config, coco):
    path = coco / "val2017" / "3.png"
    pixels = Image.open(path)
    pixels.resize((80, 61)).save(path)
    message = r"val2017/3\.png: the image has 61 x 80 pixels, but its annotations are for 60 x 80"
    with pytest.raises(DataError, match=message):
        list(eval_batches(open_detection(config, "eval"), 2))


def test_exif_orientation_and_boxes_agree(config, coco):
    path = coco / "val2017" / "3.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.open(path)
    stored.save(path, exif=exif)  # after rotation by exif it is 80 high and 60 wide
    with pytest.raises(DataError, match=r"80 x 60 .* for 60 x 80 .* try --data\.upright=false"):
        list(eval_batches(open_detection(config, "eval"), 2))
    dataset = open_detection(replace(config, upright=False), "eval")
    batch = next(b for b in eval_batches(dataset, 1) if b["index"][0] == 0)
    np.testing.assert_array_equal(batch["image"][0, :60, :80], np.asarray(stored))

    rewrite(coco, lambda c: c["images"][-1].update(height=80, width=60), "val2017")
    batch = next(b for b in eval_batches(open_detection(config, "eval"), 1) if b["index"][0] == 0)
    turned = np.asarray(stored.transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(batch["image"][0, :80, :60], turned)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("buckets", (), "one or more"),
        ("buckets", ((0, 8),), "one or more"),
        ("max_objects", 0, "1 or more"),
        ("mask_size", 112, "none without data.masks"),
        ("short_sides", (0,), "positive"),
        ("random_crop", True, "false without short_sides"),
        ("std", (0.0, 1.0, 1.0), "positive"),
        ("workers", -1, "0 or more"),
        ("eval_annotations", "x.json", "none unless"),
    ],
)
def test_impossible_values_are_refused(field, value, rule):
    with pytest.raises(DataError, match=rf"data\.{field} is .*, but must be .*{rule}"):
        open_detection(replace(DetectionData(), **{field: value}), "train")
