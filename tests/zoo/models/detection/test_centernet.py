"""CenterNet's parts, against the outputs of the authors' code and of mmdet on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.detection.rcnn import assert_boxes_equal, small_targets, targets_of
from zoo.models.detection.centernet.names import NAMES
from zoo.models.detection.parts.centre_decode import decode
from zoo.models.detection.parts.centre_loss import CenterNetLoss
from zoo.models.detection.parts.centre_outputs import CenterNetOutput
from zoo.outputs import Targets
from zoo.predict import detect
from zoo.types import InputError

AUTHORS = {"hm": "heat", "wh": "size", "reg": "offset"}
MMDET = {"loss_center_heatmap": "heat", "loss_wh": "size", "loss_offset": "offset"}
CASES = {
    "centernet_centernet_resnet": (CenterNetLoss(), AUTHORS),
    "centernet_centernet_dla": (CenterNetLoss(), AUTHORS),
    "centernet_centernet_hourglass": (CenterNetLoss(), AUTHORS),
    "centernet_mmdet": (CenterNetLoss(convention="mmdet"), MMDET),
    "centernet_mmdet_dcn": (CenterNetLoss(convention="mmdet"), MMDET),
}


def computed(loss, output, targets):
    """Values of the losses, and of the metrics."""
    found = jax.jit(loss.__call__)(output, targets)
    return [{name: float(mean.value()) for name, mean in part.items()} for part in found]


@pytest.mark.parametrize("case", CASES)
def test_detections_and_losses_equal_the_peers(golden, case):
    """Those of the peer's outputs, which a test of all goldens compares with ours."""
    peer, (loss, names) = golden(case), CASES[case]
    maps = (jnp.asarray(peer.outputs[name]) for name in ("heat_logits", "sizes", "offsets"))
    output = CenterNetOutput(*maps, most=12)
    counts = assert_boxes_equal(peer, jax.jit(decode)(output, jnp.zeros((2, 2), int)))
    assert counts == [12, 12]
    losses, metrics = computed(loss, output, targets_of(peer))
    assert losses.keys() == set(names.values())
    for theirs, ours in names.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 1e-3
        # The authors add 1e-4 to the number of objects, which is at least 5.
        np.testing.assert_allclose(losses[ours], expected, rtol=1e-4, err_msg=theirs)
    assert metrics["matched_objects"] == 1


def test_the_authors_files_have_unused_layers(golden, tmp_path):
    """The classifier of the backbone, and projections of the deeper trees."""
    peer = golden("centernet_centernet_dla")
    more = {
        "base.fc.weight": np.zeros((1000, 8, 1, 1), np.float32),
        "base.fc.bias": np.zeros(1000, np.float32),
        "base.level4.project.0.weight": np.zeros((6, 6, 1, 1), np.float32),
        "base.level4.project.1.running_mean": np.zeros(6, np.float32),
    }
    np.savez(path := tmp_path / "weights.npz", **peer.weights, **more)
    _, _, report = zoo.load_with_report(peer.name, path, **peer.fields)
    assert (report.source, report.problems) == ("centernet", 0)
    assert set(more) <= set(report.dropped)


def test_mmdets_files_bring_their_preprocessing_and_have_no_biases(golden, tmp_path):
    peer = golden("centernet_mmdet_dcn")
    np.savez(path := tmp_path / "weights.npz", **peer.weights)
    model, _ = zoo.load(peer.name, path, **peer.fields)
    assert model.preprocessing.mean == zoo.types.IMAGENET_MEAN
    fields = next(names.fields for names in NAMES if names.source == "mmdet")
    assert fields(zoo.create(peer.name)) == {"trunk_fields": {"bias": False}}


