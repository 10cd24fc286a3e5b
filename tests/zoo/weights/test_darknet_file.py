"""Darknet's files, against an independent reader of the layers in their order."""

import struct

import numpy as np
import pytest

import zoo
from zoo.registry import family_of
from zoo.types import InputError
from zoo.weights import open_checkpoint
from zoo.weights.tree import abstract_leaves, flatten, unflatten

CLASSES = 3
# Of yolov3_nano: path, inputs, outputs, size of the kernel.
BODY = [(3, 16, 3), (16, 32, 3), (32, 16, 1), (16, 32, 3), (32, 64, 3), (64, 32, 1), (32, 64, 3)]
BODY += [(64, 96, 3), (96, 48, 1), (48, 96, 3)]
LAYERS = [(f"body/conv_{i}", *sizes) for i, sizes in enumerate(BODY)]
LAYERS += [("neck/level_1_0", 96, 48, 1), ("bridges_1", 48, 96, 3), ("levels_1", 96, 24, 1)]
LAYERS += [("neck/lateral_0", 48, 32, 1), ("neck/level_0_0", 32 + 64, 32, 1)]
LAYERS += [("bridges_0", 32, 64, 3), ("levels_0", 64, 24, 1)]


def drawn(model):
    """Random variables."""
    leaves = abstract_leaves(model, family_of(model).example(model))
    rng = np.random.default_rng(0)
    return unflatten(
        {path: rng.uniform(0.5, 1.5, x.shape).astype(np.float32) for path, x in leaves.items()}
    )


@pytest.fixture(scope="module")
def nano():
    """A model and drawn variables."""
    model = zoo.create("yolov3_nano", num_classes=CLASSES)
    return model, drawn(model)


def read(numbers):
    """The leaves in the numbers of a file of yolov3_nano."""
    found, start = {}, 0

    def take(*shape):
        nonlocal start
        part = numbers[start : start + np.prod(shape)].reshape(shape)
        start += part.size
        return part

    for name, inputs, outputs, size in LAYERS:
        first = take(outputs)
        if name.startswith("levels"):
            kernel = take(outputs, inputs, 1, 1)
            for leaf, x in (("bias", first), ("kernel", kernel[:, :, 0, 0])):
                rows = x.reshape(3, 5 + CLASSES, *x.shape[1:])  # anchor, number
                for part, chosen in zip(
                    ("deltas", "objectness", "logits"),
                    (rows[:, :4], rows[:, 4:5], rows[:, 5:]),
                    strict=True,
                ):
                    flat = chosen.reshape(-1, *x.shape[1:])
                    flat = flat if leaf == "bias" else flat.T[None, None]
                    found[f"params/{name}/{part}/{leaf}"] = flat
            continue
        found[f"params/{name}/norm/bias"] = first
        found[f"params/{name}/norm/scale"] = take(outputs)
        found[f"batch_stats/{name}/norm/mean"] = take(outputs)
        found[f"batch_stats/{name}/norm/var"] = take(outputs)
        kernel = take(outputs, inputs, size, size)
        found[f"params/{name}/conv/kernel"] = np.moveaxis(kernel, (2, 3, 1, 0), (0, 1, 2, 3))
    assert start == len(numbers)
    return found


def test_a_file_has_the_layers_in_darknets_order(nano, tmp_path):
    model, variables = nano
    zoo.save(model, variables, path := tmp_path / "nano.weights", "darknet")
    content = path.read_bytes()
    assert struct.unpack("<3iq", content[:20]) == (0, 2, 0, 0)
    found, expected = read(np.frombuffer(content[20:], "<f4")), flatten(variables)
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x, err_msg=name)


@pytest.mark.parametrize(
    "header", [struct.pack("<3iq", 0, 2, 5, 32013312), struct.pack("<4i", 0, 1, 0, 7)]
)
def test_files_of_both_versions_are_read(nano, tmp_path, header):
    model, variables = nano
    zoo.save(model, variables, path := tmp_path / "nano.weights", "darknet")
    path.write_bytes(header + path.read_bytes()[20:])
    assert open_checkpoint(path).format == "darknet"
    _, found, report = zoo.load_with_report("yolov3_nano", path, num_classes=CLASSES)
    assert (report.source, report.problems, report.dropped) == ("darknet", 0, {})
    for name, x in flatten(variables).items():
        np.testing.assert_array_equal(flatten(found)[name], x, err_msg=name)


