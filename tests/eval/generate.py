"""Random data sets in COCO's formats: small ones with special cases for tests, and a large one.

python tests/eval/generate.py DIR [--iou_type=bbox|segm|keypoints] [--images=5000] writes
DIR/annotations.json and DIR/results.json of the size of COCO's val2017: 80 categories, about 36,000
objects, 100 detections for each image.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from zoo.ops import rle
from zoo.ops.polygons import from_polygons

Dataset = tuple[dict, list[dict]]


def awkward(seed: int, iou_type: str = "bbox") -> Dataset:
    """A small data set with the special cases in which evaluators make mistakes.

    It has crowds, zero areas, equal scores, equal overlaps, exact hits, more than 100 detections,
    images and categories without objects or detections, and ids with gaps that are not sorted.
    """
    rng = np.random.default_rng(seed)
    num_images, num_categories = rng.integers(1, 7), rng.integers(1, 5)
    image_ids = rng.permutation(50)[:num_images].tolist()
    category_ids = rng.permutation(20)[:num_categories].tolist()
    side = int(rng.choice([40, 120, 400]))
    images = [
        {"id": i, "height": side, "width": side + 7, "file_name": f"{i}.png"} for i in image_ids
    ]
    most = int(rng.choice([3, 8, 20]))
    objects = [
        _awkward_object(rng, image, int(rng.choice(category_ids)), side, iou_type)
        for image in image_ids
        for _ in range(rng.integers(0, most))
    ]
    for i, (record, unused) in enumerate(zip(objects, rng.permutation(1000), strict=False)):
        record["id"] = int(unused) + 1 if seed % 2 else i + 1
    results = _awkward_results(rng, objects, image_ids, category_ids, side, iou_type)
    if iou_type == "segm" and seed % 3 == 0:
        for result in results:
            del result["bbox"]
    if iou_type == "keypoints" and seed % 3 == 0:
        for result in results:
            del result["bbox"]
    categories = [{"id": i, "name": f"c{i}"} for i in category_ids]
    return {"images": images, "categories": categories, "annotations": objects}, results


def federated(seed: int, iou_type: str = "bbox") -> Dataset:
    """An `awkward` data set with LVIS's frequencies, and its absent and incomplete categories.

    Some of the data sets have more than 300 detections in an image.
    """
    dataset, results = awkward(seed, iou_type)
    rng = np.random.default_rng(seed)
    ids = [category["id"] for category in dataset["categories"]]
    for i, record in enumerate(dataset["annotations"]):
        record |= {"iscrowd": 0, "id": i + 1, "ignore": int(rng.random() < 0.1)}
    for category in dataset["categories"]:
        category["frequency"] = str(rng.choice(["r", "c", "f"]))
    for image in dataset["images"]:
        image["neg_category_ids"] = [i for i in ids if rng.random() < 0.4]
        image["not_exhaustive_category_ids"] = [i for i in ids if rng.random() < 0.3]
    if seed % 2:
        image = dataset["images"][0]["id"]
        own = [dict(result) for result in results if result["image_id"] == image]
        results += [result | {"score": round(float(rng.random()), 2)} for result in own * 8]
    return dataset, results


def _box(rng: np.random.Generator, side: int) -> list[float]:
    xy, wh = rng.uniform(0, side * 0.7, 2), rng.uniform(0, side * 0.6, 2)
    box = np.concatenate([xy, np.minimum(wh, side - xy)])
    if rng.random() < 0.4:
        box = np.floor(box / 8) * 8  # coarse, so that overlaps are equal and some areas are zero
    return box.tolist()


def _awkward_object(
    rng: np.random.Generator, image: int, category: int, side: int, iou_type: str
) -> dict:
    box = _box(rng, side)
    record = {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3] * float(rng.choice([1, 0.7])),
        "iscrowd": int(rng.random() < 0.15),
    }
    if iou_type == "segm":
        record["segmentation"] = _segmentation(rng, box, side, bool(record["iscrowd"]))
    if iou_type == "keypoints":
        seen = rng.integers(0, 3, 17) * (rng.random() < 0.85)
        record["keypoints"] = _joints(rng, box, seen)
        record["num_keypoints"] = int((seen > 0).sum())
    return record


def _awkward_results(
    rng: np.random.Generator,
    objects: list[dict],
    image_ids: list[int],
    category_ids: list[int],
    side: int,
    iou_type: str,
) -> list[dict]:
    results = []
    crowded = rng.random() < 0.2  # more than 100 detections of a category in an image
    for _ in range(int(rng.integers(150, 300) if crowded else rng.integers(1, 60))):
        if objects and rng.random() < 0.7:
            like = objects[rng.integers(len(objects))]
            jitter = float(rng.choice([0, 0, 0.03, 0.1, 0.3]))
            box = np.array(like["bbox"]) + rng.normal(0, jitter, 4) * max(like["bbox"][2:])
            box = np.maximum(box, 0).tolist()
            image, category = like["image_id"], like["category_id"]
        else:
            like, box = None, _box(rng, side)
            image, category = int(rng.choice(image_ids)), int(rng.choice(category_ids))
        if crowded:
            image, category = image_ids[0], category_ids[0]
        score = round(float(rng.random()), int(rng.choice([1, 4])))
        result = {"image_id": image, "category_id": category, "bbox": box, "score": score}
        if iou_type == "segm":
            result["segmentation"] = _segmentation(rng, box, side, compressed=True)
        if iou_type == "keypoints":
            if like is None:
                result["keypoints"] = _joints(rng, box, np.ones(17, int))
            else:
                joints = np.array(like["keypoints"], float).reshape(17, 3)
                joints[:, :2] += rng.normal(0, jitter * max(*box[2:], 1) / 3, (17, 2))
                result["keypoints"] = joints.ravel().tolist()
        results.append(result)
    return results


def _joints(rng: np.random.Generator, box: list[float], visibility: np.ndarray) -> list[float]:
    points = np.array(box[:2]) + rng.random((17, 2)) * box[2:]
    return np.concatenate([points, visibility[:, None]], axis=1).ravel().tolist()


def _outline(rng: np.random.Generator, box: list[float], corners: int = 8) -> list[float]:
    """A polygon around the centre of the box."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = rng.uniform(0.7, 1, corners)
    x = box[0] + box[2] / 2 * (1 + radius * np.cos(angle))
    y = box[1] + box[3] / 2 * (1 + radius * np.sin(angle))
    return np.stack([x, y], axis=-1).ravel().round(2).tolist()


