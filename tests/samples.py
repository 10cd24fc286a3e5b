"""The files that commands in README and docs use, made when a command first needs them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece
from flax import linen as nn
from PIL import Image

import zoo
from tests.eval.generate import awkward, federated
from zoo.data.digit_scenes import draw_scene

TINY_DETR = {  # fields that differ from detr_resnet50
    "num_queries": 20,
    "hidden_dim": 16,
    "num_heads": 2,
    "mlp_dim": 16,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "backbone_fields": {"num_blocks": (1,), "stage_dims": (8,), "stem_dim": 8},
}
TINY_MARIAN = {
    "hidden_dim": 16,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "mlp_dim": 32,
}
TEXTS = ["a frog jumps over the pond", "the cat sees a frog", "twenty one cats and a dog"]


def photo(path: Path) -> None:
    """A picture of 60 x 80 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, str(path.name)))
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((80, 60)).save(path)


def photos(folder: Path) -> None:
    """Photos in one folder for each class."""
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                photo(folder / split / name / f"{name}{i}.jpg")


def boxes(folder: Path) -> None:
    """Digit scenes of one category, in a folder with a COCO json."""
    for split, count in (("train", 6), ("val", 3)):
        images, annotations = [], []
        for i in range(count):
            scene = draw_scene("train", i)
            images.append({"id": i + 7, "file_name": f"{i}.png", "height": 64, "width": 64})
            (folder / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(folder / split / f"{i}.png")
            for left, top, right, bottom in scene.boxes.tolist():
                box = [left, top, right - left, bottom - top]
                number = {"id": len(annotations) + 1, "image_id": i + 7, "category_id": 3}
                annotations.append({**number, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        categories = [{"id": 3, "name": "digit"}]
        file = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(file))


def voc(folder: Path) -> None:
    """The same scenes in the layout of PASCAL VOC's devkit."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split, numbers in (("train", range(6)), ("val", range(6, 9))):
        for i in numbers:
            scene, things = draw_scene("train", i), ""
            for box in np.add(scene.boxes, [1, 1, 0, 0]).astype(int).tolist():
                sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
                corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
                things += f"<object><name>digit</name><bndbox>{corners}</bndbox></object>"
            size = "<size><width>64</width><height>64</height></size>"
            xml = f"<annotation><filename>{i}.png</filename>{size}{things}</annotation>"
            (folder / "Annotations" / f"{i}.xml").write_text(xml)
            Image.fromarray(scene.image).save(folder / "JPEGImages" / f"{i}.png")
        listing = folder / "ImageSets" / "Main" / f"{split}.txt"
        listing.write_text("".join(f"{i}\n" for i in numbers))


def voc_results(folder: Path) -> None:
    """Results for one class in the format of the devkit."""
    folder.mkdir()
    (folder / "comp4_det_val_digit.txt").write_text("6 0.9 10 10 30 30\n7 0.5 1 1 20 20\n")


def scans(folder: Path) -> None:
    """Images with masks of three classes."""
    for split in ("train", "val"):
        for i in range(4):
            photo(folder / split / "images" / f"{i}.jpg")
        masks(folder / split / "masks")
    (folder / "classes.txt").write_text("ground\nroof\nroad\n")


def masks(folder: Path) -> None:
    """Four label images of three classes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(folder.name))
    for i in range(4):
        blocks = rng.integers(0, 3, (6, 8), dtype=np.uint8)
        Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)).save(folder / f"{i}.png")


def pairs(path: Path) -> None:
    """Texts with their translations."""
    path.write_text("".join(f"the text {i}\tder Text {i}\n" for i in range(60)))


def coco_files(kind: str, which: int) -> Callable[[Path], None]:
    """Ground truth (0) or results (1) in COCO's formats."""

    def write(path: Path) -> None:
        files = federated(2) if kind == "lvis" else awkward(1, kind)
        path.write_text(json.dumps(files[which]))

    return write


def val2017(folder: Path) -> None:
    """The images of instances.json."""
    folder.mkdir()
    for image in awkward(1, "segm")[0]["images"]:
        pixels = np.zeros((image["height"], image["width"], 3), np.uint8)
        Image.fromarray(pixels).save(folder / image["file_name"])


