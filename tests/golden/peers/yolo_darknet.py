"""Goldens of Darknet and of the YOLOs, made by pjreddie/darknet's own program for CPUs.

DARKNET is a checkout of pjreddie/darknet in which ``make`` was run. `yolo_darknet.c`, which is
compiled here, runs it. The networks are those of its files ``cfg/*.cfg`` with fewer features.
"""

import ctypes
import os
import re
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from peers.draws import write

HERE = Path(__file__).parent
CLASSES = 3
EPSILON = 2e-6  # sqrt(var + 2e-6) is sqrt(var) + 1e-6, darknet's sum on CPUs, for var near 1
# The outputs of both are float32, of up to 75 layers.
TOLERANCE = 2e-4
SPREAD = {"yolov1": 0.5, "yolov2": 1.0, "yolov3": 1.0}


def narrow(dim: int, least: int = 4, factor: int = 32) -> int:
    """A narrow network's number of features."""
    return max(least, dim // factor)


def goldens() -> None:
    """Every kind of network: classifiers, the detectors, and their tiny forms."""
    letterboxes()
    body = {"norm_epsilon": EPSILON}
    for case, cfg, name in (
        ("darknet_darknet_19", "darknet19", "darknet19"),
        ("darknet_darknet_53", "darknet53", "darknet53"),
        ("darknet_darknet_extraction", "extraction", "extraction"),
    ):
        network = Network(cfg, side=40)
        dims = [layer["filters"] for layer in network.convs[:-1]]
        save(case, name, network, {**body, "conv_dims": dims, "num_classes": CLASSES})

    for case, cfg, name, side, fields in detectors():
        network = Network(cfg, side=side)
        dims = [layer["filters"] for layer in network.convs]
        count = {"darknet53": 52, "darknet19": 18, "extraction": 20}.get(fields.pop("body"), 7)
        given = {"conv_dims": dims[:count], **fields.pop("backbone_fields", {})}
        decoding = {"score_threshold": network.threshold, "most": 300, "candidates": 3000}
        if name.startswith("yolov1"):
            decoding |= {"classes": "none", "iou_threshold": 0.45}
        elif name.startswith("yolov2"):
            decoding |= {"classes": "softmax"}
        fields |= {"backbone_fields": given, "decoding_fields": decoding, **body}
        save(case, name, network, {"num_classes": CLASSES, **fields})


class Image(ctypes.Structure):
    """Darknet's image: floats, channels first."""

    _fields_ = (
        ("w", ctypes.c_int),
        ("h", ctypes.c_int),
        ("c", ctypes.c_int),
        ("data", ctypes.POINTER(ctypes.c_float)),
    )


def letterboxes() -> None:
    """Letterboxed images: enlarged, shrunk, wide, tall, with odd margins."""
    program = ctypes.CDLL(str(Path(os.environ["DARKNET"]) / "libdarknet.so"))
    program.letterbox_image.argtypes = (Image, ctypes.c_int, ctypes.c_int)
    program.letterbox_image.restype = Image
    draws = np.random.default_rng(0)
    arrays = {}
    for i, ((h, w), (rows, columns)) in enumerate(
        [((11, 20), (33, 33)), ((37, 21), (16, 24)), ((18, 18), (18, 18)), ((9, 31), (20, 12))]
    ):
        image = draws.integers(0, 256, (h, w, 3), dtype=np.uint8)
        floats = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255)
        pointer = floats.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        found = program.letterbox_image(Image(w, h, 3, pointer), columns, rows)
        framed = np.ctypeslib.as_array(found.data, (3, rows, columns)).transpose(1, 2, 0)
        arrays |= {f"{i}/image": image, f"{i}/framed": framed.copy()}
    np.savez_compressed(HERE.parent / "letterbox_darknet.npz", **arrays)


