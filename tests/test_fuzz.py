"""Damaged and strange files of every format: a result or one line of error, nothing else.

Each test takes a good file and changes it again and again: bytes are flipped, cut and inserted,
values of json and xml are replaced by strange ones, swapped, doubled, removed. What reads the file
must then give a result or an `InputError` of one line, in seconds and without much memory.
"""

import contextlib
import copy
import dataclasses
import io
import json
import pickle
import re
import resource
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save as save_safetensors

from eval import detection, segmentation
from tests.zoo.data.coco_folder import SIZES, annotations
from zoo.data import DetectionData, SegmentationData, open_detection, open_segmentation
from zoo.data.pairs import open_pairs
from zoo.text.tokenizers import BytePairs, open_tokenizer
from zoo.types import InputError
from zoo.weights.files import open_checkpoint
from zoo.weights.preprocessing import preprocessing_beside

FEW, MANY = 40, 200  # mutations of each kind of file: in each run, and in the slow tests
SECONDS = 20.0  # for one file; a loaded machine needs up to 1
MEMORY = 2**31  # bytes that a test may take beyond those of the process before

# What tools and accidents leave in place of a value.
STRANGE = (
    *(None, True, False, 0, 1, -1, 2, 3, 0.5, 1.0, -0.0, 7.0, 1e308, -1e308, 5e-324),
    *(2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63, -(2**63), 10**30, 100_000),
    *(float("nan"), float("inf"), "", "1", "1.0", "-1", "x", "False", "null", "\ud800"),
    *("\ufeffcat", "a\0b", "../..", "a\\b", "\u202e", "é" * 300, [], [[]], {}, [0], [None]),
    *([1, 2, 3, 4], [[1, 2, 3, 4]], [[0, 0, 9, 0, 9, 9]], [[1e300] * 6]),
    *({"size": [2**31, 2**31], "counts": [1]}, {"size": [3, 3], "counts": "11"}),
    {"size": [60, 80], "counts": "0" * 99},
)  # fmt: skip

CHANGES = ("replace", "replace", "text", "remove", "rename", "swap", "double")


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        make: Writes good files into a folder, and returns the path of the one to change.
        read: Reads the files of a folder, all of them to the end.
        change: A strategy of contents, given those of the good file.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    change: Callable[[bytes], st.SearchStrategy[bytes]]


# ------------------------------------------------------------------------------------------ changes


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes after one to four accidents."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 16))
        kind = draw(st.sampled_from(("flip", "cut", "remove", "insert", "repeat", "fill")))
        if kind == "flip" and place < len(data):
            byte = data[place] ^ (1 << draw(st.integers(0, 7)))
            data = data[:place] + bytes([byte]) + data[place + 1 :]
        elif kind == "cut":
            data = data[:place]
        elif kind == "remove":
            data = data[:place] + data[place + length :]
        elif kind == "insert":
            data = data[:place] + draw(st.binary(max_size=16)) + data[place:]
        elif kind == "repeat":
            data = data[:place] + data[max(0, place - 8 * length) :]
        elif kind == "fill":
            fill = draw(st.sampled_from((b"\0", b"\xff", b"9", b"[", b"\x7f")))
            data = data[:place] + fill * length + data[place + length :]
    return data


def places(content: object) -> list[tuple[object, object]]:
    """Every container in a json with each of its keys or positions."""
    if isinstance(content, dict):
        found = list(content.items())
    else:
        found = list(enumerate(content)) if isinstance(content, list) else []
    own: list[tuple[object, object]] = [(content, key) for key, _ in found]
    return own + [place for _, inner in found for place in places(inner)]