def _segmentation(
    rng: np.random.Generator,
    box: list[float],
    side: int,
    uncompressed: bool = False,
    compressed: bool = False,
) -> dict | list:
    polygons = [_outline(rng, box) for _ in range(rng.integers(1, 3))]
    if not (uncompressed or compressed):
        return polygons
    size = [side, side + 7]
    masks = from_polygons(polygons, np.zeros(len(polygons), int), np.array([size]))
    if compressed:
        return {"size": size, "counts": rle.to_strings(masks)[0]}
    ends = [*masks.toggles.tolist(), size[0] * size[1]]
    return {"size": size, "counts": np.diff(ends, prepend=0).tolist()}


def val2017_sized(iou_type: str = "bbox", num_images: int = 5000, seed: int = 0) -> Dataset:
    """A data set of the size of COCO val2017, and results of a detector of medium quality."""
    rng = np.random.default_rng(seed)
    num_categories = 1 if iou_type == "keypoints" else 80
    frequency = 1 / np.arange(2, num_categories + 2)
    frequency /= frequency.sum()
    objects, results = [], []
    images = [
        {"id": i, "height": 480, "width": 640, "file_name": f"{i}.jpg"}
        for i in range(1, num_images + 1)
    ]
    per_image = 20 if iou_type == "keypoints" else 100
    for image in images:
        count = rng.geometric(1 / 7.3)
        present = rng.choice(num_categories, rng.integers(1, 5), p=frequency)
        categories = rng.choice(present, count) + 1
        size = np.exp(rng.normal(4, 0.9, (count, 2))).clip(4, 400)
        corner = rng.random((count, 2)) * (np.array([640, 480]) - size).clip(1)
        boxes = np.concatenate([corner, np.minimum(size, [640, 480] - corner)], axis=1).round(2)
        own = [_large_object(rng, image["id"], int(c), b.tolist(), iou_type)
               for c, b in zip(categories, boxes, strict=True)]  # fmt: skip
        source = rng.integers(count, size=per_image)
        noise = rng.normal(0, rng.choice([0.03, 0.1, 0.4], per_image)[:, None], (per_image, 4))
        shifted = np.maximum(boxes[source] + noise * boxes[source][:, [2, 3, 2, 3]], 1)
        strays = rng.random(per_image) < 0.4
        labels = np.where(
            strays, rng.choice(num_categories, per_image, p=frequency) + 1, categories[source]
        )
        scores = rng.beta(1, 4, per_image) + 0.5 * (np.abs(noise).max(axis=1) < 0.1) * ~strays
        for box, label, score, like in zip(
            shifted.round(2).tolist(), labels, scores, source, strict=True
        ):
            results.append(_large_result(rng, own[like], int(label), box, float(score), iou_type))
        objects += own
    for i, record in enumerate(objects):
        record["id"] = i + 1
    names = [{"id": i + 1, "name": f"category {i + 1}"} for i in range(num_categories)]
    return {"images": images, "categories": names, "annotations": objects}, results


def _large_object(
    rng: np.random.Generator, image: int, category: int, box: list[float], iou_type: str
) -> dict:
    crowd = int(rng.random() < 0.01)
    record = {"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
    record["area"] = box[2] * box[3] * 0.8
    if iou_type == "segm":
        record["segmentation"] = [_outline(rng, box, 24)]
    if iou_type == "keypoints":
        record["keypoints"] = _joints(rng, box, rng.integers(0, 3, 17))
        record["num_keypoints"] = int(np.count_nonzero(record["keypoints"][2::3]))
    return record


def _large_result(
    rng: np.random.Generator,
    like: dict,
    category: int,
    box: list[float],
    score: float,
    iou_type: str,
) -> dict:
    result = {"image_id": like["image_id"], "category_id": category, "score": round(score, 5)}
    if iou_type == "bbox":
        result["bbox"] = box
    if iou_type == "keypoints":
        joints = np.array(like["keypoints"]).reshape(17, 3)
        shift = np.array(box[:2]) - like["bbox"][:2]
        points = joints[:, :2] + shift / 4 + rng.normal(0, 1, (17, 2))
        result["keypoints"] = (
            np.concatenate([points, joints[:, 2:]], axis=1).round(2).ravel().tolist()
        )
    if iou_type == "segm":
        box[2:] = min(box[2], 640 - box[0]), min(box[3], 480 - box[1])
        size = [480, 640]
        masks = from_polygons([_outline(rng, box, 24)], np.zeros(1, int), np.array([size]))
        result["segmentation"] = {"size": size, "counts": rle.to_strings(masks)[0]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iou_type", default="bbox", choices=("bbox", "segm", "keypoints"))
    parser.add_argument("--images", type=int, default=5000)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    dataset, results = val2017_sized(arguments.iou_type, arguments.images)
    (arguments.folder / "annotations.json").write_text(json.dumps(dataset))
    (arguments.folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
