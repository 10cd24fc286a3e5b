import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from zoo.data import DataError, SegmentationData, eval_batches, open_segmentation, train_batches
from zoo.data.augment.deform import elastic, mirror, random_place, random_scale
from zoo.data.augment.picture import Picture
from zoo.data.prepare import prepare
from zoo.data.segmentation import find_objects
from zoo.ops.borders import border_weights


def blocks(height=24, width=30, count=3):
    """An image whose red channel is 40 times its label, and the labels."""
    coarse = np.random.default_rng(0).integers(0, count, (-(-height // 6), -(-width // 6)))
    labels = coarse.repeat(6, 0).repeat(6, 1)[:height, :width].astype(np.uint8)
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 40 * labels
    return image, labels


@pytest.fixture
def pairs(tmp_path):
    """Two splits of three pairs of different sizes, two of them in a sub-folder."""
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n")
    for split in ("train", "val"):
        for i, name in enumerate(("a", "more/b", "more/c")):
            image, labels = blocks(24 + 6 * i, 30)
            for part, pixels, suffix in (("images", image, "png"), ("masks", labels, "png")):
                path = tmp_path / split / part / f"{name}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path


def folder(path, **fields):
    fields = {"eval_split": "val", "image_size": (16, 20), "threads": 0, **fields}
    return SegmentationData(source=f"folder:{path}", **fields)


def test_digit_scenes():
    data = SegmentationData(train_split="train[:8]", eval_split="test[:3]", threads=0)
    examples = open_segmentation(data, "train")
    assert examples.class_names == ("ground", *"0123456789")
    batch = next(train_batches(examples, 4, seed=0))
    assert batch["image"].shape == (4, 64, 64, 3)
    assert (batch["label_map"].shape, batch["label_map"].dtype) == ((4, 64, 64), np.uint8)
    held_out = open_segmentation(data, "eval")
    scene = held_out.source[1]
    example = held_out.example(1, np.random.default_rng(0))
    np.testing.assert_array_equal(example["image"], scene["image"])
    np.testing.assert_array_equal(example["label_map"], scene["label_map"])


def test_a_folder_of_pairs(pairs):
    examples = open_segmentation(folder(pairs), "eval")
    assert examples.class_names == ("ground", "cat", "dog")
    found = list(eval_batches(examples, 1))
    assert [batch["image"].shape[1:3] for batch in found] == [(24, 30), (30, 30), (36, 30)]
    for batch in found:
        np.testing.assert_array_equal(batch["image"][..., 0], 40 * batch["label_map"])
    assert len(open_segmentation(folder(pairs, train_split="train[:2]"), "train")) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"flip": True},
        {"scale": (1.3, 1.7)},
        {"mirror": 5},
        {"image_size": (48, 21)},
        {"elastic": 2.0},
    ],
)
def test_images_and_labels_move_together(pairs, fields):
    examples = open_segmentation(folder(pairs, **fields), "train")
    batch = next(train_batches(examples, 8, seed=1))
    image, labels = batch["image"][..., 0].astype(int), batch["label_map"]
    assert labels.shape[1:] == fields.get("image_size", (16, 20))
    inside = labels != 255
    wrong = inside & (np.abs(image - 40 * labels.astype(int)) > 20)
    assert wrong.mean() < 0.12  # only at edges, where the image is interpolated
    if "scale" not in fields and "elastic" not in fields:
        assert not wrong.any()
    outside = np.rint(255 * np.array(examples.transform.config.mean))
    assert inside.all() or (batch["image"][~inside] == outside).all()
    assert inside.all() == (fields.get("image_size") is None)


def test_border_weights_of_touching_parts(pairs):
    data = folder(pairs, image_size=(24, 30), border_weight=10.0, train_split="train[:1]")
    batch = next(train_batches(open_segmentation(data, "train"), 2, seed=0))
    objects = find_objects(batch["label_map"][0])
    np.testing.assert_allclose(batch["border"][0], border_weights(objects), rtol=1e-6)


def test_objects_are_connected_parts():
    labels = np.array([[1, 1, 0, 2, 2], [0, 0, 1, 1, 255], [2, 0, 0, 0, 0]], np.uint8)
    expected = np.array([[1, 1, 0, 3, 3], [0, 0, 2, 2, 0], [4, 0, 0, 0, 0]])
    np.testing.assert_array_equal(find_objects(labels), expected)