@st.composite
def changed_values(draw: st.DrawFn, data: bytes) -> bytes:
    """The json after one to three changes of values, in one of the usual encodings."""
    content = json.loads(data)
    for _ in range(draw(st.integers(1, 3))):
        spots = places(content)
        if not spots:
            break
        where, key = draw(st.sampled_from(spots))
        kind = draw(st.sampled_from(CHANGES))
        if kind == "replace":
            where[key] = copy.deepcopy(draw(st.sampled_from(STRANGE)))
        elif kind == "text":
            where[key] = str(where[key])
        elif kind == "remove":
            del where[key]
        elif kind == "rename" and isinstance(where, dict):
            where[str(key).upper()] = where.pop(key)
        elif kind == "swap":
            other, name = draw(st.sampled_from(spots))
            where[key], other[name] = copy.deepcopy((other[name], where[key]))
        elif kind == "double" and isinstance(where, list):
            where.append(copy.deepcopy(where[key]))
    text = json.dumps(content, ensure_ascii=draw(st.booleans()))
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")))
    return text.encode(encoding, "backslashreplace")


def changed_json(data: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(changed_values(data), changed_values(data), changed_bytes(data))


@st.composite
def changed_words(draw: st.DrawFn, data: bytes) -> bytes:
    """A text whose words are replaced, doubled or removed, in one of the usual encodings."""
    parts = re.split(r"([<>\s/]+)", data.decode())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(parts) - 1))
        kind = draw(st.sampled_from(("replace", "double", "remove", "swap")))
        if kind == "replace":
            parts[place] = str(draw(st.sampled_from(STRANGE)))
        elif kind == "double":
            parts[place] *= 2
        elif kind == "remove":
            parts[place] = ""
        else:
            other = draw(st.integers(0, len(parts) - 1))
            parts[place], parts[other] = parts[other], parts[place]
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "latin-1", "gbk")))
    return "".join(parts).encode(encoding, "replace")


