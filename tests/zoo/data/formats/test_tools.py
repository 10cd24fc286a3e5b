"""Files as tools and systems write them: encodings, numbers, stray files, strange parts."""

import copy
import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from eval import detection, segmentation
from eval.files import read_coco, read_coco_results, read_voc
from tests.eval import oracle
from tests.zoo.data.coco_folder import SIZES, annotations
from zoo.data import (
    ClassificationData,
    DataError,
    DetectionData,
    SegmentationData,
    TranslationData,
    open_classification,
    open_detection,
    open_segmentation,
    open_translation,
)
from zoo.data.formats.coco import read_annotations, read_categories
from zoo.data.formats.folders import entries, find_file, read_class_names
from zoo.data.formats.panoptic import read_panoptic
from zoo.data.formats.voc import read_xml
from zoo.data.pairs import open_pairs
from zoo.text.tokenizers import BytePairs, open_tokenizer
from zoo.weights.preprocessing import preprocessing_beside

ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le")


def write(path, content, encoding="utf-8"):
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    return path


def named(name):
    content = annotations()
    content["categories"][0]["name"] = name
    return content


def results():
    fields = ("image_id", "category_id", "bbox", "segmentation")
    rows = annotations()["annotations"]
    return [{k: row[k] for k in fields} | {"score": 0.5 + 0.1 * i} for i, row in enumerate(rows)]


