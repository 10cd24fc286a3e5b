import dataclasses
import json
import logging

import msgspec
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from zoo.data import DataError, DetectionData, eval_batches, open_detection, train_batches
from zoo.data.detection import choose_bucket
from zoo.data.digit_scenes import draw_scene
from zoo.ops import rle

replace = dataclasses.replace

SIZES = {3: (60, 80), 14: (80, 60), 15: (50, 90), 159: (64, 64)}  # height, width by image id


def square(image, category, x, y, width, height, **more):
    """An annotation with a rectangle's polygon."""
    corners = [x, y, x, y + height, x + width, y + height, x + width, y]
    box = {"bbox": [x, y, width, height], "area": width * height, "segmentation": [corners]}
    return {"image_id": image, "category_id": category, "iscrowd": 0, **box, **more}


def annotations():
    """Category ids with gaps, in another order than sorted; image 15 has no objects."""
    mask = np.zeros((1, 80, 60), bool)
    mask[0, 10:30, 5:25] = True
    compressed = {"size": [80, 60], "counts": rle.to_strings(rle.from_arrays(mask))[0]}
    plain = {"size": [64, 64], "counts": [64 * 8 + 4, 10, 54, 10, 64 * 64 - 64 * 8 - 4 - 74]}
    objects = [
        square(159, 90, 8, 4, 2, 10, segmentation=plain),
        square(3, 7, 10, 20, 30, 25),
        square(3, 90, 0, 0, 80, 60, iscrowd=1),
        square(14, 21, 5, 10, 20, 20, segmentation=compressed, area=400.5),
        square(3, 21, 40.5, 5.25, 20, 15.5),
    ]
    names = {90: "zebra", 7: "cat", 21: "dog"}
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": h, "width": w}
            for i, (h, w) in reversed(SIZES.items())
        ],
        "categories": [{"id": i, "name": name} for i, name in names.items()],
        "annotations": [{"id": 100 + i, **o} for i, o in enumerate(objects)],
    }


