"""Compares the zoo's models at full size with the peers' models, loaded from files of the peers.

Too large for the tests. Run it by hand on a machine with both environments, in two steps:

    FAIR_DETR=DETR PYTHONPATH=../shared/peers PEERS_PYTHON tests/golden/check_parity.py write DIR
    PYTHONPATH=. PYTHON tests/golden/check_parity.py read DIR

where DETR is a checkout of facebookresearch/detr; only the case of that project needs it. Those of
detectron2 need what `peers/faster_rcnn_detectron2.py` needs, those of effdet what
`peers/efficientdet.py` needs.
Those of cornernet and extremenet need the checkouts that their files in `peers` name.
`write DIR CASE ...` makes only the named cases; each takes up to 1.3 GB of disk. `write` draws
weights from a fresh seed, and saves the outputs of each model and the model itself, in the way its
users save it (safetensors, torch.save, save_pretrained). `read` loads each file with `zoo.load` and
compares the outputs. It also saves the model in timm's names (a DETR in FAIR's, a U-Net in smp's or
ours, a text model in the peer's) and loads it again. A case fails if an output differs by more than
2e-4 of the largest value of the output, for a DETR by more than 2e-4. The input of a detector is a
padded batch of two images of different sizes, the input of a text model a batch of five texts.
Rounding can change what a two-stage detector chooses: each proposal and detection of the peer is
compared with our nearest one, and at most one in a hundred may have none within 0.1 px.
"""

import importlib
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

FEW = {"proposal_fields": {"kept": 100}}
# Each case: the source, the model's name, fields of our model, side of the images in pixels.
CASES = {
    "vit_tiny": ("timm", "vit_tiny_patch16_224", {}, 224),
    "vit_base": ("timm", "vit_base_patch16_224", {}, 224),
    "vit_base_at_384": ("timm", "vit_base_patch16_224", {}, 384),
    "vit_large": ("timm", "vit_large_patch16_384", {"image_size": 224}, 224),
    "mixer_base": ("timm", "mixer_b16_224", {}, 224),
    "resnet50": ("timm", "resnet50", {}, 224),
    "resnet50_gn": ("timm", "resnet50_gn", {}, 224),
    "torchvision_resnet101": ("torchvision", "resnet101", {}, 224),
    "torchvision_vit": ("torchvision", "vit_base_patch16_224", {}, 224),
    "resnext50": ("timm", "resnext50_32x4d", {}, 224),
    "mobilenetv3_large": ("timm", "mobilenetv3_large_100", {}, 224),
    "mobilenetv3_small": ("timm", "mobilenetv3_small_100", {}, 224),
    "efficientnet_b0": ("timm", "efficientnet_b0", {}, 224),
    "efficientnet_lite0": ("timm", "efficientnet_lite0", {}, 224),
    "efficientdet_d0": ("effdet", "efficientdet_d0", {}, 512),
    "tf_efficientdet_d0": ("effdet", "tf_efficientdet_d0", {}, 512),
    "torchvision_mobilenetv3": ("torchvision", "mobilenetv3_large_100", {}, 224),
    "huggingface_vit": ("huggingface", "vit_base_patch16_224", {}, 224),
    "huggingface_resnet": ("huggingface", "resnet50", {}, 224),
    "huggingface_detr": ("huggingface", "detr_resnet50", {}, 480),
    "huggingface_detr_dc5": ("huggingface", "detr_resnet50_dc5", {}, 320),
    "huggingface_detr_panoptic": ("huggingface", "detr_resnet50_panoptic", {}, 256),
    "fair_detr": ("fair", "detr_resnet50", {}, 480),
    "fasterrcnn_resnet50_fpn": ("torchvision", "fasterrcnn_resnet50_fpn", {}, 256),
    "fasterrcnn_v2": ("torchvision", "fasterrcnn_resnet50_fpn_v2", FEW, 256),
    "fasterrcnn_mobilenet": ("torchvision", "fasterrcnn_mobilenet_v3_large_fpn", {}, 256),
    "fasterrcnn_320": ("torchvision", "fasterrcnn_mobilenet_v3_large_320_fpn", {}, 256),
    "maskrcnn_resnet50_fpn": ("torchvision", "maskrcnn_resnet50_fpn", FEW, 256),
    "maskrcnn_v2": ("torchvision", "maskrcnn_resnet50_fpn_v2", FEW, 256),
    "keypointrcnn_resnet50_fpn": ("torchvision", "keypointrcnn_resnet50_fpn", FEW, 256),
    "retinanet_resnet50_fpn": ("torchvision", "retinanet_resnet50_fpn", {}, 256),
    "retinanet_v2": ("torchvision", "retinanet_resnet50_fpn_v2", {}, 256),
    "fcos_resnet50_fpn": ("torchvision", "fcos_resnet50_fpn", {}, 256),
    "ssd300_vgg16": ("torchvision", "ssd300_vgg16", {}, 300),
    "ssdlite320": ("torchvision", "ssdlite320_mobilenet_v3_large", {}, 320),
    "detectron2_c4": ("detectron2", "fasterrcnn_resnet50_c4", FEW, 256),
    "detectron2_mask_c4": ("detectron2", "maskrcnn_resnet50_c4", FEW, 256),
    "detectron2_tridentnet": ("detectron2", "tridentnet_resnet50_c4", FEW, 256),
    "cornernet": ("cornernet", "cornernet_hourglass104", {}, 255),
    "extremenet": ("extremenet", "extremenet_hourglass104", {}, 255),
    "huggingface_marian": ("huggingface", "marian", {}, 0),
    "torch_transformer": ("torch", "transformer_base", {"final_norm": True}, 0),
    "smp_unet": ("smp", "unet_resnet34", {"num_classes": 21}, 512),
    "unet": ("torch", "unet", {}, 572),
    "unet_same": ("torch", "unet_same", {}, 512),
}
TEXT = ("marian", "transformer_base")
DENSE = ("retinanet", "fcos", "ssd")  # torchvision's one-stage detectors
# Inputs of the models, in the order of their calls; all other arrays in outputs.npz are outputs.
INPUTS = ("images", "valid", "sources", "targets", "sources_valid", "targets_valid")


