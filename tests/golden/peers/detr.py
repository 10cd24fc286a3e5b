"""Goldens of DETR, made by facebookresearch/detr and transformers."""

import copy
import gzip
import io
import json
import os
import sys
import tempfile
import types

import numpy as np
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.numpy import load_file
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from peers.draws import HERE, images, randomise, write

DETR = {"num_classes": 4, "num_queries": 6, "hidden_dim": 32, "num_heads": 2, "mlp_dim": 32}
DETR |= {"num_encoder_layers": 2, "num_decoder_layers": 2}


def goldens() -> None:
    """Goldens of both peers' models, and of the names, masks and segments of the authors' code."""
    fair_detr()
    huggingface_detr()
    fair_names()
    fair_masks()
    torch.manual_seed(0)
    fair_panoptic()


def padded_batch(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of different sizes, NCHW, padded with zeros; and a mask, True on real pixels."""
    x, valid = torch.zeros(2, 3, height, width), torch.zeros(2, height, width, dtype=torch.bool)
    for i, (rows, columns) in enumerate([(height * 3 // 4, width), (height, width * 2 // 3)]):
        x[i, :, :rows, :columns] = images(rows, columns)[0]
        valid[i, :rows, :columns] = True
    return x, valid


def randomise_detr(model: torch.nn.Module) -> torch.nn.Module:
    """Like `randomise`, but with norm scales near 1, so that outputs depend on image and query."""
    with torch.no_grad():
        for name, tensor in randomise(model).state_dict().items():
            if name.endswith("weight") and tensor.ndim == 1:
                tensor.add_(1)
            elif "query" in name:
                tensor.mul_(5)
    return model


def save_detr(
    source: str, case: str, fields: dict, model: torch.nn.Module, weights: dict | None = None
) -> None:
    """Writes the golden of a DETR of either peer.

    The peer computes in float64, so all differences come from the rounding in our model.
    """
    x, valid = padded_batch(34, 41)
    weights = model.state_dict() if weights is None else weights
    precise = copy.deepcopy(model).double()
    with torch.no_grad():
        if isinstance(model, transformers.PreTrainedModel):
            output = dict(precise(x.double(), valid.long()))
        else:
            from util.misc import NestedTensor

            output = precise(NestedTensor(x.double(), ~valid))
    arrays = {
        "logits": output.get("logits", output.get("pred_logits")),
        "boxes_cxcywh": output["pred_boxes"],
    }
    if "pred_masks" in output:
        arrays["masks"] = output["pred_masks"]
    if "aux_outputs" in output:
        keys = {"auxiliary_logits": "pred_logits", "auxiliary_boxes_cxcywh": "pred_boxes"}
        for ours, theirs in keys.items():
            arrays[ours] = torch.stack([layer[theirs] for layer in output["aux_outputs"]])
    write(
        f"detr_{source}{case}",
        {"name": "detr_resnet50", "fields": {**DETR, **fields}, "source": source},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() for k, v in arrays.items()},
        weights,
        tolerance=2e-6,  # the largest values are 2.6
    )


def fair_modules() -> None:
    """Makes the models in the checkout of facebookresearch/detr, $FAIR_DETR, importable."""
    sys.path.insert(0, os.environ["FAIR_DETR"])
    for name in ("panopticapi", "panopticapi.utils"):
        sys.modules[name] = types.ModuleType(name)
    bits = np.array([0, 8, 16])  # panopticapi's code of ids: the lowest byte is red
    sys.modules["panopticapi.utils"].__dict__.update(
        id2rgb=lambda ids: (ids[..., None] >> bits & 255).astype(np.uint8),
        rgb2id=lambda colours: (colours.astype(np.int64) << bits).sum(axis=-1),
    )
    torchvision.__version__ = "1.0"  # the authors' code mistakes versions 0.2x for 0.2


def fair_detr() -> None:
    """The authors' code with a narrow ResNet: once post-norm, once dilated and pre-norm."""
    fair_modules()
    from models.backbone import BackboneBase, FrozenBatchNorm2d, Joiner
    from models.detr import DETR as Detr
    from models.position_encoding import PositionEmbeddingSine
    from models.transformer import Transformer
    from torchvision.models._utils import IntermediateLayerGetter

    cases = {
        "": (BasicBlock, (1, 2), 32, 8, False),
        "_dc5": (Bottleneck, (1, 1, 2), 8, 16, True),
    }
    for case, (block, depths, output_stride, features, pre_norm) in cases.items():
        stages = len(depths)

        def norm(features: int, **_: object) -> torch.nn.Module:
            return FrozenBatchNorm2d(features)

        narrow = {"channels": (4, 8, 4, 4), "norm_layer": norm}
        resnet = ResNet(block, (*depths, 1, 1)[:4], output_stride=output_stride, **narrow)
        backbone = BackboneBase(resnet, True, features, False)
        backbone.body = IntermediateLayerGetter(resnet, {f"layer{stages}": "0"})
        joiner = Joiner(backbone, PositionEmbeddingSine(16, normalize=True))
        joiner.num_channels = features
        layers = {"num_encoder_layers": 2 - pre_norm, "num_decoder_layers": 2}
        transformer = Transformer(
            32,
            2,
            dim_feedforward=32,
            normalize_before=pre_norm,
            return_intermediate_dec=True,
            **layers,
        )
        model = randomise_detr(Detr(joiner, transformer, 4, 6, aux_loss=True))
        dims = narrow["channels"][:stages]
        body = {"block": "basic" if block is BasicBlock else "bottleneck", "norm": "frozen"}
        body |= {"num_blocks": depths, "stage_dims": dims, "stem_dim": 64}
        body |= {"dilated_stages": int(pre_norm)}
        fields = {"backbone_fields": body, "pre_norm": pre_norm, **layers}
        save_detr("fair", case, fields, model)


def fair_masks() -> None:
    """The authors' masks at the size of two images, after resizing and padding to 64 x 96."""
    fair_modules()
    from models.segmentation import PostProcessSegm

    logits = torch.randn(2, 3, 16, 24)
    sizes, original_sizes = torch.tensor([[64, 90], [40, 96]]), torch.tensor([[48, 68], [61, 97]])
    outputs = {"pred_masks": logits[:, :, None]}
    found = PostProcessSegm()([{}, {}], outputs, original_sizes, sizes)
    np.savez_compressed(
        HERE / "fair_masks.npz",
        logits=logits,
        sizes=sizes,
        original_sizes=original_sizes,
        **{f"masks/{i}": masks["masks"][:, 0].bool().numpy() for i, masks in enumerate(found)},
    )


def fair_panoptic() -> None:
    """The authors' segments of four images: with several masks of one stuff, too small, or none."""
    fair_modules()
    from models.segmentation import PostProcessPanoptic

    size, original_sizes, things = (64, 96), [(48, 72), (75, 101), (20, 31), (64, 96)], [0, 1]
    logits = 3 * torch.randn(4, 8, 5)
    logits[0].scatter_(1, torch.tensor([[0], [0], [2], [2], [3], [4], [1], [2]]), 12.0)
    logits[1].scatter_(1, torch.tensor([[3], [3], [3], [2], [2], [1], [1], [1]]), 12.0)
    logits[3].scatter_(1, torch.full((8, 1), 4), 12.0)
    masks = torch.nn.functional.interpolate(3 * torch.randn(4, 8, 4, 6), size=(16, 24))
    masks[:, 6] -= 4
    outputs = {"pred_logits": logits, "pred_masks": masks, "pred_boxes": torch.rand(4, 8, 4)}
    post_process = PostProcessPanoptic({label: label in things for label in range(5)})
    arrays = {}
    for i, found in enumerate(post_process(outputs, [size] * 4, original_sizes)):
        colours = np.asarray(Image.open(io.BytesIO(found["png_string"])))
        arrays[f"ids/{i}"] = sys.modules["panopticapi.utils"].rgb2id(colours)
        arrays[f"labels/{i}"] = [segment["category_id"] for segment in found["segments_info"]]
    np.savez_compressed(
        HERE / "fair_panoptic.npz",
        logits=logits,
        masks=masks,
        size=size,
        original_sizes=original_sizes,
        things=things,
        **arrays,
    )


def huggingface_detr() -> None:
    """Detection with the names of files, and panoptic segmentation with those of state dicts."""
    widths = {f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")}
    cases = {
        "": (transformers.DetrForObjectDetection, 2, ([4, 8], [1, 2])),
        "_panoptic": (
            transformers.DetrForSegmentation,
            8,
            ([4, 4, 4, 8], [1, 1, 1, 1]),
        ),
    }
    for case, (kind, heads, (dims, depths)) in cases.items():
        masks = kind is transformers.DetrForSegmentation
        num_layers = 1 if masks else 2
        outputs = [f"stage{i + 1}" for i in range(len(dims))]
        body = transformers.ResNetConfig(
            embedding_size=8,
            hidden_sizes=dims,
            depths=depths,
            layer_type="basic",
            out_features=outputs,
        )
        config = transformers.DetrConfig(
            backbone_config=body,
            d_model=32,
            num_queries=6,
            num_labels=4,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_layers=num_layers,
            decoder_layers=num_layers,
            **widths,
        )
        model = randomise_detr(kind(config))
        weights = None
        if not masks:
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                weights = load_file(f"{folder}/model.safetensors")
        fields = {"block": "basic", "norm": "frozen", "stem_dim": 8}
        fields |= {"num_blocks": depths, "stage_dims": dims}
        fields = {"backbone_fields": fields, "num_heads": heads, "masks": masks}
        fields |= {"num_encoder_layers": num_layers, "num_decoder_layers": num_layers}
        save_detr("huggingface", case, fields, model, weights)


def models() -> dict[str, torch.nn.Module]:
    """The peer's model for each of our names; their parameters are counted.

    They are the authors' models, and their code with a small ResNet of Hugging Face.
    """
    fair_modules()
    from models.backbone import BackboneBase, FrozenBatchNorm2d, Joiner
    from models.detr import DETR as Detr
    from models.position_encoding import PositionEmbeddingSine
    from models.segmentation import DETRsegm
    from models.transformer import Transformer

    def build(name: str, num_classes: int = 91, *, dilation: bool = False) -> torch.nn.Module:
        dilated = [False, False, dilation]
        resnet = torchvision.models.get_model(
            name, replace_stride_with_dilation=dilated, norm_layer=FrozenBatchNorm2d
        )
        backbone = Joiner(
            BackboneBase(resnet, True, 2048, True), PositionEmbeddingSine(128, normalize=True)
        )
        backbone.num_channels = 2048
        transformer = Transformer(256, return_intermediate_dec=True)
        return Detr(backbone, transformer, num_classes, 100)

    small = {"embedding_size": 48, "hidden_sizes": [48, 96], "depths": [2, 2]}
    small |= {"layer_type": "basic", "out_features": ["stage2"]}
    body = transformers.ResNetBackbone(transformers.ResNetConfig(**small))
    backbone = Joiner(body, PositionEmbeddingSine(64, normalize=True))
    backbone.num_channels = 96
    transformer = Transformer(128, 8, 3, 3, 256, normalize_before=True)
    return {
        "detr_resnet50": build("resnet50"),
        "detr_resnet50_dc5": build("resnet50", dilation=True),
        "detr_resnet50_panoptic": DETRsegm(build("resnet50", 250)),
        "detr_resnet101": build("resnet101"),
        "detr_resnet101_dc5": build("resnet101", dilation=True),
        "detr_nano": Detr(backbone, transformer, 91, 20),
    }


def fair_names() -> None:
    """Writes the names and shapes of the tensors in the authors' checkpoints of DETR."""
    with torch.device("meta"):
        published = models()
    del published["detr_nano"]
    names = {
        name: {tensor: list(x.shape) for tensor, x in model.state_dict().items()}
        for name, model in published.items()
    }
    text = json.dumps(names, separators=(",", ":"))
    (HERE / "detr_fair_names.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