def test_elastic_moves_by_the_interpolated_draws():
    image, labels = blocks(40, 56)
    assert (
        elastic(Picture(image, label_map=labels), 0.0, np.random.default_rng(0)).image == image
    ).all()
    draws = np.random.default_rng(3).normal(0, 4, (3, 3, 2)).astype(np.float32)
    dx, dy = np.moveaxis(cv2.resize(draws, (56, 40), interpolation=cv2.INTER_CUBIC), -1, 0)
    y, x = np.mgrid[:40, :56]
    y, x = np.rint(y + dy).astype(int), np.rint(x + dx).astype(int)
    inside = (y >= 0) & (y < 40) & (x >= 0) & (x < 56)
    moved = elastic(Picture(image, label_map=labels), 4.0, np.random.default_rng(3)).label_map
    same = moved[inside] == labels[y[inside], x[inside]]
    assert same.mean() > 0.99  # OpenCV rounds coordinates in fixed point


def test_random_place_and_mirror():
    image, labels = blocks(8, 10)
    rng = np.random.default_rng(0)
    placed = random_place(Picture(image, label_map=labels), (6, 14), (1, 2, 3), 255, rng)
    inside = placed.label_map != 255
    assert inside.sum() == 6 * 10
    assert (placed.image[~inside] == (1, 2, 3)).all()
    mirrored = mirror(Picture(image, label_map=labels), 4)
    np.testing.assert_array_equal(mirrored.label_map, np.pad(labels, 4, mode="reflect"))
    np.testing.assert_array_equal(mirrored.image[4:-4, 4:-4], image)


def test_random_scale_draws_from_the_range():
    picture = Picture(np.zeros((50, 100, 3), np.uint8))
    sizes = [random_scale(picture, (0.5, 2.0), np.random.default_rng(i)).size for i in range(40)]
    assert 25 <= min(h for h, _ in sizes) < 35 and 85 < max(h for h, _ in sizes) <= 100
    assert all(abs(w - 2 * h) <= 1 for h, w in sizes)


def spoil(path, name, pixels):
    Image.fromarray(pixels).save(path / "val" / "masks" / name)