@pytest.fixture
def coco(tmp_path):
    """A folder for ``coco:`` with one split, train."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    for image, size in SIZES.items():
        Image.new("RGB", size[::-1]).save(tmp_path / "train" / f"{image}.png")
    write(tmp_path / "annotations" / "instances_train.json", annotations())
    return tmp_path


def train(coco, **fields):
    data = DetectionData(source=f"coco:{coco}", buckets=((90, 90),), **fields)
    return open_detection(data, "train")


# ---------------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_of_any_certain_encoding(tmp_path, encoding):
    path = write(tmp_path / "a.json", named("\ufeffKäfer\xa0猫 "), encoding)
    assert read_annotations(path, masks="encoded").category_names[90] == "Käfer 猫"
    truth = read_coco(path, "segm")
    assert truth.category_names[90] == "Käfer 猫"
    found = write(tmp_path / "r.json", results(), encoding)
    assert len(read_coco_results(found, truth, "bbox")[0]) == 5
    rows = [{"image_id": 1, "file_name": "1.png", "segments_info": []}]
    panoptic = {"annotations": rows, "categories": [{"id": 1, "name": "Käfer", "isthing": 1}]}
    assert read_panoptic(write(tmp_path / "p.json", panoptic, encoding)).categories[0].isthing


@pytest.mark.parametrize("encoding", ["latin-1", "gbk"])
def test_json_of_another_encoding_is_one_line(coco, encoding):
    path = coco / "annotations" / "instances_train.json"
    write(path, named("Müller" if encoding == "latin-1" else "汽车"), encoding)
    with pytest.raises(DataError, match=r"train\.json: not text in UTF-8: byte .* at line 1, byte"):
        train(coco)
    with pytest.raises(DataError, match="not text in UTF-8"):
        read_coco(path, "bbox")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_and_tables_of_any_certain_encoding(tmp_path, encoding):
    path = tmp_path / "x.tsv"
    path.write_bytes("number\tgröße\r\none\teins\r\n".encode(encoding))
    (tmp_path / "train.tsv").write_bytes(path.read_bytes())
    pairs = open_pairs(f"pairs:{tmp_path}", None, "train", ("en", "de"))
    assert pairs == [("number", "größe"), ("one", "eins")]
    path.write_bytes("road\r\n\u200bsky\r\n\r\n".encode(encoding))
    assert read_class_names(path, 9) == ("road", "sky")
    tokenizer = BytePairs.train(["größe"], 270).files()["tokenizer.json"].decode()
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.encode(encoding))
    assert open_tokenizer(tmp_path).vocab_size <= 270
    timm = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "note": "größe"}
    write(tmp_path / "config.json", timm, encoding)
    assert preprocessing_beside(tmp_path).size == (64, 64)


XML = """<?xml version="1.0"{}?>
<annotation><filename>{}</filename><size><width>{}</width><height>40</height></size>
<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>
<xmax>30.0</xmax><ymax>20</ymax></bndbox></object></annotation>"""


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("", "utf-8-sig"),
        ("", "utf-16"),
        (' encoding="GBK"', "gbk"),
        (' encoding="utf-16"', "utf-8"),
    ],
)
def test_xml_of_any_certain_encoding(tmp_path, declared, encoding):
    path = tmp_path / "a.xml"
    path.write_bytes(XML.format(declared, "a.jpg", "60.0", "猫\u3000", "0").encode(encoding))
    image = read_xml(path)
    assert image.size == (40, 60) and image.objects[0].name == "猫"
    path.write_bytes(XML.format("", "a.jpg", 60, "grün", 0).encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.xml: not text in UTF-8: byte 0xfc at line 3"):
        read_xml(path)


# ------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("word", "difficult"),
    [
        *((word, False) for word in ("False", "no", "0", "", "0.0")),
        *((word, True) for word in ("True", "yes", "1", "1.0")),
    ],
)
def test_words_for_difficult(tmp_path, word, difficult):
    path = tmp_path / "a.xml"
    path.write_text(XML.format("", "a.jpg", 60, "cat", word))
    assert read_xml(path).objects[0].difficult is difficult


def test_other_words_for_difficult_are_named(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(XML.format("", "a.jpg", 60, "cat", "Unspecified"))
    with pytest.raises(DataError, match=r"a\.xml: cat: difficult is 'Unspecified', not 0, 1"):
        read_xml(path)


def changed(change):
    content, found = annotations(), results()
    change(content, found)
    return content, found


def each(content, found, change):
    for row in [*content["annotations"], *found]:
        change(row)


def as_pandas(content, found):
    """Every whole number as a float, and what is absent as null."""
    for row in [*content["images"], *content["categories"], *content["annotations"], *found]:
        row |= {k: float(v) for k, v in row.items() if isinstance(v, int)}
    for row in content["annotations"]:
        row |= {"iscrowd": row["iscrowd"] or None, "keypoints": None, "num_keypoints": None}
    for row in found:
        row |= {"keypoints": []}


def as_text_ids(content, found):
    for row in content["categories"]:
        row["id"] = str(row["id"])
    each(content, found, lambda row: row.update(category_id=str(row["category_id"])))
    for row in content["images"]:
        row["id"] = str(row["id"])
    each(content, found, lambda row: row.update(image_id=str(row["image_id"])))


def as_names(content, found):
    names = {row["id"]: row["name"] for row in content["categories"]}
    each(content, found, lambda row: row.update(category_id=names[row["category_id"]]))
    for row in content["categories"]:
        row["id"] = row["name"]


def without_sizes(content, found):
    for row in content["images"]:
        row |= {"width": None, "height": None}


def as_placeholders(content, found):
    for row in content["annotations"]:
        row |= {"segmentation": [], "keypoints": []}
    for row in found:
        row |= {"segmentation": [], "keypoints": None}


@pytest.mark.parametrize(
    "change", [as_pandas, as_text_ids, as_names, without_sizes, as_placeholders]
)
def test_numbers_as_tools_write_them_score_as_pycocotools(tmp_path, change, capsys):
    content, found = changed(change)
    given = copy.deepcopy(content)
    for row in given["annotations"]:  # pycocotools fails for an iscrowd that is null
        row |= {"iscrowd": row["iscrowd"] or 0}
    expected = oracle.evaluate(given, found, "bbox").stats
    files = [write(tmp_path / "a.json", content), write(tmp_path / "r.json", found)]
    out = tmp_path / "o.json"
    arguments = [f"--annotations={files[0]}", f"--predictions={files[1]}", f"--json={out}"]
    assert detection.main(arguments) == 0, capsys.readouterr().err
    figures = list(json.loads(out.read_text()).values())[: len(expected)]
    np.testing.assert_array_equal(figures, expected)
    assert figures[0] > 0.5


def test_numbers_as_tools_write_them_are_trained_on(coco):
    plain = train(coco, masks=True).source
    for change in (as_pandas, as_text_ids):
        content, _ = changed(change)
        write(coco / "annotations" / "instances_train.json", content)
        source = train(coco, masks=True).source
        by_id = {int(float(source.annotations(i).image_id)): i for i in range(4)}
        for image, index in enumerate(sorted(by_id)):
            ours, theirs = source.annotations(by_id[index]), plain.annotations(image)
            np.testing.assert_array_equal(ours.boxes_xywh, theirs.boxes_xywh)
            np.testing.assert_array_equal(ours.crowd, theirs.crowd)
            names = [[s.class_names[k] for k in a.labels] for s, a in
                     ((source, ours), (plain, theirs))]  # fmt: skip
            assert names[0] == names[1]
            for one, other in zip(ours.masks.to_arrays(), theirs.masks.to_arrays(), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        (
            "annotations",
            {"category_id": 7.5},
            r"`\$\.annotations\[1\]\.category_id`, which is 7\.5",
        ),
        ("annotations", {"iscrowd": "perhaps"}, r"annotations\[1\]\.iscrowd`, which is 'perhaps'"),
        ("annotations", {"area": "large"}, r"annotations\[1\]\.area`, which is 'large'"),
        ("annotations", {"bbox": None}, r"annotations\[1\]\.bbox`, which is None"),
        ("annotations", {"image_id": "3"}, r"image_id is text, .*: .*\[1\] \(id 101, image_id '3'"),
        ("annotations", {"category_id": "7"}, r"category_id is text.* numbers: .* category_id '7'"),
        ("images", {"width": 80.5}, r"`\$\.images\[1\]\.width`, which is 80\.5"),
        ("categories", {"id": "7"}, "some category ids are numbers, some are text"),
        (
            "annotations",
            {"bbox": [1e12, 0, 5, 5]},
            r"bbox: numbers beyond 1e\+09: annotations\[1\]",
        ),
    ],
)
def test_what_has_no_meaning_is_named_with_its_value(tmp_path, where, change, message):
    content = annotations()
    content[where][1] |= change
    path = write(tmp_path / "a.json", content)
    for rules in ("training", "coco"):
        with pytest.raises(DataError, match=message):
            read_annotations(path, rules)


def test_results_whose_ids_are_text_where_the_truth_has_numbers(tmp_path):
    truth = read_coco(write(tmp_path / "a.json", annotations()), "bbox")
    for field, value in (("category_id", "7"), ("image_id", "3")):
        found = results()
        found[1][field] = value
        path = write(tmp_path / "r.json", found)
        message = rf"{field} is text, but the ids that are listed are numbers: .*{field} '{value}'"
        with pytest.raises(DataError, match=message):
            read_coco_results(path, truth, "bbox")


# -------------------------------------------------------------------------------------------- parts


def test_a_polygon_of_two_points_beside_a_good_one(coco, caplog):
    content = annotations()
    good = content["annotations"][1]["segmentation"]
    content["annotations"][1]["segmentation"] = [*good, [1, 2, 3, 4], [5, 6]]
    path = write(coco / "annotations" / "instances_train.json", content)
    with caplog.at_level(logging.WARNING):
        masks = train(coco, masks=True).source.annotations(0).masks
    assert caplog.text.count("ignored 2 polygons of fewer than 3 points, beside good ones") == 1
    assert masks.areas()[0] == 30 * 25
    truth = read_coco(path, "segm")
    assert [w for w in truth.warnings if "ignored 2 polygons" in w]
    found = results()
    found[1]["segmentation"] = [*good, [1, 2, 3, 4]]
    rows, warnings = read_coco_results(write(coco / "r.json", found), truth, "segm")
    assert rows.areas[1] == 30 * 25 and "ignored 1 polygons" in warnings[0]
    content["annotations"][1]["segmentation"] = [*good, [1, 2, 3, 4]]
    official = oracle.evaluate(content, found, "segm").stats
    files = f"--annotations={write(path, content)}", f"--predictions={coco}/r.json"
    out = coco / "o.json"
    assert detection.main([*files, f"--json={out}", "--iou_type=segm"]) == 0
    figures = list(json.loads(out.read_text()).values())[: len(official)]
    np.testing.assert_array_equal(figures, official)


@pytest.mark.parametrize("root", [0, 1000])
def test_a_root_category_with_the_name_of_a_class(coco, root):
    content = annotations()
    content["categories"].append({"id": root, "name": "dog", "supercategory": "none"})
    path = write(coco / "annotations" / "instances_train.json", content)
    source = train(coco).source
    assert source.class_names == ("cat", "dog", "zebra") and source.category_ids == (7, 21, 90)
    assert read_categories(path) == {7: "cat", 21: "dog", 90: "zebra"}
    with pytest.raises(DataError, match="several categories have the name 'dog'"):
        content["annotations"][0]["category_id"] = root
        write(path, content)
        train(coco)


# -------------------------------------------------------------------------------------------- files


def litter(folder):
    """What systems and programs leave in every folder below, and in the folder itself."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for path in [path for path in place.iterdir() if path.is_file()]:
            (place / f"._{path.name}").write_bytes(b"\0\5\26\7")
            for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
                (place / name).mkdir(exist_ok=True)
                shutil.copy(path, place / name / f"{path.stem}-checkpoint{path.suffix}")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(b"\0")


