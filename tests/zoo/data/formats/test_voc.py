"""PASCAL VOC by TFDS, prepared from a devkit with three images instead of a download."""

import numpy as np
import pytest
from tensorflow_datasets.object_detection.voc import Voc

from zoo.data import DataError, DetectionData, eval_batches, open_detection, train_batches
from zoo.data.prepare import prepare

# File, label, difficult, and VOC's box: its first and last pixels, counted from 1.
OBJECTS = [
    ("000005", "chair", 0, (1, 1, 30, 20)),
    ("000005", "person", 1, (11, 6, 40, 47)),
    ("000007", "car", 0, (61, 47, 61, 47)),
]
FILES = ("000005", "000007", "000012")

XML = """<annotation><size><width>61</width><height>47</height></size>{}</annotation>"""
OBJECT = """<object><name>{}</name><pose>Left</pose><truncated>0</truncated>
<difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>
</bndbox></object>"""


@pytest.fixture(scope="module")
def voc(tmp_path_factory, photo, encode):
    root = tmp_path_factory.mktemp("voc")
    devkit = root / "VOCdevkit" / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (devkit / folder).mkdir(parents=True)
    for file in FILES:
        (devkit / "JPEGImages" / f"{file}.jpg").write_bytes(encode(photo, "JPEG"))
        objects = [OBJECT.format(name, hard, *box) for f, name, hard, box in OBJECTS if f == file]
        (devkit / "Annotations" / f"{file}.xml").write_text(XML.format("".join(objects)))
    (devkit / "ImageSets" / "Main" / "train.txt").write_text("\n".join(FILES))

    def split_generators(builder, dl_manager):
        examples = builder._generate_examples(str(root), "train")
        return {"train": examples, "test": builder._generate_examples(str(root), "train")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Voc, "_split_generators", split_generators)
        prepare("voc/2007", str(root))
    return DetectionData(
        source="voc/2007", data_dir=str(root), buckets=((47, 61), (61, 47)), threads=2
    )


def test_boxes_are_pixels_from_zero_and_difficult_ones_are_kept(voc):
    source = open_detection(voc, "train").source
    assert source.class_names[:3] == ("aeroplane", "bicycle", "bird")
    assert source.category_ids == tuple(range(20))
    found = {source.annotations(i).image_id: source.annotations(i) for i in range(len(source))}
    assert sorted(found) == list(FILES)
    first = found["000005"]
    assert first.size == (47, 61)
    assert [source.class_names[label] for label in first.labels] == ["chair", "person"]
    np.testing.assert_array_equal(first.boxes, [[0, 0, 30, 20], [10, 5, 40, 47]])
    np.testing.assert_allclose(first.areas, [600, 30 * 42])
    assert first.difficult.tolist() == [False, True]
    assert first.targets.tolist() == [True, False]
    np.testing.assert_array_equal(found["000007"].boxes, [[60, 46, 61, 47]])
    assert len(found["000012"]) == 0


def test_batches_have_the_targets(voc, photo):
    dataset = open_detection(voc, "eval")
    seen = 0
    for batch in eval_batches(dataset, 2):
        assert batch["image"].shape[1:] == (47, 61, 3)
        for index, image, valid in zip(
            batch["index"], batch["image"], batch["box_valid"], strict=True
        ):
            if index >= 0:
                assert np.abs(image.astype(int) - np.asarray(photo)).mean() < 8  # a JPEG
                assert valid.sum() == dataset.source.annotations(int(index)).targets.sum()
                seen += 1
    assert seen == 3
    assert next(train_batches(open_detection(voc, "train"), 4, seed=0))["valid"].all()


def test_other_classes_and_sets_are_refused(voc, data_dir):
    with pytest.raises(DataError, match=r"data 'voc/2007': .* none of the model's classes; .* cat"):
        open_detection(voc, "eval", ("cat", "dog"))
    digits = DetectionData(source="digits", data_dir=data_dir)
    with pytest.raises(DataError, match=r"'digits' is not for detection: .* image, label"):
        open_detection(digits, "train")
    with pytest.raises(DataError, match=r"no split 'val'; there are"):
        open_detection(
            DetectionData(source="voc/2007", data_dir=voc.data_dir, eval_split="val"), "eval"
        )
    with pytest.raises(DataError, match=r"data\.masks: voc/2007 has no masks"):
        open_detection(DetectionData(source="voc/2007", masks=True), "train")
    with pytest.raises(DataError, match=r"'voc/2012' is not prepared in .*; run: python -m"):
        open_detection(DetectionData(source="voc/2012", data_dir=voc.data_dir), "train")