def peer(source: str, name: str, side: int):
    """The peer's model with random weights, and a function that saves it to a folder."""
    importlib.import_module("reference")  # torchvision, then timm, import with a CPU build of torch
    import torch

    if source == "detectron2":
        return importlib.import_module("peers.detectron2_detectors").full_size(name)
    if source == "effdet":
        return importlib.import_module("peers.efficientdet").full_size(name, side)
    if source in ("cornernet", "extremenet"):
        return importlib.import_module("peers.hourglass_detectors").full_size(name, side)
    if name.startswith(DENSE):
        return importlib.import_module("peers.torchvision_detectors").dense_full_size(name)
    if "rcnn" in name:
        return importlib.import_module("peers.torchvision_detectors").full_size(name)
    if source == "timm":
        import timm
        from safetensors.torch import save_file

        dynamic = {"dynamic_img_size": True} if "vit" in name else {}
        model = timm.create_model(name, **dynamic)

        def save(path: Path) -> None:
            save_file(model.state_dict(), path / "model.safetensors")

    elif source == "torchvision":
        import torchvision

        names = {"vit_base_patch16_224": "vit_b_16", "mobilenetv3_large_100": "mobilenet_v3_large"}
        model = torchvision.models.get_model(names.get(name, name))

        def save(path: Path) -> None:
            torch.save(model.state_dict(), path / "model.pth")

    elif source == "fair":
        model, save = fair_detr()
    elif name in TEXT:
        model, save = text_model(name)
    elif source in ("smp", "torch"):
        model, save = unet(name)
    elif name.startswith("detr"):
        import transformers

        kind = transformers.DetrForObjectDetection
        classes = {"num_labels": 91}
        if name.endswith("panoptic"):
            kind, classes = transformers.DetrForSegmentation, {"num_labels": 250}
        model = kind(transformers.DetrConfig(dilation=name.endswith("dc5"), **classes))
        save = model.save_pretrained
    else:
        import transformers

        classes = {"vit": transformers.ViTConfig, "resnet": transformers.ResNetConfig}
        config = classes["vit" if "vit" in name else "resnet"](num_labels=1000)
        model = transformers.AutoModelForImageClassification.from_config(config)
        save = model.save_pretrained
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and "embed_positions" not in key:
                noise = 0.02 * torch.randn_like(tensor)
                tensor.add_(noise if tensor.ndim > 1 else 5 * noise)
    return model.eval(), save


