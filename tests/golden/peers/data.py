"""Goldens of transforms, preprocessing and files of torch.save."""

import argparse
import collections
import json

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import RandomResizedCrop

from peers.draws import HERE


def goldens() -> None:
    """Writes the goldens of transforms, and of files in both formats of torch.save."""
    data_transforms()
    torch_files()


def data_transforms() -> None:
    """Image transforms of timm and torchvision on a small picture, and the boxes that they draw."""
    rough = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(rough).resize((37, 26), Image.Resampling.BICUBIC)
    arrays = {"picture": np.asarray(picture)}

    for size, fraction, filter_ in (
        ((16, 16), 0.875, "bicubic"),
        ((16, 16), 0.9, "bilinear"),
        ((13, 20), 0.875, "bicubic"),
        ((32, 32), 1.0, "bilinear"),
    ):
        transform = create_transform(
            (3, *size), crop_pct=fraction, interpolation=filter_, use_prefetcher=True
        )
        name = f"eval/{size[0]},{size[1]},{fraction},{filter_}"
        arrays[name] = np.asarray(transform(picture)).transpose(1, 2, 0)

    small = picture.resize((18, 14))
    arrays["small"] = np.asarray(small)
    hparams = {"img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    negate = auto_augment._randomly_negate
    for sign in (1, -1):
        auto_augment._randomly_negate = lambda value, sign=sign: sign * value
        for magnitude in (0, 9.5, 10):
            for op in auto_augment._RAND_INCREASING_TRANSFORMS:
                if (op, magnitude) == ("PosterizeIncreasing", 10):
                    continue  # posterizes to 0 bits, which is an error in Pillow 13
                applied = auto_augment.AugmentOp(op, 1.0, magnitude, hparams)(small)
                name = op.removesuffix("Increasing").removesuffix("Rel")
                arrays[f"randaugment/{name},{magnitude},{sign}"] = np.asarray(applied)
    auto_augment._randomly_negate = negate

    draws = [RandomResizedCrop.get_params(picture, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(500)]
    arrays["boxes"] = np.asarray(draws, np.uint8)
    for name, size in (("wide", (90, 10)), ("tall", (10, 90))):
        crop = RandomResizedCrop.get_params(Image.new("RGB", size), (0.9, 1.0), (3 / 4, 4 / 3))
        arrays[f"central/{name}"] = np.asarray(crop)

    erase = RandomErasing(1.0, mode="const", device="cpu")
    erased = [erase(torch.ones(3, 26, 37))[0] == 0 for _ in range(500)]
    spans = [[int(box.any(axis).sum()) for axis in (1, 0)] for box in erased]
    arrays["erased"] = np.asarray(spans, np.uint8)
    np.savez_compressed(HERE / "data_transforms.npz", **arrays)


def preprocessing() -> None:
    """How timm prepares images for the models that it also has."""
    names = json.loads((HERE / "parameter_counts.json").read_text())
    configs = {name: timm.get_pretrained_cfg(name) for name in names}
    found = {
        name: [
            *config.input_size[1:],
            config.mean,
            config.std,
            config.interpolation,
            config.crop_pct,
            *([config.crop_mode] if config.crop_mode != "center" else []),
        ]
        for name, config in configs.items()
        if config is not None
    }
    (HERE / "preprocessing.json").write_text(json.dumps(found, indent=1) + "\n")


def torch_files() -> None:
    """Files of torch.save in both formats, with all dtypes, views, and nested checkpoints."""
    base = torch.arange(24.0).reshape(4, 6)
    state = collections.OrderedDict(
        float32=base,
        transposed=base.t(),
        row=base[2],
        strided=base[::2, 1::2],
        bfloat16=base.bfloat16(),
        float16=base.half(),
        int64=torch.tensor(3),
        bool=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )
    state = collections.OrderedDict((f"module.{k}", v) for k, v in state.items())
    checkpoint = {
        "model": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, names=["a"], seen={1, 2}),
    }
    torch.save(checkpoint, HERE / "torch_zip.pth")
    torch.save(checkpoint, HERE / "torch_legacy.pth", _use_new_zipfile_serialization=False)