@pytest.fixture(params=["devkit", "export"])
def own(request, tmp_path, photo):
    """A folder of xml and images in either layout; `write` replaces an xml."""
    names = {"train": ("000005", "000007"), "val": ("000012",)}
    devkit = request.param == "devkit"
    for split, files in names.items():
        place = tmp_path if devkit else tmp_path / split
        xmls, images = (place / "Annotations", place / "JPEGImages") if devkit else (place, place)
        for folder in (xmls, images):
            folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            photo.save(images / f"{file}.png")
            objects = [
                OBJECT.format(name, hard, *box) for f, name, hard, box in OBJECTS if f == file
            ]
            (xmls / f"{file}.xml").write_text(XML.format("".join(objects)))
        if devkit:
            (tmp_path / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
            (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(files))
    return tmp_path


def own_data(folder, **changes):
    changes = {"source": f"voc:{folder}", "eval_split": "val", "buckets": ((47, 61),), **changes}
    return DetectionData(threads=2, **changes)


def test_a_folder_of_xml_of_ones_own(own):
    source = open_detection(own_data(own), "train").source
    assert source.class_names == ("car", "chair", "person")
    assert [source.annotations(i).image_id for i in range(2)] == ["000005", "000007"]
    first, second = source.annotations(0), source.annotations(1)
    assert [source.class_names[label] for label in first.labels] == ["chair", "person"]
    np.testing.assert_array_equal(first.boxes, [[0, 0, 30, 20], [10, 5, 40, 47]])
    assert first.targets.tolist() == [True, False]
    np.testing.assert_array_equal(second.boxes, [[60, 46, 61, 47]])
    batch = next(train_batches(open_detection(own_data(own), "train"), 2, seed=0))
    assert batch["valid"].all() and batch["box_valid"].sum() == 2
    held_out = open_detection(own_data(own), "eval")
    assert held_out.class_names == source.class_names and len(held_out) == 1
    sliced = open_detection(own_data(own, train_split="train[:1]"), "train")
    assert len(sliced) == 1 and sliced.class_names == source.class_names


def test_sizes_that_a_tool_left_out_and_boxes_from_zero(own):
    (path,) = own.rglob("000012.xml")
    box = OBJECT.format("car", 0, 0, 0, 9, 9)
    path.write_text(f"<annotation><filename>C:\\x\\000012.png</filename>{box}</annotation>")
    found = open_detection(own_data(own), "eval").source.annotations(0)
    assert found.size == (47, 61)
    np.testing.assert_array_equal(found.boxes, [[0, 0, 9, 9]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text("<annotation>"), r"000012\.xml: not xml: "),
        (lambda path: path.write_text(XML.format("<object/>")), "<object> without name"),
        (
            lambda path: path.write_text(XML.format(OBJECT.format("car", 0, 9, 9, 1, 9))),
            r"000012\.xml: car: a box of xmin 9, ymin 9, xmax 1, ymax 9 cannot be",
        ),
        (
            lambda path: path.write_text(XML.format(OBJECT.format("cat", 0, 1, 1, 9, 9))),
            "cat is none of the model's classes; these are car, chair, person",
        ),
        (lambda path: next(path.parents[1].rglob("000012.png")).unlink(), r"000012\.jpg is not in"),
    ],
)
def test_what_is_wrong_in_a_folder_of_xml_is_one_line(own, change, message):
    change(next(own.rglob("000012.xml")))
    with pytest.raises(DataError, match=message) as error:
        open_detection(own_data(own), "eval")
    assert "\n" not in str(error.value)


def test_folders_of_xml_that_are_not_there(own, tmp_path):
    for source, message in (
        (own_data(tmp_path / "nowhere"), "nowhere: no such folder"),
        (own_data(own, eval_split="dev"), r"there are:? train, val"),
        (own_data(own, masks=True), r"data\.masks: voc:.* has no masks"),
    ):
        with pytest.raises(DataError, match=message):
            open_detection(source, "eval")
