"""A folder of small images with annotations in COCO's format, for the tests of its readers."""

import json

import numpy as np

from zoo.ops import rle

SIZES = {3: (60, 80), 14: (80, 60), 15: (50, 90), 159: (64, 64)}  # height, width by image id


def square(image, category, x, y, width, height, **more):
    """An annotation whose polygon is a rectangle."""
    corners = [x, y, x, y + height, x + width, y + height, x + width, y]
    box = {"bbox": [x, y, width, height], "area": width * height, "segmentation": [corners]}
    return {"image_id": image, "category_id": category, "iscrowd": 0, **box, **more}


def annotations():
    """Annotations with category ids that have gaps and are not sorted; image 15 has no objects."""
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


def rewrite(coco, change, split="train2017"):
    """Changes the annotation file of a split."""
    path = coco / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
