import numpy as np
import pytest

from eval.coco import CocoEvaluator
from eval.detection import main
from eval.records import DetectionRows, ObjectRows
from eval.scales import Scale, at_scale, merged, parse_scales
from train.recipes.parts.coco import COCO
from zoo.data import DetectionData
from zoo.types import InputError


def test_the_syntax_of_scales():
    found = parse_scales("1400x2000:0-90, 800x1280:32.5-180,480x512:75-,600x900,64x64:-9")
    inf = float("inf")
    assert found == (
        Scale(1400, 2000, 0, 90),
        Scale(800, 1280, 32.5, 180),
        Scale(480, 512, 75, inf),
        Scale(600, 900, 0, inf),
        Scale(64, 64, 0, 9),
    )
    for wrong in ("", "800", "800x", "0x0", "800x1333:9-3", "800x1333:", "800x1333;1x1"):
        with pytest.raises(InputError, match=r"--scales: .* is not SHORTxLONG"):
            parse_scales(wrong)


def test_buckets_have_the_scale():
    large = at_scale(COCO, Scale(1400, 2000))
    assert (large.short_sides, large.long_side) == ((1400,), 2000)
    assert large.buckets == ((1408, 1920), (1920, 1408), (1408, 2016), (2016, 1408))
    small = at_scale(COCO, Scale(480, 512))
    assert small.buckets == ((480, 512), (512, 480))
    scenes = at_scale(DetectionData(), Scale(96, 96))
    assert scenes.buckets == ((96, 96),) and scenes.short_sides == (96,)


def rows(rng, images, n):
    low = rng.uniform(0, 40, (n, 2))
    sides = rng.uniform(3, 40, (n, 2))
    return DetectionRows(
        rng.choice(images, n),
        rng.integers(0, 2, n),
        rng.uniform(0.1, 1, n),
        np.concatenate([low, sides], axis=1),
        sides.prod(axis=1),
        keypoints=rng.uniform(0, 9, (n, 1, 3)),
    )


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    both = np.maximum(high - low, 0).prod()
    return both / (a[2:].prod() + b[2:].prod() - both)


def test_merged_rows_are_those_of_loops():
    rng = np.random.default_rng(0)
    images = np.arange(100, 140)
    none = np.zeros(0, int)
    objects = ObjectRows(none, none, np.zeros((0, 4)), np.zeros(0), none > 0, none > 0)
    scales = (Scale(64, 64, 0, 20), Scale(96, 96, 12, float("inf")))
    parts = []
    for _ in scales:
        part = CocoEvaluator({0: "a", 1: "b"})
        part.update(images, objects, rows(rng, images[:-2], 130))
        parts.append(part)
    result = merged(parts, scales, 0.4)
    assert result.images.tolist() == images.tolist()
    _, found = result.rows()
    expected = []
    for image in images:
        for category in (0, 1):
            left = []
            for part, scale in zip(parts, scales, strict=True):
                _, given = part.rows()
                for i in np.flatnonzero((given.images == image) & (given.categories == category)):
                    box = given.boxes_xywh[i]
                    if scale.smallest < box[2:].prod() ** 0.5 <= scale.largest:
                        left.append([given.scores[i], box, given.keypoints[i]])
            while left:
                best = max(left, key=lambda one: one[0])
                left = [one for one in left if one is not best]
                for one in left:
                    one[0] *= np.exp(-(overlap(one[1], best[1]) ** 2) / 0.4)
                if best[0] >= 1e-3:
                    expected.append((image, category, *best))
    assert len(found) == len(expected) > 100
    order = np.lexsort((-found.scores, found.categories, found.images))
    expected.sort(key=lambda one: (one[0], one[1], -one[2]))
    for i, (image, category, score, box, keypoints) in zip(order, expected, strict=True):
        assert (found.images[i], found.categories[i]) == (image, category)
        np.testing.assert_allclose(found.scores[i], score, rtol=1e-4)
        np.testing.assert_array_equal(found.boxes_xywh[i], box)
        np.testing.assert_array_equal(found.keypoints[i], keypoints)


def test_nothing_found_at_any_scale():
    none = np.zeros(0, int)
    objects = ObjectRows(none, none, np.zeros((0, 4)), np.zeros(0), none > 0, none > 0)
    part = CocoEvaluator({0: "a"})
    part.update([1], objects, DetectionRows(none, none, np.zeros(0), np.zeros((0, 4)), np.zeros(0)))
    assert len(merged([part], (Scale(8, 8),), 0.5).rows()[1]) == 0


def test_scales_are_for_runs(capsys):
    with pytest.raises(SystemExit):
        main(["--annotations=a.json", "--predictions=b.json", "--scales=8x8"])
    assert "--scales needs --workdir" in capsys.readouterr().err
