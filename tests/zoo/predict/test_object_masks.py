import jax
import numpy as np
import pytest
from PIL import Image

import zoo
from tests import dots
from tests.roi import golden
from zoo.data.annotations import COCO_JOINTS, Joints
from zoo.ops.instance_masks import paste_binary_masks, paste_masks
from zoo.outputs import Detections
from zoo.predict.object_masks import binary_masks, run_length_masks
from zoo.types import InputError


@pytest.fixture
def finder(monkeypatch):
    dots.register(monkeypatch)
    model = zoo.create("dots_nano")
    return model, model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))


def test_masks_in_boxes_are_pasted_as_by_torchvision():
    peer = {name: np.asarray(x) for name, x in golden("paste").items()}
    no = np.zeros(len(peer["boxes"]))
    found = Detections(
        peer["boxes"], no, no, no > 0, mask_crops=peer["masks"], paste="whole_pixels"
    )
    sizes = (8, 8), (5, 7), (24, 30)  # the first two are not needed
    expected = peer["pasted"] >= 0.5
    sure = abs(peer["pasted"] - 0.5) > 1e-5  # others are decided by rounding
    assert sure.mean() > 0.98 and expected[sure].any()
    for masks in (
        binary_masks(found, *sizes),
        np.array(run_length_masks(found, *sizes).to_arrays()),
    ):
        assert masks.shape == expected.shape and masks.dtype == bool
        np.testing.assert_array_equal(masks[sure], expected[sure])
    centred = binary_masks(found.replace(paste="centres"), *sizes)
    assert (centred != expected).any()


def test_run_lengths_are_those_of_the_arrays():
    rng = np.random.default_rng(0)
    boxes, no = rng.uniform(-5, 30, (3, 4)), np.zeros(3)
    boxes[:, 2:] += boxes[:, :2]
    sizes = (32, 40), (25, 40), (30, 48)
    logits, crops = rng.normal(size=(3, 8, 10)), rng.random((3, 7, 7))
    for parts in ({"masks": logits}, {"mask_crops": crops}):
        found = Detections(boxes, no, no, no > 0, **parts)
        runs = run_length_masks(found, *sizes)
        np.testing.assert_array_equal(runs.to_arrays(), binary_masks(found, *sizes))
        nothing = jax.tree.map(lambda x: x[:0], found)
        assert len(run_length_masks(nothing, *sizes)) == 0
        assert binary_masks(nothing, *sizes).shape == (0, 30, 48)
    without = Detections(boxes, no, no, no > 0)
    assert binary_masks(without, *sizes) is None is run_length_masks(without, *sizes)


@pytest.mark.parametrize("size", dots.SIZES)
def test_zoo_predict_finds_joints_and_masks_at_the_images_own_size(finder, tmp_path, size):
    image, joints = dots.draw(7, size)
    found = zoo.predict(*finder, image, class_names=("dots",))
    assert found.names == ("dots",) and found.keypoints.shape == (1, 3, 3)
    np.testing.assert_allclose(found.keypoints[0, :, :2], joints[:, :2], atol=0.6)
    np.testing.assert_array_equal(found.keypoints[0, :, 2], 3)
    assert found.masks.dtype == bool and found.mask_crops is None
    pasted = paste_binary_masks(dots.CROP[None], found.boxes, size, "whole_pixels")
    np.testing.assert_array_equal(found.masks, pasted)
    whole = paste_masks(dots.CROP[None], found.boxes, size, "whole_pixels")
    np.testing.assert_array_equal(found.masks, whole >= 0.5)

    exif = Image.Exif()
    exif[0x0112] = 6  # the file is turned to the left, and shown turned to the right
    turned = Image.fromarray(image).transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "photo.png", exif=exif)
    again = zoo.predict(*finder, tmp_path / "photo.png")
    np.testing.assert_array_equal(again.keypoints, found.keypoints)
    np.testing.assert_array_equal(again.masks, found.masks)


def test_the_picture_has_joints_and_limbs(finder):
    image, joints = dots.draw(3, (400, 500))
    plain = zoo.predict(*finder, image)
    limbs = zoo.predict(*finder, image, skeleton=dots.BONES)
    for x, y, _ in plain.keypoints[0]:
        assert (plain.overlay[round(float(y)), round(float(x))] == 255).all()
    changed = (plain.overlay != limbs.overlay).any(axis=-1)
    assert changed.any()
    ends = joints[:, :2]
    rows, columns = np.nonzero(changed)
    distances = []
    for (x, y), (width, height) in ((ends[a], ends[b] - ends[a]) for a, b in dots.BONES):
        across = width * (rows - y) - height * (columns - x)
        distances.append(abs(across) / np.hypot(width, height))
    assert np.min(distances, axis=0).max() < 4  # only along the limbs
    with pytest.raises(InputError, match=r"joints that the 3 joints lack"):
        zoo.predict(*finder, image, skeleton=((0, 3),))
    with pytest.raises(InputError, match=r"things are for a detector with masks"):
        zoo.predict(*finder, image, things={0})


def test_cocos_joints_have_cocos_limbs():
    assert COCO_JOINTS.mirrored.tolist() == [0, *[i + (1 if i % 2 else -1) for i in range(1, 17)]]
    named = {tuple(COCO_JOINTS.names[i] for i in limb) for limb in COCO_JOINTS.skeleton}
    assert len(named) == 19 and ("left_shoulder", "left_elbow") in named
    assert Joints(COCO_JOINTS.names).limbs == COCO_JOINTS.skeleton
    assert Joints(("a", "b"), ((0, 1),)).limbs == ((0, 1),)
    assert Joints(("a", "b")).limbs == ()