def detectors() -> list[tuple[str, str, str, int, dict]]:
    """The case, darknet's file, our name, the side of the images, and fields of our model."""
    tiny = {"body": "tiny", "backbone_fields": {"last_pool_stride": 1}}
    return [
        (
            "yolov1_darknet_local",
            "yolov1",
            "yolov1_local",
            128,
            {
                "body": "extraction",
                "image_size": 128,
                "extra_dims": [16] * 4,
                "local_dim": 4,
            },
        ),
        (
            "yolov1_darknet_tiny",
            "yolov1-tiny",
            "yolov1_tiny",
            128,
            {"body": "tiny", "image_size": 128, "extra_dims": [4]},
        ),
        (
            "yolov2_darknet",
            "yolov2",
            "yolov2",
            64,
            {"body": "darknet19", "neck_dims": [32, 32], "passthrough_dim": 4, "merged_dim": 32},
        ),
        ("yolov2_darknet_tiny", "yolov2-tiny", "yolov2_tiny", 64, {**tiny, "neck_dims": [16]}),
        (
            "yolov3_darknet",
            "yolov3",
            "yolov3",
            64,
            {"body": "darknet53", "neck_dims": [4, 8, 16]},
        ),
        (
            "yolov3_darknet_spp",
            "yolov3-spp",
            "yolov3_spp",
            64,
            {"body": "darknet53", "neck_dims": [4, 8, 16]},
        ),
        ("yolov3_darknet_tiny", "yolov3-tiny", "yolov3_tiny", 64, {**tiny, "neck_dims": [4, 8]}),
    ]