def drawn(num_objects=2):
    model = zoo.create("centernet_nano", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    targets = small_targets()
    valid = targets.valid & (jnp.arange(2) < num_objects)
    return jax.jit(model.apply)(variables, images), targets.replace(valid=valid)


def test_parts_of_a_batch_add_up():
    output, targets = drawn()
    loss = CenterNetLoss()
    apply = jax.jit(loss.__call__)
    both = apply(output, targets)[0]
    parts = [apply(output, targets.replace(image_valid=jnp.arange(2) == i))[0] for i in range(2)]
    for name, whole in both.items():
        part = parts[0][name] + parts[1][name]
        np.testing.assert_allclose(part.total, whole.total, rtol=1e-5)
        np.testing.assert_allclose(part.weight, whole.weight, rtol=1e-6)
        assert whole.value() > 0


def test_without_objects_only_the_heat_has_a_loss():
    output, targets = drawn(0)
    losses, _ = computed(CenterNetLoss(), output, targets)
    assert losses["heat"] > 0
    assert losses["size"] == losses["offset"] == 0


def one_image(boxes, labels, side=16, k=3):
    """Targets of one image, and an output that says exactly what they are."""
    boxes = jnp.asarray(boxes, jnp.float32)[None]
    targets = Targets(
        boxes,
        jnp.asarray(labels)[None],
        jnp.ones((1, len(labels)), bool),
        jnp.full((1, 2), 4 * side),
        jnp.ones(1, bool),
    )
    maps = {"heat_logits": k, "sizes": 2, "offsets": 2}
    output = CenterNetOutput(**{n: jnp.zeros((1, side, side, d)) for n, d in maps.items()})
    centres = jax.jit(CenterNetLoss(convention="mmdet").centres)(output, targets)
    heat, sizes, offsets = (np.array(x) for x in jax.tree.leaves(output))
    heat -= 9
    for (x, y), size, offset, label in zip(
        centres.cells[0], centres.sizes[0], centres.offsets[0], labels, strict=True
    ):
        heat[0, y, x, label], sizes[0, y, x], offsets[0, y, x] = 9, size, offset
    return CenterNetOutput(*(jnp.asarray(x) for x in (heat, sizes, offsets))), targets


BOXES = [[3.0, 5, 20, 31], [30, 10, 63, 14], [0, 40, 64, 64]]


def test_what_is_written_into_maps_is_decoded():
    output, targets = one_image(BOXES, [0, 2, 1])
    found = jax.jit(decode)(output, targets.sizes)
    order = np.argsort(np.asarray(found.labels[0, :3]))
    np.testing.assert_allclose(found.boxes[0, :3][order], np.asarray(BOXES)[[0, 2, 1]], atol=1e-5)
    assert (found.scores[0, :3] > 0.99).all() and (found.scores[0, 3:] < 0.01).all()
    losses, metrics = computed(CenterNetLoss(convention="mmdet"), output, targets)
    assert losses["size"] == losses["offset"] == 0
    assert metrics == {"class_accuracy": 1, "matched_objects": 1}


def test_objects_in_one_cell_or_outside_of_the_map_do_not_fit():
    """The second box has the first's centre; the third is outside the map of the authors."""
    boxes = [[8.0, 8, 24, 24], [12, 12, 20, 20], [62, 4, 64, 10], [40, 40, 50, 52]]
    output, targets = one_image(boxes, [0, 1, 2, 2])
    _, metrics = computed(CenterNetLoss(), output, targets)
    assert metrics["matched_objects"] == 0.25


def test_the_loss_is_the_mean_over_stacks():
    output, targets = drawn()
    other = output.replace(sizes=output.sizes + 1, heat_logits=output.heat_logits - 1)
    loss = CenterNetLoss()
    first, second = (computed(loss, one, targets)[0] for one in (output, other))
    both, _ = computed(loss, output.replace(earlier=(other,)), targets)
    for name, value in both.items():
        np.testing.assert_allclose(value, (first[name] + second[name]) / 2, rtol=1e-5)


def test_settings_are_checked():
    with pytest.raises(InputError, match="no trunk 'tower'; there are deconv, dla, hourglass"):
        zoo.create("centernet_nano", trunk="tower").make_trunk()
    with pytest.raises(InputError, match=r"trunk dla: .*heads"):
        zoo.create("centernet_nano", trunk_fields={"heads": 3}).make_trunk()
    with pytest.raises(InputError, match=r"loss\.size_weight is -1.0"):
        CenterNetLoss(size_weight=-1.0)


def test_predicted_sizes_below_0_give_boxes_without_area():
    model = zoo.create("centernet_nano", num_classes=2)
    images, sizes = jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    bias = variables["params"]["head_0"]["sizes"]["out"]["bias"]
    variables["params"]["head_0"]["sizes"]["out"]["bias"] = bias - 5
    assert (jax.jit(model.apply)(variables, images).sizes < 0).all()
    found = jax.jit(lambda v: detect(model, v, images, sizes, sizes))(variables)
    assert found.valid.any()
    np.testing.assert_array_equal(found.boxes[..., :2], found.boxes[..., 2:])