def test_stray_files_are_in_no_list(tmp_path):
    photo, mask = Image.new("RGB", (60, 40)), Image.new("L", (60, 40))
    for part in ("voc/train", "classes/train/cat", "truth", "found", "pairs/train/images"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "pairs/train/masks").mkdir()
    photo.save(tmp_path / "voc/train/a.JPG", "JPEG")
    (tmp_path / "voc/train/a.XML").write_text(XML.format("", "", 60, "cat", 0))
    photo.save(tmp_path / "classes/train/cat/a.PNG", "PNG")
    for part in ("truth/a.png", "found/a.PNG", "pairs/train/masks/a.png"):
        mask.save(tmp_path / part, "PNG")
    photo.save(tmp_path / "pairs/train/images/a.JPEG", "JPEG")
    (tmp_path / "pairs/classes.txt").write_text("road\n")
    litter(tmp_path)
    voc = DetectionData(source=f"voc:{tmp_path}/voc", buckets=((40, 60),))
    assert len(open_detection(voc, "train")) == 1
    assert len(read_voc(tmp_path / "voc/train").images) == 1
    classes = open_classification(ClassificationData(source=f"folder:{tmp_path}/classes"), "train")
    assert len(classes) == 1 and classes.class_names == ("cat",)
    pairs = SegmentationData(source=f"folder:{tmp_path}/pairs")
    assert len(open_segmentation(pairs, "train")) == 1
    files = f"--annotations={tmp_path}/truth", f"--predictions={tmp_path}/found"
    assert segmentation.main([*files, "--classes=2"]) == 0
    assert [entry.name for entry in entries(tmp_path)] == sorted(
        ["voc", "classes", "truth", "found", "pairs"]
    )