BAD = {
    "a label": (
        lambda path: spoil(path, "a.png", np.full((24, 30), 7, np.uint8)),
        r"masks/a\.png: value 7 is not a class; classes are 0 to 2, and 255 is ignored",
    ),
    "a size": (
        lambda path: spoil(path, "a.png", np.zeros((24, 31), np.uint8)),
        r"images/a\.png: the image is of 24 x 30 px, but its mask .*masks/a\.png of 24 x 31 px",
    ),
    "a turned mask": (
        lambda path: spoil(path, "a.png", np.zeros((30, 24), np.uint8)),
        r"images/a\.png: .*a\.png of 30 x 24 px; an orientation in the EXIF of one may be why",
    ),
    "colours": (
        lambda path: spoil(path, "a.png", np.zeros((24, 30, 3), np.uint8)),
        r"masks/a\.png: a mask has one channel of whole numbers, or a palette; this one is RGB",
    ),
    "damage": (
        lambda path: (path / "val/masks/a.png").write_bytes(b"nothing"),
        r"masks/a\.png: not an image of a known format",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_pairs_are_named_or_left_out(pairs, case):
    change, message = BAD[case]
    change(pairs)
    with pytest.raises(DataError, match=message) as error:
        list(eval_batches(open_segmentation(folder(pairs), "eval"), 1))
    assert "\n" not in str(error.value)
    examples = open_segmentation(folder(pairs, on_error="skip"), "eval")
    assert [bool(batch["valid"][0]) for batch in eval_batches(examples, 1)] == [False, True, True]
    assert examples.skipped == 1


MISSING = {
    "a mask": (
        lambda path: (path / "val/masks/more/b.png").unlink(),
        r"images/more/b\.png: nothing of that name in .*val/masks$",
    ),
    "images": (
        lambda path: [(path / "val/images/more" / f"{n}.png").unlink() for n in "bc"],
        r"masks/more/b\.png: nothing of that name in .*val/images \(nor for 1 more\)",
    ),
    "all masks": (
        lambda path: (path / "val/masks").rename(path / "val/labels"),
        r"val/masks: no such folder",
    ),
    "the classes": (
        lambda path: (path / "classes.txt").unlink(),
        r"classes\.txt: cannot be read .* one class name in each line",
    ),
    "a class": (
        lambda path: (path / "classes.txt").write_text("a\n\nb\n"),
        r"classes\.txt: line 2 is blank$",
    ),
    "a name": (
        lambda path: Image.new("L", (4, 4)).save(path / "val/images/a.bmp"),
        r"images/a\.png: a\.bmp has the same name",
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing_is_named_before_the_run(pairs, case):
    change, message = MISSING[case]
    change(pairs)
    with pytest.raises(DataError, match=message) as error:
        open_segmentation(folder(pairs), "eval")
    assert "\n" not in str(error.value)


def test_the_label_to_ignore(pairs):
    data = folder(pairs, ignore_label=0, image_size=(24, 30))
    example = open_segmentation(data, "eval").example(0, np.random.default_rng(0))
    red = example["image"][..., 0] // 40
    np.testing.assert_array_equal(example["label_map"], np.where(red == 0, 255, red))


def test_palette_masks_are_indices(pairs):
    path = pairs / "val/masks/a.png"
    image = Image.open(path)
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(path)
    example = open_segmentation(folder(pairs), "eval").example(0, np.random.default_rng(0))
    np.testing.assert_array_equal(example["image"][..., 0], 40 * example["label_map"])


def test_other_classes_than_the_models(pairs):
    with pytest.raises(DataError, match="the classes ground, cat, dog, but the model has"):
        open_segmentation(folder(pairs), "eval", class_names=("ground", "cat"))


def test_pascal_voc(tmp_path):
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / part).mkdir(parents=True)
    image, labels = blocks()
    labels[0] = 255
    Image.fromarray(image).save(tmp_path / "JPEGImages/x.jpg", quality=95)
    Image.fromarray(labels).save(tmp_path / "SegmentationClass/x.png")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("x\n")
    data = SegmentationData(source=f"voc:{tmp_path}", eval_split="val", threads=0)
    examples = open_segmentation(data, "eval")
    assert len(examples.class_names) == 21 and examples.class_names[15] == "person"
    example = examples.example(0, np.random.default_rng(0))
    np.testing.assert_array_equal(example["label_map"], labels)
    with pytest.raises(DataError, match=r"train\.txt: No such file.*VOCdevkit/VOC2012"):
        open_segmentation(data, "train")


def open_prepared(source, tmp_path, monkeypatch, examples):
    """The first example of a TFDS data set, prepared from `examples` instead of a download."""
    builder = type(tfds.builder(source, data_dir=str(tmp_path), file_format="array_record"))
    monkeypatch.setattr(builder, "_split_generators", lambda self, _: {"train": examples(self)})
    prepare(source, str(tmp_path))
    data = SegmentationData(source=source, data_dir=str(tmp_path), eval_split="train", threads=0)
    dataset = open_segmentation(data, "eval")
    return dataset, dataset.example(0, np.random.default_rng(0))


def test_oxford_pets(tmp_path, monkeypatch):
    image, labels = blocks()
    (tmp_path / "trimaps").mkdir()
    # TFDS repairs this file: it is a png with alpha, but its name ends in jpg.
    Image.fromarray(image).convert("RGBA").save(tmp_path / "beagle_116.jpg", "PNG")
    Image.fromarray(labels + 1).save(tmp_path / "trimaps" / "beagle_116.png")
    (tmp_path / "list.txt").write_text("beagle_116 1 1 1\n")
    dataset, example = open_prepared(
        "oxford_iiit_pet",
        tmp_path,
        monkeypatch,
        lambda builder: builder._generate_examples(tmp_path, tmp_path, tmp_path / "list.txt"),
    )
    assert dataset.class_names == ("pet", "background", "border")
    np.testing.assert_array_equal(example["label_map"], labels)
    assert np.abs(example["image"].astype(int) - image).mean() < 5


def test_cityscapes(tmp_path, monkeypatch):
    ids = np.resize(np.array([7, 0, 33, 29, 26], np.uint8), (1024, 2048, 1))
    example = {"image_left": np.zeros((1024, 2048, 3), np.uint8), "image_id": "x"}
    example["segmentation_label"] = ids
    dataset, found = open_prepared(
        "cityscapes", tmp_path, monkeypatch, lambda builder: iter([(0, example)])
    )
    assert dataset.num_classes == 19
    assert found["label_map"].reshape(-1)[:5].tolist() == [0, 255, 18, 255, 13]


def test_unknown_sources():
    with pytest.raises(
        DataError, match=r"'imagenet2012' is not for segmentation; there are digit_"
    ):
        open_segmentation(SegmentationData(source="imagenet2012"), "train")
    with pytest.raises(DataError, match=r"'digit_scenes' has no split 'val'"):
        open_segmentation(SegmentationData(eval_split="val"), "eval")


@pytest.mark.parametrize(
    "fields", [{"scale": (2.0, 1.0)}, {"overlap": 1.0}, {"elastic": -1.0}, {"image_size": (0, 4)}]
)
def test_impossible_values(fields):
    with pytest.raises(DataError, match=f"data.{next(iter(fields))} is .*, but must be"):
        open_segmentation(SegmentationData(**fields), "train")