class Network:
    """A narrow form of one of darknet's networks, with drawn weights.

    Attributes:
        text: The configuration.
        side: Height and width of the images.
        factor: By which features are fewer.
        threshold: Least score of detections.
        convs: The settings of the convolutions, in order.
        pieces: The arrays of the file, in order.
        heads: Positions in `pieces` of the biases of the layers before the detection layers.
    """

    def __init__(self, cfg: str, side: int) -> None:
        self.side = side
        self.factor = 64 if "v1" in cfg else 32
        self.threshold = 0.5 if "v3" in cfg else 0.05  # of scores
        self.draws = np.random.default_rng(len(cfg) + side)
        self.sections = parse(Path(os.environ["DARKNET"]) / "cfg" / f"{cfg}.cfg")
        self.grid = -(-side // 64)
        self.adjust()
        self.text = "\n\n".join(
            "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in settings.items())])
            for kind, settings in self.sections
        )
        self.convs = [x for kind, x in self.sections if kind == "convolutional"]
        self.pieces: list[np.ndarray] = []
        self.heads: list[int] = []
        self.draw()

    @property
    def outputs(self) -> list[dict]:
        """The settings of the detection layers."""
        return [x for kind, x in self.sections if kind in ("yolo", "region", "detection")]

    def adjust(self) -> None:
        """Fewer features and classes, smaller images."""
        last = self.sections[-1][1]
        before = {"yolo", "region", "avgpool", "softmax"}
        for i, (kind, settings) in enumerate(self.sections):
            following = self.sections[i + 1][0] if i + 1 < len(self.sections) else ""
            if kind == "net":
                settings |= {"width": self.side, "height": self.side, "batch": 1, "subdivisions": 1}
            if kind in ("convolutional", "local"):
                settings["filters"] = narrow(int(settings["filters"]), factor=self.factor)
                if kind == "convolutional" and "batch_normalize" not in settings:
                    assert following in before
                    after = self.sections[i + 1][1]
                    number = len(re.findall(r"\d+", after.get("mask", ""))) or int(
                        after.get("num", 0)
                    )
                    settings["filters"] = number * (5 + CLASSES) if number else CLASSES
            if kind == "connected":
                settings["output"] = self.grid**2 * (CLASSES + 5 * int(last["num"]))
            if kind == "detection":
                settings["side"] = self.grid
            if "classes" in settings:
                settings["classes"] = CLASSES

    def draw(self) -> None:
        """Weights in darknet's order; sizes follow from the configuration alone."""
        for kind, settings, dim, side in walk(self.sections, self.side):
            if kind == "convolutional":
                self.conv(dim, settings)
            elif kind == "local":
                self.pieces.append(self.near(0.2, settings["filters"] * side * side))
                shape = (side * side, settings["filters"], dim, 3, 3)
                self.pieces.append(self.kernel(shape, 9 * dim))
            elif kind == "connected":
                inputs = dim * side * side
                self.heads.append(len(self.pieces))
                self.pieces.append(self.near(0.2, settings["output"]))
                self.pieces.append(self.kernel((settings["output"], inputs), inputs))

    def conv(self, dim: int, settings: dict) -> None:
        """Biases, the three arrays of a norm, and the kernel."""
        count, size = int(settings["filters"]), int(settings["size"])
        normed = "batch_normalize" in settings
        if not normed:
            self.heads.append(len(self.pieces))
        self.pieces.append(self.near(0.2, count))
        if normed:
            self.pieces.append(self.rounded(self.draws.uniform(0.5, 1.25, count)))
            self.pieces.append(self.near(0.2, count))
            self.pieces.append(self.rounded(self.draws.uniform(0.5, 2.0, count)))
        self.pieces.append(self.kernel((count, dim, size, size), dim * size * size))

    def near(self, spread: float, count: int) -> np.ndarray:
        """Numbers near 0."""
        return self.rounded(self.draws.normal(0, spread, count))

    def kernel(self, shape: tuple[int, ...], inputs: int) -> np.ndarray:
        """Weights that keep the size of features."""
        return self.rounded(self.draws.normal(0, (1.5 / inputs) ** 0.5, shape))

    @staticmethod
    def rounded(x: np.ndarray) -> np.ndarray:
        """Multiples of 1 / 32, which compress well."""
        return (np.round(x * 32) / 32).astype(np.float32)

    def flat(self) -> np.ndarray:
        """All numbers of the file."""
        return np.concatenate([piece.ravel() for piece in self.pieces])


def parse(path: Path) -> list[tuple[str, dict]]:
    """The sections of a configuration with their settings."""
    sections: list[tuple[str, dict]] = []
    for line in path.read_text().splitlines():
        line = line.partition("#")[0].replace(" ", "").strip()
        if line.startswith("["):
            sections.append((line.strip("[]"), {}))
        elif line:
            key, _, value = line.partition("=")
            sections[-1][1][key] = value
    return sections


def walk(sections: list[tuple[str, dict]], side: int) -> list[tuple[str, dict, int, int]]:
    """Each layer, with the features and the side of the map that it gets."""
    layers, dims, sides, dim = [], [], [], 3
    for number, (kind, settings) in enumerate(sections[1:]):
        layers.append((kind, settings, dim, side))
        stride = int(settings.get("stride", 1))
        if kind in ("convolutional", "local"):
            dim = int(settings["filters"])
        if kind in ("convolutional", "maxpool"):
            side = -(-side // stride)
        elif kind == "route":
            index = [int(x) for x in str(settings["layers"]).split(",")]
            index = [x if x >= 0 else number + x for x in index]
            dim, side = sum(dims[x] for x in index), sides[index[0]]
        elif kind == "reorg":
            dim, side = dim * stride**2, side // stride
        elif kind == "upsample":
            side *= stride
        elif kind == "connected":
            dim, side = int(settings["output"]), 1
        dims.append(dim)
        sides.append(side)
    return layers


def count_parameters(sections: list[tuple[str, dict]], side: int) -> int:
    """Weights, biases and scales of a network."""
    total = 0
    for kind, settings, dim, size in walk(sections, side):
        if kind == "convolutional":
            out = int(settings["filters"])
            total += out * (1 + int("batch_normalize" in settings))
            total += out * dim * int(settings["size"]) ** 2
        elif kind == "local":
            total += int(settings["filters"]) * size * size * (1 + 9 * dim)
        elif kind == "connected":
            total += int(settings["output"]) * (1 + dim * size * size)
    return total


def run(network: Network, image: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """What the driver writes for an image [h w 3]."""
    root = Path(os.environ["DARKNET"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        driver = folder / "driver"
        paths = [f"-I{root}/include", f"-I{root}/src", HERE / "yolo_darknet.c"]
        libraries = [root / "libdarknet.a", "-lm", "-lpthread", "-o", driver]
        subprocess.run(["gcc", "-O1", *paths, *libraries], check=True)
        (folder / "cfg").write_text(network.text)
        header = struct.pack("<3iq", 0, 2, 0, 0)
        (folder / "weights").write_bytes(header + network.flat().astype("<f4").tobytes())
        image.transpose(2, 0, 1).astype("<f4").tofile(folder / "input")
        files = (folder / file for file in ("cfg", "weights", "input", "output"))
        command = [driver, *files, str(network.threshold)]
        if truth is not None:
            truth.astype("<f4").tofile(folder / "truth")
            command.append(folder / "truth")
        subprocess.run(command, check=True, capture_output=True)
        return np.fromfile(folder / "output", "<f4")


def save(case: str, name: str, network: Network, fields: dict) -> None:
    """Writes a golden: raw outputs and, of a detector, detections and gradients."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 17, (2, network.side, network.side, 3)).astype(np.float32) / 16
    images = (images + np.roll(images, 1, axis=1) + np.roll(images, 1, axis=2)) / 3
    images = np.round(images * 64).astype(np.float32) / 64
    inputs = {"images": images}
    if network.outputs:
        inputs["valid"] = np.ones(images.shape[:3], bool)
        calibrate(network, images[0], SPREAD[name.partition("_")[0]])
        arrays = of_detector(network, images)
    else:
        arrays = {"logits": np.stack([run(network, image) for image in images])}
    write(
        case,
        {"name": name, "fields": fields, "source": "darknet"},
        inputs,
        arrays,
        {"darknet": network.flat()},
        tolerance=TOLERANCE,
    )


def calibrate(network: Network, image: np.ndarray, spread: float) -> None:
    """Scales the last layers, so that their outputs are of a given size."""
    found = run(network, image)
    for (raw, _), first in zip(split(network, found)[0], network.heads, strict=True):
        factor = spread / raw.std()
        for i in (first, first + 1):
            network.pieces[i] = (network.pieces[i] * factor).astype(np.float32)


def shapes(network: Network) -> list[tuple[int, ...]]:
    """The shape of each detection layer, in the network's order."""
    (settings, *_), side = network.outputs, network.side
    if "side" in settings:
        return [(network.grid, network.grid, int(settings["num"]))]
    if len(network.outputs) == 1:
        return [(int(settings["num"]), 5 + CLASSES, side // 32, side // 32)]
    return [(3, 5 + CLASSES, side // s, side // s) for s in (32, 16, 8)[: len(network.outputs)]]


def split(
    network: Network, found: np.ndarray, *, training: bool = False
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[np.ndarray], np.ndarray]:
    """(inputs, outputs) of each detection layer; their deltas; what the boxes are."""
    layers, deltas, start = [], [], 0
    sizes = []
    for shape in shapes(network):
        cells = shape[0] * shape[1]
        sizes.append(cells * (CLASSES + 5 * shape[2]) if len(shape) == 3 else int(np.prod(shape)))
    for size in sizes:
        layers.append((found[start : start + size], found[start + size : start + 2 * size]))
        start += 2 * size
    if training:
        for size in sizes:
            deltas.append(found[start : start + size])
            start += size
    return layers, deltas, found[start:]


def ours(network: Network, layers: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The numbers of the detection layers of one image in our order, the finest level first."""
    parts: dict[str, list[np.ndarray]] = {"deltas": [], "objectness": [], "logits": []}
    for shape, flat in reversed(list(zip(shapes(network), layers, strict=True))):
        if len(shape) == 3:
            rows, columns, count = shape
            cells = rows * columns
            classes, objects, boxes = np.split(flat, np.cumsum([cells * CLASSES, cells * count]))
            classes = np.repeat(classes.reshape(cells, CLASSES), count, axis=0)
            found = (boxes.reshape(-1, 4), objects, classes)
        else:
            rows = flat.reshape(shape).transpose(2, 3, 0, 1).reshape(-1, 5 + CLASSES)
            found = (rows[:, :4], rows[:, 4], rows[:, 5:])
        for name, part in zip(parts, found, strict=True):
            parts[name].append(part)
    return {name: np.concatenate(levels) for name, levels in parts.items()}


# Centre, width and height as shares of the image, and the class.
TRUTH = (
    ((0.3, 0.4, 0.4, 0.5, 1), (0.7, 0.2, 0.125, 0.25, 2), (0.8, 0.85, 0.25, 0.2, 0)),
    ((0.5, 0.6, 0.7, 0.6, 2),),
)


def labels(network: Network, objects: tuple) -> np.ndarray:
    """The objects as darknet keeps them."""
    if "side" not in network.outputs[0]:
        flat = np.zeros((100, 5), np.float32)
        flat[: len(objects)] = objects
        return flat
    side = network.grid
    flat = np.zeros((side, side, 5 + CLASSES), np.float32)
    for x, y, w, h, label in objects:
        column, row = int(x * side), int(y * side)
        flat[row, column, 0] = flat[row, column, 1 + label] = 1
        flat[row, column, 1 + CLASSES :] = (x * side - column, y * side - row, w, h)
    return flat


def of_detector(network: Network, images: np.ndarray) -> dict[str, np.ndarray]:
    """All arrays of a golden."""
    arrays: dict[str, np.ndarray] = {}
    raw, gradients = [], []
    for i, image in enumerate(images):
        found = run(network, image, labels(network, TRUTH[i]))
        layers, deltas, boxes = split(network, found, training=True)
        raw.append(ours(network, [x for x, _ in layers]))
        gradients.append(ours(network, deltas))
        arrays |= {f"detections/{i}/{k}": x for k, x in detections(boxes, network.side).items()}
    for name in raw[0]:
        arrays[name] = np.stack([one[name] for one in raw])
        arrays[f"steps/{name}"] = np.stack([one[name] for one in gradients])
    boxes = np.zeros((2, 3, 4), np.float32)
    classes = np.zeros((2, 3), np.int64)
    for i, objects in enumerate(TRUTH):
        for j, (x, y, w, h, label) in enumerate(objects):
            boxes[i, j] = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * network.side
            classes[i, j] = label
    counts = np.array([len(objects) for objects in TRUTH])
    return {
        **arrays,
        "targets/boxes": boxes,
        "targets/labels": classes,
        "targets/counts": counts,
    }


def detections(flat: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """Pairs of a box and a class, best first, clipped to the image."""
    rows = flat[1:].reshape(int(flat[0]), 4 + CLASSES)
    box, label = np.nonzero(rows[:, 4:])
    scores = rows[box, 4 + label]
    order = np.argsort(-scores, kind="stable")
    x, y, w, h = rows[box[order], :4].T
    boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1) * side
    return {
        "boxes": np.clip(boxes, 0, side).astype(np.float32),
        "scores": scores[order],
        "labels": label[order],
    }


NAMES = {
    "darknet19": "darknet19",
    "darknet_reference": "darknet",
    "extraction": "extraction",
    "yolov1_local": "yolov1",
    "yolov1_tiny": "yolov1-tiny",
    "yolov2": "yolov2",
    "yolov2_voc": "yolov2-voc",
    "yolov2_tiny": "yolov2-tiny",
    "yolov2_tiny_voc": "yolov2-tiny-voc",
    "yolov3": "yolov3",
    "yolov3_spp": "yolov3-spp",
    "yolov3_tiny": "yolov3-tiny",
}


def models() -> dict[str, torch.nn.Module]:
    """As many parameters as darknet's networks have, and our nanos in its form."""
    folder = Path(os.environ["DARKNET"]) / "cfg"
    found = {ours: parse(folder / f"{theirs}.cfg") for ours, theirs in NAMES.items()}
    # The paper's network has two dense layers instead of a local one and a dense one.
    paper = [x for x in found["yolov1_local"] if x[0] not in ("local", "connected")]
    dense = [("connected", {"output": 4096}), ("connected", {"output": 7 * 7 * 30})]
    found["yolov1"] = paper[:-2] + dense
    found |= nanos()
    sides = {name: int(sections[0][1].get("height", 64)) for name, sections in found.items()}
    return {name: parameters(count_parameters(x, sides[name])) for name, x in found.items()}


def parameters(count: int) -> torch.nn.Module:
    """A module of so many parameters."""
    return torch.nn.ParameterList([torch.empty(count)])


def nanos() -> dict[str, list[tuple[str, dict]]]:
    """Our nanos."""

    def conv(filters: int, size: int = 3, stride: int = 1, normed: int = 1) -> tuple[str, dict]:
        norm = {"batch_normalize": 1} if normed else {}
        return "convolutional", {"filters": filters, "size": size, "stride": stride, **norm}

    body = [("net", {}), conv(16)]
    for dim in (32, 64, 96):
        body += [conv(dim, stride=2), conv(dim // 2, 1), conv(dim)]
    route = [("route", {"layers": "-1, 6"})]
    up = [conv(32, 1), ("upsample", {"stride": 2}), *route]
    coarse = [conv(48, 1), conv(96), conv(3 * 85, 1, normed=0), ("route", {"layers": "-3"})]
    fine = [conv(32, 1), conv(64), conv(3 * 85, 1, normed=0)]
    passed = [("route", {"layers": "6"}), conv(16, 1), ("reorg", {"stride": 2})]
    merged = [("route", {"layers": "-1, 11"}), conv(96), conv(5 * 85, 1, normed=0)]
    return {
        "darknet_nano": [*body, ("maxpool", {"stride": 8}), ("connected", {"output": 1000})],
        "yolov3_nano": [*body, *coarse, *up, *fine],
        "yolov2_nano": [*body, conv(96), conv(96), *passed, *merged],
        "yolov1_nano": [*body, conv(32), ("connected", {"output": 8 * 8 * 30})],
    }