def changed_text(data: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(changed_words(data), changed_words(data), changed_bytes(data))


# ------------------------------------------------------------------------------------------ formats


def call(main: Callable[[list[str]], int], *arguments: object) -> None:
    """Runs a program; a wrong input must be one line on stderr and the exit code 2."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(list(map(str, arguments)))
    out.getvalue().encode()
    lines = errors.getvalue().encode().decode().splitlines()
    wrong = [line for line in lines if not line.startswith("warning: ")]
    assert (code, len(wrong)) in ((0, 0), (2, 1)), (code, wrong)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Checks that an `InputError` is one line that can be printed."""
    try:
        yield
    except InputError as error:
        message = str(error)
        assert message.encode() and "\n" not in message, message
        raise


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def truth() -> dict:
    content = annotations()
    for row in content["annotations"]:
        joints = [row["bbox"][0], row["bbox"][1], 2] * 3
        row |= {"keypoints": joints, "num_keypoints": 3}
    for image in content["images"]:
        image |= {"neg_category_ids": [7], "not_exhaustive_category_ids": []}
    for category in content["categories"]:
        category |= {"frequency": "c", "keypoints": ["nose", "left_eye", "right_eye"]}
        category |= {"skeleton": [[1, 2]]}
    return content


def results() -> list[dict]:
    fields = ("image_id", "category_id", "bbox", "segmentation", "keypoints")
    rows = truth()["annotations"]
    return [{k: row[k] for k in fields} | {"score": 0.5 + 0.1 * i} for i, row in enumerate(rows)]


def make_coco(folder: Path) -> Path:
    write_json(folder / "results.json", results())
    (folder / "train").mkdir(exist_ok=True)
    for image, size in SIZES.items():
        Image.new("RGB", size[::-1]).save(folder / "train" / f"{image}.png")
    return write_json(folder / "truth.json", truth())


def make_results(folder: Path) -> Path:
    make_coco(folder)
    return folder / "results.json"


def score(*options: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        files = f"--annotations={folder}/truth.json", f"--predictions={folder}/results.json"
        call(detection.main, *files, *options)

    return read


def read_to_the_end(data: DetectionData | SegmentationData) -> None:
    opened = open_detection if isinstance(data, DetectionData) else open_segmentation
    dataset = opened(data, "train")
    for index in range(len(dataset)):
        with contextlib.suppress(InputError), one_line():
            dataset.example(index, np.random.default_rng(0))


def train_coco(**parts: bool) -> Callable[[Path], None]:
    return lambda folder: read_to_the_end(
        DetectionData(
            source=f"coco:{folder}", train_annotations="truth.json", buckets=((80, 90),), **parts
        )
    )


XML = """<?xml version="1.0" encoding="UTF-8"?>
<annotation><filename>a.png</filename><size><width>60</width><height>40</height></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>
<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>50</xmax><ymax>40</ymax></bndbox></object>
</annotation>"""


def make_voc(folder: Path) -> Path:
    for part in ("ImageSets/Main", "ImageSets/Segmentation", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for part in ("SegmentationClass", "found"):
        (folder / part).mkdir(exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (60, 40)).save(folder / "JPEGImages" / f"{name}.jpg")
        Image.new("L", (60, 40)).save(folder / "SegmentationClass" / f"{name}.png")
        (folder / "Annotations" / f"{name}.xml").write_text(XML)
    for part in ("Main", "Segmentation"):
        (folder / "ImageSets" / part / "train.txt").write_text("a\nb\n")
    for name in ("cat", "dog"):
        text = "a 0.9 1 2 30 20\nb 0.5 5 6 50 40\n"
        (folder / "found" / f"comp4_det_test_{name}.txt").write_text(text)
    return folder / "Annotations" / "a.xml"


def voc_file(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        make_voc(folder)
        return folder / name

    return make


def score_voc(folder: Path) -> None:
    files = f"--annotations={folder}/Annotations", f"--predictions={folder}/found"
    call(detection.main, "--style=voc", *files)


def train_voc(folder: Path) -> None:
    read_to_the_end(DetectionData(source=f"voc:{folder}", buckets=((40, 60),)))


def train_masks(folder: Path) -> None:
    read_to_the_end(SegmentationData(source=f"voc:{folder}", image_size=(32, 32)))


def make_masks(folder: Path) -> Path:
    labels = np.arange(20 * 30).reshape(20, 30) // 200
    for part in ("truth", "found"):
        (folder / part).mkdir(exist_ok=True)
        Image.fromarray(labels.astype(np.uint8)).save(folder / part / "a.png")
    (folder / "names.txt").write_text("road\nsky\ncar\n")
    return folder / "truth" / "a.png"


def make_names(folder: Path) -> Path:
    make_masks(folder)
    return folder / "names.txt"


def score_masks(folder: Path) -> None:
    files = f"--annotations={folder}/truth", f"--predictions={folder}/found"
    call(segmentation.main, *files, f"--classes={folder}/names.txt", "--boundary")


def make_panoptic(folder: Path) -> Path:
    ids = (np.arange(20 * 30).reshape(20, 30) // 200).astype(np.uint8)
    picture = Image.fromarray(np.stack([ids, ids * 0, ids * 0], axis=-1))
    segments = [{"id": 1, "category_id": 1, "iscrowd": 0}, {"id": 2, "category_id": 2}]
    rows = [{"image_id": 7, "file_name": "7.png", "segments_info": segments}]
    names = {1: "cat", 2: "sky"}
    categories = [{"id": i, "name": name, "isthing": i % 2} for i, name in names.items()]
    for part in ("found", "truth"):
        (folder / part).mkdir(exist_ok=True)
        picture.save(folder / part / "7.png")
        path = write_json(folder / f"{part}.json", {"annotations": rows, "categories": categories})
    return path


def panoptic_file(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        make_panoptic(folder)
        return folder / name

    return make


def score_panoptic(folder: Path) -> None:
    files = f"--annotations={folder}/truth.json", f"--predictions={folder}/found.json"
    call(segmentation.main, "--panoptic", *files)


def make_pairs(folder: Path) -> Path:
    path = folder / "pairs.tsv"
    lines = [f"number {i}\tZahl {i}, größer\n" for i in range(40)]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def read_pairs(folder: Path) -> None:
    for split in ("train", "test"):
        open_pairs(f"pairs:{folder}/pairs.tsv", None, split, ("en", "de"))


TENSORS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a.bias": np.zeros(3, np.float16),
    "n": np.array(3),
}


def checkpoint(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return make


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, **TENSORS)
    return file.getvalue()


class _Call:
    """Pickled as a call of torch's function."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.name, self.arguments = name, arguments


class _Pickler(pickle._Pickler):
    """Pickles `_Call` as PyTorch pickles tensors, without PyTorch; storages by persistent ids."""

    def persistent_id(self, value: object) -> object:
        if isinstance(value, tuple) and value[:1] == ("storage",):
            return value
        return None

    def save_call(self, value: _Call) -> None:
        module, _, name = value.name.rpartition(".")
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        if value.arguments:
            self.save(value.arguments)
            self.write(pickle.REDUCE)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, _Call: save_call}


def torch_pickle(state: object) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(state)
    return file.getvalue()


def torch_state() -> dict:
    def tensor(key: str, count: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> _Call:
        storage = ("storage", _Call("torch.FloatStorage"), key, "cpu", count)
        hooks = _Call("collections.OrderedDict")
        return _Call("torch._utils._rebuild_tensor_v2", storage, 0, shape, strides, False, hooks)

    weights = {"a.weight": tensor("0", 12, (3, 4), (4, 1)), "a.bias": tensor("1", 3, (3,), (1,))}
    return {"epoch": 3, "state_dict": weights}


def torch_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", torch_pickle(torch_state()))
        archive.writestr("x/byteorder", "little")
        archive.writestr("x/data/0", bytes(48))
        archive.writestr("x/data/1", bytes(12))
    return file.getvalue()


def torch_legacy() -> bytes:
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, torch_state(), ["0", "1"]]
    storages = b"".join(np.int64(count).tobytes() + bytes(4 * count) for count in (12, 3))
    return b"".join(map(torch_pickle, parts)) + storages


def array_pickle() -> bytes:
    weights = {"a.weight": np.ones((3, 4), np.float32), "a.bias": np.zeros(3, np.float32)}
    return pickle.dumps({"model": weights, "__author__": "somebody", "epoch": np.int64(3)}, 2)


def read_checkpoint(folder: Path) -> None:
    (path,) = (path for path in folder.iterdir() if path.name.startswith("model"))
    found = open_checkpoint(path)
    _ = found.description
    for name in found:
        np.array(found[name])


def header(data: bytes) -> st.SearchStrategy[bytes]:
    """A safetensors file whose header's values are changed, or any of its bytes."""
    length = int.from_bytes(data[:8], "little")
    changed = changed_values(data[8 : 8 + length])
    rebuilt = changed.map(lambda text: len(text).to_bytes(8, "little") + text + data[8 + length :])
    return st.one_of(rebuilt, changed_bytes(data))


@st.composite
def member(draw: st.DrawFn, data: bytes) -> bytes:
    """A zip archive in which one member is changed, with a right checksum."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        chosen = draw(st.sampled_from(old.namelist()))
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, draw(changed_bytes(content)) if name == chosen else content)
    return out.getvalue()


def archive(data: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(member(data), member(data), changed_bytes(data))


def make_index(folder: Path) -> Path:
    (folder / "a.safetensors").write_bytes(save_safetensors(TENSORS))
    shards = dict.fromkeys(TENSORS, "a.safetensors")
    return write_json(folder / "model.safetensors.index.json", {"weight_map": shards})


TIMM = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}
HUGGINGFACE = {
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "resample": 3,
}


def make_config(name: str, content: object) -> Callable[[Path], Path]:
    return lambda folder: write_json(folder / name, content)


def make_tokenizer(folder: Path) -> Path:
    tokenizer = BytePairs.train(["one two three", "eins zwei drei"], 280)
    (folder / "tokenizer.json").write_bytes(tokenizer.files()["tokenizer.json"])
    return folder / "tokenizer.json"


def read_tokenizer(folder: Path) -> None:
    tokenizer = open_tokenizer(folder)
    tokenizer.decode(tokenizer.encode(["one \u00fc"])[0])


FORMATS = {
    "coco for boxes": Format(make_coco, score(), changed_json),
    "coco for masks": Format(make_coco, score("--iou_type=segm"), changed_json),
    "coco for keypoints": Format(
        make_coco, score("--iou_type=keypoints", "--sigmas=.1,.1,.1"), changed_json
    ),
    "coco for training": Format(make_coco, train_coco(masks=True), changed_json),
    "coco keypoints for training": Format(make_coco, train_coco(keypoints=True), changed_json),
    "lvis": Format(make_coco, score("--style=lvis"), changed_json),
    "results of boxes": Format(make_results, score(), changed_json),
    "results of masks": Format(make_results, score("--iou_type=segm"), changed_json),
    "results of keypoints": Format(
        make_results, score("--iou_type=keypoints", "--sigmas=.1,.1,.1"), changed_json
    ),
    "xml for evaluation": Format(make_voc, score_voc, changed_text),
    "xml for training": Format(make_voc, train_voc, changed_text),
    "results of voc": Format(voc_file("found/comp4_det_test_cat.txt"), score_voc, changed_text),
    "list of images": Format(voc_file("ImageSets/Main/train.txt"), train_voc, changed_text),
    "list of masks": Format(
        voc_file("ImageSets/Segmentation/train.txt"), train_masks, changed_text
    ),
    "mask for training": Format(voc_file("SegmentationClass/a.png"), train_masks, changed_bytes),
    "image": Format(voc_file("JPEGImages/a.jpg"), train_voc, changed_bytes),
    "mask": Format(make_masks, score_masks, changed_bytes),
    "list of classes": Format(make_names, score_masks, changed_text),
    "panoptic": Format(make_panoptic, score_panoptic, changed_json),
    "panoptic results": Format(panoptic_file("found.json"), score_panoptic, changed_json),
    "panoptic png": Format(panoptic_file("found/7.png"), score_panoptic, changed_bytes),
    "pairs": Format(make_pairs, read_pairs, changed_text),
    "npz": Format(checkpoint("model.npz", npz), read_checkpoint, archive),
    "safetensors": Format(
        checkpoint("model.safetensors", lambda: save_safetensors(TENSORS)), read_checkpoint, header
    ),
    "torch zip": Format(checkpoint("model.pth", torch_zip), read_checkpoint, archive),
    "torch before 1.6": Format(
        checkpoint("model.pth", torch_legacy), read_checkpoint, changed_bytes
    ),
    "pickle of arrays": Format(
        checkpoint("model.pkl", array_pickle), read_checkpoint, changed_bytes
    ),
    "index of shards": Format(make_index, read_checkpoint, changed_json),
    "config of timm": Format(make_config("config.json", TIMM), preprocessing_beside, changed_json),
    "config of Hugging Face": Format(
        make_config("preprocessor_config.json", HUGGINGFACE), preprocessing_beside, changed_json
    ),
    "tokenizer": Format(make_tokenizer, read_tokenizer, changed_json),
}


@pytest.fixture(autouse=True)
def little_memory():
    """A huge allocation is a MemoryError while a test runs."""
    statm = Path("/proc/self/statm")
    if not statm.exists():  # not on Linux
        yield
        return
    pages = int(statm.read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def check(name: str, folder: Path, count: int) -> None:
    kind = FORMATS[name]
    path = kind.make(folder)
    good = path.read_bytes()
    kind.read(folder)

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.change(good))
    def mutate(content: bytes) -> None:
        path.write_bytes(content)
        start = time.monotonic()
        with contextlib.suppress(InputError), one_line():
            kind.read(folder)
        assert time.monotonic() - start < SECONDS

    mutate()
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", FORMATS)
def test_few_changes(name, tmp_path):
    check(name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_changes(name, tmp_path):
    check(name, tmp_path, MANY)