def test_file_names_of_windows(coco, tmp_path):
    content = annotations()
    for row in content["images"]:
        row["file_name"] = f"sub\\{row['id']}.PNG"
    write(coco / "annotations" / "instances_train.json", content)
    (coco / "train" / "sub").mkdir()
    for image in SIZES:
        (coco / "train" / f"{image}.png").rename(coco / "train" / "sub" / f"{image}.png")
    source = train(coco).source
    assert [source[i]["name"] for i in range(4)] == [
        f"{coco}/train/sub/{image}.png" for image in sorted(SIZES)
    ]
    (tmp_path / "a\\b.png").write_bytes(b"")  # a file may have this very name on Linux
    assert find_file(tmp_path, "a\\b.png") == f"{tmp_path}/a\\b.png"
    assert find_file(tmp_path, "c\\d.png") == f"{tmp_path}/c\\d.png"


# ------------------------------------------------------------------------------------------ nothing


def test_empty_splits_and_lists_are_one_line(tmp_path):
    (tmp_path / "photos/train/cat").mkdir(parents=True)
    photos = f"folder:{tmp_path}/photos"
    with pytest.raises(DataError, match=r"train/cat: class folder without images"):
        open_classification(ClassificationData(source=photos), "train")
    Image.new("RGB", (9, 9)).save(tmp_path / "photos/train/cat/a.png")
    with pytest.raises(DataError, match=r"has no images in the split 'train\[:0%\]'"):
        open_classification(ClassificationData(source=photos, train_split="train[:0%]"), "train")
    for part in ("Main", "Segmentation"):
        (tmp_path / "ImageSets" / part).mkdir(parents=True)
        (tmp_path / "ImageSets" / part / "train.txt").write_text("\n")
    for opened, data in ((open_detection, DetectionData), (open_segmentation, SegmentationData)):
        with pytest.raises(DataError, match=r"train\.txt: lists no images"):
            opened(data(source=f"voc:{tmp_path}"), "train")
    (tmp_path / "train.tsv").write_text("")
    with pytest.raises(DataError, match=r"train\.tsv: no pairs: the file is empty"):
        open_translation(TranslationData(source=f"pairs:{tmp_path}"), "train")


def test_files_of_nothing_are_scored_with_a_warning(tmp_path, capsys):
    truth, found = tmp_path / "a.json", tmp_path / "r.json"
    files = f"--annotations={truth}", f"--predictions={found}", f"--json={tmp_path}/o.json"
    write(truth, annotations())
    for content, rows, message, ap in (
        (annotations(), [], "r.json: no object is found in any image", 0),
        (
            annotations() | {"annotations": []},
            results(),
            "a.json: no object is annotated in any",
            -1,
        ),
        ({"images": [], "categories": [], "annotations": []}, [], "no object is annotated", -1),
    ):
        write(truth, content)
        write(found, rows)
        assert detection.main([*files]) == 0
        assert message in capsys.readouterr().err
        assert json.loads((tmp_path / "o.json").read_text())["AP"] == ap
    found.write_text("")
    assert detection.main([*files]) == 2
    assert "r.json: not a COCO result file: the file is empty" in capsys.readouterr().err