def panoptic(path: Path) -> None:
    """A panoptic json, and beside it a folder with one png of two segments."""
    folder = path.with_suffix("")
    folder.mkdir()
    ids = np.zeros((20, 30, 3), np.uint8)
    ids[:, :15, 0], ids[:, 15:, 0] = 1, 2
    Image.fromarray(ids).save(folder / "5.png")
    kinds = ((1, 7), (2, 9))
    segments = [{"id": i, "category_id": k, "area": 300, "iscrowd": 0} for i, k in kinds]
    image = {"image_id": 5, "file_name": "5.png", "segments_info": segments}
    categories = [{"id": 7, "name": "cat", "isthing": 1}, {"id": 9, "name": "sky", "isthing": 0}]
    path.write_text(json.dumps({"annotations": [image], "categories": categories}))


def drawn(model: nn.Module, *inputs: jax.Array) -> dict:
    """The variables of a model, drawn from a fixed seed."""
    return jax.jit(model.init)(jax.random.key(0), *inputs)


def checkpoint(name: str, source: str, side: int = 32, **fields: object) -> Callable[[Path], None]:
    """A checkpoint of random weights in the names of a source; safetensors, whatever its suffix."""

    def write(path: Path) -> None:
        model = zoo.create(name, **fields)
        variables = drawn(model, jnp.zeros((1, side, side, 3)))
        saved = path.with_suffix(".safetensors")
        zoo.save(model, variables, saved, source)
        saved.rename(path)

    return write


def marian(folder: Path) -> None:
    """A translator in the files of Helsinki-NLP, with random weights."""
    folder.mkdir()
    (folder / "text").write_text("\n".join(TEXTS))
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text"),
            model_prefix=str(folder / side),
            vocab_size=28,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    names = ["</s>", "<unk>", *pieces, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    sizes |= {"encoder_attention_heads": 2, "encoder_ffn_dim": 32, "vocab_size": len(names)}
    more = {"activation_function": "swish", "scale_embedding": True, "dropout": 0.1}
    config = {"model_type": "marian", **sizes, **more, "attention_dropout": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    model = zoo.create("marian", vocab_size=len(names), **TINY_MARIAN)
    tokens = jnp.zeros((1, 4), jnp.int32)
    path = folder / "model.safetensors"
    zoo.save(model, drawn(model, tokens, tokens), path, "huggingface")


FILES: dict[str, Callable[[Path], None]] = {
    "boxes": boxes,
    "detr-r50-panoptic-00ce5173.pth": checkpoint("detr_resnet50_panoptic", "fair", 64),
    "detr-r50-e632da11.pth": checkpoint("detr_resnet50", "fair", 64, **TINY_DETR),
    "instances.json": coco_files("segm", 0),
    "keypoints.json": coco_files("keypoints", 0),
    "lvis.json": coco_files("lvis", 0),
    "lvis_results.json": coco_files("lvis", 1),
    "masks": masks,
    "opus-mt-en-de": marian,
    "pairs.tsv": pairs,
    "panoptic.json": panoptic,
    "panoptic_found.json": panoptic,
    "photo.jpg": photo,
    "photos": photos,
    "poses.json": coco_files("keypoints", 1),
    "predicted": masks,
    "resnet18-f37072fd.pth": checkpoint("resnet18", "torchvision"),
    "results.json": coco_files("segm", 1),
    "scans": scans,
    "smp_unet.pth": checkpoint("unet_resnet34", "smp"),
    "val2017": val2017,
    "vit_b16.safetensors": checkpoint("vit_tiny_patch16_224", "timm", 224),
    "vit_tiny.safetensors": checkpoint("vit_tiny_patch16_224", "timm", 224),
    "voc": voc,
    "voc_results": voc_results,
}


def named_files(text: str) -> list[str]:
    """The files in `FILES` whose paths are in a text."""
    return [n for n in FILES if re.search(rf"(?<![\w./-]){re.escape(n)}(?![\w.-])", text)]


def provide(text: str, folder: Path) -> None:
    """Makes the files that a text names, unless they exist."""
    for name in named_files(text):
        if not (folder / name).exists():
            FILES[name](folder / name)