@pytest.fixture
def coco(tmp_path):
    """COCO's own layout, the same for training and evaluation; every image has noise in it."""
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        path = tmp_path / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(annotations()))
        (tmp_path / split).mkdir()
        for image, size in SIZES.items():
            pixels = np.random.default_rng(image).integers(1, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{image}.png")
    return tmp_path


@pytest.fixture
def config(coco):
    return DetectionData(
        source=f"coco:{coco}",
        train_split="train2017",
        eval_split="val2017",
        buckets=((60, 96), (96, 60), (64, 64)),
        threads=2,
    )


def rewrite(coco, change, split="train2017"):
    """Changes the annotation file of a split."""
    path = coco / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


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


def test_category_ids_go_to_labels_and_back(config):
    source = open_detection(config, "train").source
    assert source.class_names == ("cat", "dog", "zebra")
    assert source.category_ids == (7, 21, 90)
    assert source.labels == {7: 0, 21: 1, 90: 2}
    for index in range(len(source)):
        found = source.annotations(index)
        ids = [source.category_ids[label] for label in found.labels]
        expected = [a for a in annotations()["annotations"] if a["image_id"] == found.image_id]
        assert ids == [a["category_id"] for a in expected]
        np.testing.assert_array_equal(
            found.boxes_xywh, np.reshape([a["bbox"] for a in expected], (-1, 4))
        )
        assert found.areas.tolist() == [a["area"] for a in expected]
        assert found.crowd.tolist() == [bool(a["iscrowd"]) for a in expected]
    assert [source.annotations(i).image_id for i in range(4)] == [3, 14, 15, 159]


def test_labels_are_positions_among_a_models_classes(config, coco):
    source = open_detection(config, "eval", ("ant", "zebra", "dog", "cat")).source
    assert source.category_ids == (None, 90, 21, 7)
    assert source.annotations(0).labels.tolist() == [3, 1, 2]
    with pytest.raises(DataError, match=r"json: cat, zebra is none of the model's classes; .* dog"):
        open_detection(config, "eval", ("ant", "dog"))
    # Evaluation without a model takes the training data's classes.
    rewrite(coco, lambda c: c["categories"].pop(1), "val2017")
    rewrite(coco, lambda c: c["annotations"].pop(1), "val2017")
    held_out = open_detection(config, "eval").source
    assert held_out.class_names == ("cat", "dog", "zebra")
    assert held_out.category_ids == (None, 21, 90)


def test_evaluation_examples(config):
    """Small images keep their size where short_sides is empty; crowds are no targets."""
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


def test_masks_of_every_form_are_given(config):
    dataset = open_detection(replace(config, masks=True), "eval")
    for batch in eval_batches(dataset, 1):
        for valid, box, mask in zip(
            batch["box_valid"][0], batch["boxes"][0], batch["masks"][0], strict=True
        ):
            assert mask.any() == valid
            if valid:
                rows, columns = np.nonzero(mask)
                extent = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                np.testing.assert_allclose(box, extent, atol=0.75)
    crowd = dataset.source.annotations(0)
    assert crowd.masks.areas()[crowd.crowd].tolist() == [60 * 80]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_pycocotools(config, coco):
    official = COCO(str(coco / "annotations" / "instances_val2017.json"))
    source = open_detection(replace(config, masks=True), "eval").source
    for index in range(len(source)):
        found = source.annotations(index)
        theirs = official.loadAnns(official.getAnnIds([found.image_id]))
        expected = [official.annToMask(annotation) for annotation in theirs]
        assert len(found) == len(expected)
        for mask, other in zip(found.masks.to_arrays(), expected, strict=True):
            np.testing.assert_array_equal(mask, other)


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
    """The crop is DETR's, of 384 pixels and more, from images enlarged to 400 and more."""
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


def test_slices_of_the_images(config):
    parts = [
        open_detection(replace(config, train_split=f"train2017{part}"), "train").source
        for part in ("[:50%]", "[50%:]")
    ]
    ids = [[part.annotations(i).image_id for i in range(len(part))] for part in parts]
    assert sorted(ids[0] + ids[1]) == [3, 14, 15, 159]
    whole = open_detection(config, "train").source
    for part in parts:
        for i in range(len(part)):
            found = part.annotations(i)
            same = whole.annotations([3, 14, 15, 159].index(found.image_id))
            np.testing.assert_array_equal(found.boxes_xywh, same.boxes_xywh)
            assert part[i]["name"].endswith(f"train2017/{found.image_id}.png")


def test_ones_own_files(config, coco):
    named = replace(
        config,
        train_annotations="annotations/instances_train2017.json",
        train_images=str(coco / "val2017"),
        train_split="anything",
    )
    source = open_detection(named, "train").source
    assert source[0]["name"] == str(coco / "val2017" / "3.png")
    with pytest.raises(DataError, match=r"data\.train_images is x, but must be none unless"):
        open_detection(DetectionData(train_images="x"), "train")


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
    stored.save(path, exif=exif)  # upright it is 80 high and 60 wide
    with pytest.raises(DataError, match=r"80 x 60 .* for 60 x 80 .* try --data\.upright=false"):
        list(eval_batches(open_detection(config, "eval"), 2))
    dataset = open_detection(replace(config, upright=False), "eval")
    batch = next(b for b in eval_batches(dataset, 1) if b["index"][0] == 0)
    np.testing.assert_array_equal(batch["image"][0, :60, :80], np.asarray(stored))

    rewrite(coco, lambda c: c["images"][-1].update(height=80, width=60), "val2017")
    batch = next(b for b in eval_batches(open_detection(config, "eval"), 1) if b["index"][0] == 0)
    turned = np.asarray(stored.transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(batch["image"][0, :80, :60], turned)


def change(**fields):
    """Changes the second annotation."""
    return lambda content: content["annotations"][1].update(fields)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("images"), r"not a COCO annotation file: .*`images`"),
        (lambda c: c["annotations"][1].pop("bbox"), r"`bbox` - at `\$\.annotations\[1\]`"),
        (lambda c: c["images"][0].pop("height"), r"`height` - at `\$\.images\[0\]`"),
        (lambda c: c["images"][0].update(id=3), r"id given twice: images\[3\] \(id 3, file_name 3"),
        (lambda c: c["images"][0].update(id="a"), r"some image ids are numbers, some are text"),
        (lambda c: c["images"][0].update(width=0), r"height or width is not positive: images\[3\]"),
        (lambda c: c["categories"][0].update(id=7), r"id given twice: categories\[1\] \(id 7"),
        (
            lambda c: c["categories"][0].update(name="cat"),
            r"several categories have the name 'cat'",
        ),
        (lambda c: c.update(categories=[]), r"has no categories"),
        (
            change(image_id=4),
            r"image_id is none of the images: annotations\[1\] \(id 101, image_id 4",
        ),
        (change(category_id=1), r"category_id is none of the categories: .* category_id 1, bbox"),
        (change(bbox=[1, 2, 3]), r"bbox does not have 4 numbers: annotations\[1\]"),
        (
            change(bbox=[1, 2, -3, 4]),
            r"bbox of negative width or height: annotations\[1\] \(id 101",
        ),
        (change(bbox=[1, 2, float("nan"), 4]), r"bbox with numbers that are not finite: annotat"),
        (change(area=-1), r"area is negative or not finite: annotations\[1\]"),
    ],
)
def test_wrong_annotations_are_one_line_that_names_them(edit, message, config, coco):
    rewrite(coco, edit)
    with pytest.raises(DataError, match=message) as caught:
        open_detection(config, "train")
    assert str(caught.value).startswith(f"{coco}/annotations/instances_train2017.json: ")
    assert "\n" not in str(caught.value)