def text_model(name: str):
    """Marian, or PyTorch's Transformer with its default norms; and a function that saves it."""
    import torch
    from peers import transformer

    if name == "marian":
        model = transformer.marian_model(58_101, 512, 8, 6, 2048)
        return model, model.save_pretrained
    model = transformer.TextTransformer(37_000, 512, 8, 6, 2048)
    torch.nn.init.normal_(model.embedding.weight, std=512**-0.5)  # as in the paper
    for side in (model.transformer.encoder, model.transformer.decoder):
        side.norm = torch.nn.LayerNorm(512)
    return model, lambda path: torch.save(model.state_dict(), path / "model.pth")


def run_text(name: str, model) -> dict[str, np.ndarray]:
    """The inputs and logits of a text model for a padded batch."""
    import torch
    from peers import transformer

    batch = transformer.texts(model.config.vocab_size if name == "marian" else 37_000)
    with torch.no_grad():
        if name == "marian":
            logits = model(
                input_ids=batch["sources"],
                attention_mask=batch["sources_valid"].long(),
                decoder_input_ids=batch["targets"],
                decoder_attention_mask=batch["targets_valid"].long(),
            ).logits
        else:
            logits = model(**batch)
    return {key: x.numpy() for key, x in {**batch, "logits": logits}.items()}


def fair_detr():
    """The authors' model, and a function that saves it as their training does."""
    import argparse

    import torch
    from peers import detr

    model = detr.models()["detr_resnet50"]
    with torch.no_grad():
        for name, scale in model.named_buffers():
            if name.endswith("bn3.weight"):
                scale.mul_(0.2)  # as in a trained ResNet, whose features do not grow with depth

    def save(path: Path) -> None:
        state = {"model": model.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=1e-4)}
        torch.save(state, path / "model.pth")

    return model, save


def unet(name: str):
    """The U-Net of segmentation_models_pytorch, or ours in torch, and a function that saves it."""
    import segmentation_models_pytorch as smp
    import torch
    from peers.unet import TorchUNet
    from safetensors.numpy import save_file

    if name == "unet_resnet34":
        model = smp.Unet("resnet34", encoder_weights=None, classes=21)
        with torch.no_grad():
            for name, scale in model.encoder.named_parameters():
                if name.endswith("bn2.weight"):
                    scale.mul_(0.2)  # as in a trained ResNet, whose features do not grow with depth
        return model, lambda path: torch.save(model.state_dict(), path / "model.pth")
    forms = {"unet": ("valid", False, "none"), "unet_same": ("same", False, "batch")}
    model = TorchUNet(4, 64, 2, *forms[name])
    return model, lambda path: save_file(model.zoo_weights(), path / "model.safetensors")