def test_new_classes_keep_boxes_and_objectness(nano, tmp_path):
    model, variables = nano
    zoo.save(model, variables, path := tmp_path / "nano.weights", "darknet")
    _, found, report = zoo.load_with_report("yolov3_nano", path, num_classes=5)
    names = {f"params/levels_{i}/logits/{leaf}" for i in (0, 1) for leaf in ("kernel", "bias")}
    assert set(report.reinitialised) == names
    expected = flatten(variables)
    for name, x in flatten(found).items():
        if name not in names:
            np.testing.assert_array_equal(x, expected[name], err_msg=name)


def test_a_backbone_is_taken_from_a_classifiers_file(tmp_path):
    model = zoo.create("darknet_nano", num_classes=7)
    variables = drawn(model)
    zoo.save(model, variables, path := tmp_path / "classifier.weights", "darknet")
    _, body, _ = zoo.load_with_report("darknet_nano", path, num_classes=0)
    assert "head" not in body["params"]
    kernel = variables["params"]["conv_3"]["conv"]["kernel"]
    np.testing.assert_array_equal(body["params"]["conv_3"]["conv"]["kernel"], kernel)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(8))
    with pytest.raises(InputError, match=f"numbers expected, {(size - 20) // 4 + 2} found"):
        zoo.load("darknet_nano", path, num_classes=0)


@pytest.mark.parametrize("more", [-4, 4])
def test_a_short_and_a_long_file_are_one_line(nano, tmp_path, more):
    model, variables = nano
    zoo.save(model, variables, path := tmp_path / "nano.weights", "darknet")
    content = path.read_bytes()
    count = (len(content) - 20) // 4
    path.write_bytes(content[:more] if more < 0 else content + bytes(more))
    with pytest.raises(InputError) as error:
        zoo.load("yolov3_nano", path, num_classes=CLASSES)
    assert f"{count} numbers expected, {count + more // 4} found" in str(error.value)
    assert str(error.value).startswith(f"{path} as darknet: ")
    assert "\n" not in str(error.value)


def test_damaged_files(nano, tmp_path):
    model, variables = nano
    zoo.save(model, variables, path := tmp_path / "nano.weights", "darknet")
    content = path.read_bytes()
    for part in (content[:-1], content[:20], content[:14]):
        path.write_bytes(part)
        with pytest.raises(InputError, match=rf"cut short or damaged: {len(part)} bytes, which"):
            open_checkpoint(path)
    for start in (struct.pack("<3i", 2000, 0, 0), bytes(12), struct.pack("<3i", 0, -2, 0)):
        path.write_bytes(start + content[12:])
        with pytest.raises(InputError, match="not a checkpoint: neither safetensors"):
            open_checkpoint(path)


def test_suffixes_of_the_formats(nano, tmp_path):
    model, variables = nano
    with pytest.raises(InputError, match=r"written as darknet's weights: .* not \.safetensors"):
        zoo.save(model, variables, tmp_path / "x.safetensors", "darknet")
    with pytest.raises(InputError, match=r"written as safetensors: .* not \.weights"):
        zoo.save(model, variables, tmp_path / "x.weights")
    with pytest.raises(InputError, match="no source 'darknet' for VGG"):
        zoo.save(zoo.create("vgg_nano"), {"params": {}}, tmp_path / "vgg.weights", "darknet")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("yolov3", 248_007_048 - 20),
        ("yolov3_tiny", 35_434_956 - 20),
        ("yolov2", 203_934_260 - 16),
        ("yolov1_local", 789_312_988 - 16),
    ],
)
def test_the_sizes_of_darknets_published_files(name, size):
    """Bytes of the files without their headers, from pjreddie.com."""
    model = zoo.create(name)
    leaves = abstract_leaves(model, family_of(model).example(model))
    assert 4 * sum(int(np.prod(x.shape)) for x in leaves.values()) == size
    (rule,) = next(x for x in family_of(model).names if x.source == "darknet").rules(model)
    assert set(rule.ours) == set(leaves)