def test_missing_files(config, coco):
    with pytest.raises(DataError, match=r"instances_nope\.json: cannot be read: No such file"):
        open_detection(replace(config, train_split="nope"), "train")
    with pytest.raises(DataError, match=r"nope: no such folder, for the images of .*train2017"):
        open_detection(replace(config, train_images="nope"), "train")
    (coco / "annotations" / "instances_train2017.json").write_text("not json")
    with pytest.raises(DataError, match=r"train2017\.json: not a COCO annotation file: Expecting"):
        open_detection(config, "train")
    with pytest.raises(DataError, match=r"unknown data 'cocoo'.*digit_scenes, coco:DIR"):
        open_detection(DetectionData(source="cocoo"), "train")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "image 3: the segmentation of its object 0: polygons need at least 3 points"),
        ([[1, 2, 3, 4]], "image 3: the segmentation of its object 0: polygons need"),
        ({"size": [60, 80], "counts": [3, 4]}, "runs cover 7 pixels of an image of 60 x 80"),
        ({"size": [5, 5], "counts": [5, 20]}, "is of another size than the image, 60 x 80"),
        ([[0, 0, 1, 1, float("inf"), 2]], "NaN or Infinity in it"),
        ("text", r"image 3: segmentation: Expected"),
    ],
)
def test_wrong_masks_are_named(segmentation, message, config, coco):
    rewrite(coco, change(segmentation=segmentation))
    with pytest.raises(DataError, match=message):
        open_detection(replace(config, masks=True), "train").source.annotations(0)
    assert len(open_detection(config, "train").source.annotations(0)) == 3  # without masks


def test_boxes_outside_are_warned_of(config, coco, caplog):
    rewrite(coco, change(bbox=[80, 2, 10, 10]))
    with caplog.at_level(logging.WARNING):
        dataset = open_detection(config, "train")
    assert "1 boxes have no area inside their image" in caplog.text
    assert "annotations[1] (id 101, image_id 3" in caplog.text
    assert len(dataset.source.annotations(0)) == 3
    example = dataset.transform(dataset.source[0], np.random.default_rng(0))
    assert example["box_valid"].sum() == 1


def test_area_and_crowd_may_be_absent(config, coco):
    rewrite(coco, lambda c: [a.pop(key) for a in c["annotations"] for key in ("area", "iscrowd")])
    found = open_detection(config, "train").source.annotations(0)
    assert found.areas.tolist() == [750.0, 4800.0, 310.0]
    assert not found.crowd.any()


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("buckets", (), "one or more"),
        ("buckets", ((0, 8),), "one or more"),
        ("max_objects", 0, "1 or more"),
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