def run_detr(model, side: int) -> dict[str, np.ndarray]:
    """The inputs and outputs of a DETR for a padded batch, under our names."""
    import torch
    import transformers
    from peers.detr import padded_batch

    x, valid = padded_batch(side, side * 4 // 3)
    with torch.no_grad():
        if isinstance(model, transformers.PreTrainedModel):
            output = dict(model(x, valid.long()))
        else:
            from util.misc import NestedTensor

            output = model(NestedTensor(x, ~valid))
    names = {"logits": "logits", "pred_logits": "logits", "pred_boxes": "boxes_cxcywh"}
    names["pred_masks"] = "masks"
    found = {ours: output[theirs].numpy() for theirs, ours in names.items() if theirs in output}
    return {"images": x.permute(0, 2, 3, 1).numpy(), "valid": valid.numpy(), **found}


def write(folder: Path, cases: list[str]) -> None:
    """Saves the peers' models and logits."""
    import torch

    for case in cases or CASES:
        source, name, _, side = CASES[case]
        seed = torch.seed()
        model, save = peer(source, name, side)
        if name.startswith("detr"):
            arrays = run_detr(model, side)
        elif source == "detectron2":
            module = importlib.import_module("peers.detectron2_detectors")
            arrays = module.run(name, model, side)
        elif source == "effdet":
            arrays = importlib.import_module("peers.efficientdet").run_full_size(model, side)
        elif source in ("cornernet", "extremenet"):
            arrays = importlib.import_module("peers.hourglass_detectors").run_full_size(model, side)
        elif name.startswith(DENSE):
            module = importlib.import_module("peers.torchvision_detectors")
            arrays = module.run_dense(name, model, side)
        elif "rcnn" in name:
            arrays = importlib.import_module("peers.torchvision_detectors").run(model, side)
        elif name in TEXT:
            arrays = run_text(name, model)
        else:
            x = torch.randn(2, 3, side, side)
            with torch.no_grad():
                output = model(x)
            logits = getattr(output, "logits", output).numpy()
            logits = logits.transpose(0, 2, 3, 1) if logits.ndim == 4 else logits
            arrays = {"images": x.permute(0, 2, 3, 1).numpy(), "logits": logits}
        (folder / case).mkdir(parents=True)
        save(folder / case)
        np.savez(folder / case / "outputs.npz", seed=seed, **arrays)


def read(folder: Path) -> bool:
    """Compares all cases in the folder; prints one JSON line for each, then the absent cases.

    Gives True if there is at least one case and all cases pass.
    """
    import jax
    import regions

    import zoo
    from zoo.registry import family_of

    found_cases = [case for case in CASES if (folder / case).is_dir()]
    good = bool(found_cases)
    for path in (folder / case for case in found_cases):
        peers, name, fields, _ = CASES[path.name]
        outputs = dict(np.load(path / "outputs.npz"))
        inputs = [outputs.pop(key) for key in INPUTS if key in outputs]
        seed = int(outputs.pop("seed"))
        file = next(p for p in path.iterdir() if p.suffix in (".safetensors", ".pth"))
        model, variables, report = zoo.load_with_report(name, file, **fields)
        output = jax.jit(model.apply)(variables, *inputs)
        objects = {key: outputs.pop(key) for key in list(outputs) if "/" in key}
        ours = {key: np.asarray(getattr(output, key, output)) for key in outputs}
        differences, good_outputs = {}, True
        if "proposals" in outputs:
            find = partial(family_of(model).decode, output, regions.sizes_of(inputs[1]))
            ours, outputs, differences = regions.align(ours, outputs, find, objects)
            good_outputs = max(differences.values()) <= 0.01
        relative = len(inputs) == 1 or "proposals" in outputs
        for key, expected in outputs.items():
            difference = float(np.abs(ours[key] - expected).max())
            scale = float(np.abs(expected).max())
            differences[key] = {"difference": difference, "scale": scale}
            good_outputs &= difference <= 2e-4 * (scale if relative else 1)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            back = Path(temporary) / "back.safetensors"
            known = {name_map.source for name_map in family_of(model).names}
            to = next((s for s in ("timm", "fair", "smp", peers) if s in known), "zoo")
            zoo.save(model, variables, back, source=to)
            again = zoo.load(back)[1]
        equal = jax.tree.map(lambda a, b: bool((a == b).all()), variables, again)
        exact = all(jax.tree.leaves(equal))
        passed = good_outputs and exact
        good &= passed
        found = {"case": path.name, "found": report.source, **differences}
        found |= {"exact_round_trip": exact, "seed": seed}
        print(json.dumps(found | {"resized": list(report.resized), "passed": passed}), flush=True)
    print("absent:", ", ".join(case for case in CASES if case not in found_cases) or "none")
    return good


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), sys.argv[3:])
    else:
        sys.exit(not read(Path(sys.argv[2])))
