"""Makes the goldens: tiny random-weight models of the peers, with what they compute.

The only file of the repository that imports torch. Run it with the peers' Python, from the
repository root, when a golden is added:

    FAIR_MAE=MAE PYTHONPATH=../shared/peers:DETR PEERS_PYTHON tests/golden/make_golden.py

where DETR and MAE are checkouts of facebookresearch/detr and mae, whose own code makes goldens.

Each `<source>_<case>.npz` holds the checkpoint (`weights/<name>`), `images` (NHWC), `logits`,
`tokens` (the encoded tokens, or a ResNet's last map), and `config`, a JSON of our model's name and
fields; those of a DETR have `valid` beside the images, and every output under its name in ours.
`parameter_counts.json` has the number of parameters of every model that the zoo registers.
"""

import argparse
import collections
import gzip
import json
import os
import random
import re
import sys
import tempfile
import types
from functools import partial
from pathlib import Path

import numpy as np
import reference  # noqa: F401  for its effect: timm then imports with a CPU build of torch
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.numpy import load_file
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from timm.data import auto_augment, create_transform
from timm.data.random_erasing import RandomErasing
from timm.layers import resample_abs_pos_embed
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torchvision.transforms import RandomResizedCrop

HERE = Path(__file__).parent
SIZE = {"hidden_dim": 16, "num_layers": 2, "patch_size": 4, "num_classes": 5}
VIT = {**SIZE, "num_heads": 2, "mlp_dim": 64, "image_size": 16}
MAE_CONFIGS = {
    "mae_vit_base_patch16": {},
    "mae_vit_large_patch16": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "mae_vit_huge_patch14": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "intermediate_size": 5120,
        "patch_size": 14,
    },
    "mae_vit_nano_patch4": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "image_size": 32,
        "patch_size": 4,
        "decoder_hidden_size": 32,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 128,
    },
}
TIMM_VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 4, "num_classes": 5}


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Every weight and statistic drawn, so that no part of the model is an identity.

    Multiples of 1 / 16, which compress well.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point():
                tensor.normal_(0.0, 0.2)
            if tensor.is_floating_point():
                tensor.mul_(16).round_().div_(16)
    return model.eval()


def images(height: int, width: int) -> torch.Tensor:
    """Three images, NCHW."""
    return torch.randn(3, 3, height, width).mul(16).round().div(16)


def save(
    case: str,
    name: str,
    fields: dict,
    model: torch.nn.Module,
    x: torch.Tensor,
    weights: dict | None = None,
    **more,
) -> None:
    """Writes one golden; `weights` if not the state dict; `more` are further outputs."""
    with torch.no_grad():
        output = model(x)
    weights = model.state_dict() if weights is None else weights
    arrays = {f"weights/{k}": np.asarray(v) for k, v in weights.items()}
    np.savez_compressed(
        HERE / f"{case}.npz",
        config=json.dumps({"name": name, "fields": fields}),
        images=x.permute(0, 2, 3, 1).numpy(),
        logits=outputs_of(output).numpy(),
        **{k: v.detach().numpy() for k, v in more.items()},
        **arrays,
    )


def timm_transformers() -> None:
    """ViT in all its poolings, at non-square and other sizes; Mixer."""
    mean = {"pool": "mean", "norm_after_pool": True}
    gap = {"pool": "mean", "class_token": False}
    cases = {
        "token": ({}, {}, (16, 16)),
        "mean": (mean, {"global_pool": "avg"}, (16, 16)),
        "gap": (gap, {"global_pool": "avg", "class_token": False, "fc_norm": False}, (16, 16)),
        "wide": ({"image_size": [16, 24]}, {"img_size": (16, 24)}, (16, 24)),
        "resized": ({}, {"dynamic_img_size": True}, (12, 32)),
    }
    for case, (ours, theirs, size) in cases.items():
        model = randomise(VisionTransformer(**{"img_size": 16, **TIMM_VIT, **theirs}))
        x = images(*size)
        fields = {**VIT, **ours}
        tokens = model.forward_features(x)
        save(f"timm_vit_{case}", "vit_nano_patch4_32", fields, model, x, tokens=tokens)

    model = MlpMixer(img_size=16, patch_size=4, num_blocks=2, embed_dim=16, num_classes=5)
    fields = {**SIZE, "tokens_mlp_dim": 8, "channels_mlp_dim": 64, "image_size": 16}
    x = images(16, 16)
    tokens = randomise(model).forward_features(x)
    save("timm_mixer", "mixer_nano_patch4_32", fields, model, x, tokens=tokens)


def timm_resnets() -> None:
    """Both blocks and both norms, narrow but for timm's fixed stem; an odd image size."""
    kinds = {"basic": BasicBlock, "bottleneck": Bottleneck}
    for kind, norm in (("basic", "batch"), ("bottleneck", "batch"), ("basic", "group")):
        narrow = norm == "batch"
        dims, norm_layer = ((4, 8, 8, 8), "batchnorm2d") if narrow else ((32,) * 4, "groupnorm")
        depths = (2, 1, 1, 1) if narrow else (1, 1, 1, 1)
        model = ResNet(kinds[kind], depths, channels=dims, norm_layer=norm_layer, num_classes=5)
        fields = {"block": kind, "norm": norm, "num_blocks": depths, "stage_dims": dims}
        x = images(33, 24)
        maps = randomise(model).forward_features(x).permute(0, 2, 3, 1)
        fields["num_classes"] = 5
        save(f"timm_resnet_{kind}_{norm}", "resnet_nano", fields, model, x, tokens=maps)


def outputs_of(output) -> torch.Tensor:
    """A model's logits, or what stands for them in a transformers model without a head."""
    output = getattr(output, "pooler_output", output)
    output = getattr(output, "logits", output)
    return output.permute(0, 2, 3, 1) if output[0, 0].numel() > 1 else output.flatten(1)


def torchvision_vit() -> None:
    """Their fused projections have names of their own."""
    model = torchvision.models.VisionTransformer(16, 4, 2, 2, 16, 64, num_classes=5)
    save("torchvision_vit", "vit_nano_patch4_32", VIT, randomise(model), images(16, 16))


def huggingface() -> None:
    """ViT with a head, as a file has it, and without one, as a state dict has it; ResNet."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=64, image_size=16, patch_size=4, num_labels=5
    )
    model = randomise(transformers.ViTForImageClassification(config))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights = load_file(f"{folder}/model.safetensors")
    x = images(16, 16)
    save("huggingface_vit", "vit_nano_patch4_32", VIT, model, x, weights)
    model = randomise(transformers.ViTModel(config))
    fields = {**VIT, "num_classes": 0, "representation_dim": 16}
    save("huggingface_vit_model", "vit_nano_patch4_32", fields, model, x)

    for kind, dims in (("basic", [4, 8]), ("bottleneck", [16, 32])):
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=dims, depths=[1, 2], layer_type=kind, num_labels=5
        )
        model = randomise(transformers.ResNetForImageClassification(config))
        fields = {"block": kind, "num_blocks": [1, 2], "stage_dims": [4, 8], "stem_dim": 8}
        fields["num_classes"] = 5
        save(f"huggingface_resnet_{kind}", "resnet_nano", fields, model, images(17, 16))


class TextTransformer(torch.nn.Module):
    """`torch.nn.Transformer` with the paper's embedding, positions and logits; no last norms."""

    def __init__(self, vocab: int, dim: int, heads: int, layers: int, mlp_dim: int, **options):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab, dim)
        self.transformer = torch.nn.Transformer(
            dim, heads, layers, layers, mlp_dim, batch_first=True, **options
        )
        self.transformer.encoder.norm = self.transformer.decoder.norm = None

    def embed(self, tokens):
        dim = self.embedding.embedding_dim
        angles = np.arange(tokens.shape[1])[:, None] / 10_000 ** (np.arange(0, dim, 2) / dim)
        pairs = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, dim)
        return self.embedding(tokens) * dim**0.5 + torch.tensor(pairs, dtype=torch.float32)

    def forward(self, sources, targets, sources_valid, targets_valid):
        hidden = self.transformer(
            self.embed(sources),
            self.embed(targets),
            tgt_mask=torch.ones(targets.shape[1], targets.shape[1]).tril() == 0,
            src_key_padding_mask=~sources_valid,
            memory_key_padding_mask=~sources_valid,
            tgt_key_padding_mask=~targets_valid,
        )
        return hidden @ self.embedding.weight.T


def marian_model(vocab: int, dim: int, heads: int, layers: int, mlp_dim: int, **options):
    """A Marian translator as Helsinki-NLP's are: swish, scaled embeddings."""
    config = transformers.MarianConfig(
        vocab_size=vocab,
        d_model=dim,
        **{f"{side}_layers": layers for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": heads for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": mlp_dim for side in ("encoder", "decoder")},
        activation_function="swish",
        scale_embedding=True,
        **{"pad_token_id": vocab - 1, "decoder_start_token_id": vocab - 1, **options},
    )
    return transformers.MarianMTModel(config)


def text_models() -> dict[str, torch.nn.Module]:
    """The zoo's text models, without the fixed positions that Marian's counts as parameters."""
    marian = marian_model(58_101, 512, 8, 6, 2048)
    del marian.model.encoder.embed_positions, marian.model.decoder.embed_positions
    return {
        "transformer_nano": TextTransformer(256, 128, 4, 2, 512),
        "transformer_base": TextTransformer(37_000, 512, 8, 6, 2048),
        "transformer_big": TextTransformer(37_000, 1024, 16, 6, 4096),
        "marian": marian,
    }


def texts(vocab: int) -> dict[str, torch.Tensor]:
    """Drawn sources and targets of several lengths, padded with the last token."""
    arrays = {}
    for name, lengths in (("sources", (9, 4, 7, 1, 6)), ("targets", (6, 8, 3, 8, 7))):
        valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        tokens = torch.randint(1, vocab - 1, valid.shape).where(valid, vocab - 1)
        arrays |= {name: tokens, f"{name}_valid": valid}
    return arrays


def text_transformers() -> None:
    """Logits and searches of Marian; logits of `torch.nn.Transformer`, post- and pre-norm."""
    sizes = {"vocab_size": 24, "hidden_dim": 16, "num_heads": 2, "mlp_dim": 32}
    sizes |= {"num_encoder_layers": 2, "num_decoder_layers": 2}
    model = marian_model(24, 16, 2, 2, 32, attn_implementation="eager")
    torch.manual_seed(2)  # whose sequences differ much
    batch = texts(24)
    with torch.no_grad():
        arrays = marian_outputs(model, batch)

    def write(case: str, fields: dict, arrays: dict) -> None:
        np.savez_compressed(
            HERE / f"{case}.npz",
            config=json.dumps({**sizes, **fields}),
            **{name: np.asarray(x) for name, x in {**batch, **arrays}.items()},
        )

    fields = {"activation": "silu", "positions": "halves", "logits_bias": True}
    write("huggingface_marian", fields, arrays)
    for case, options, fields in (
        ("post_norm", {}, {}),
        ("pre_norm", {"norm_first": True, "activation": "gelu"}, {"activation": "gelu"}),
    ):
        model = TextTransformer(24, 16, 2, 2, 32, **options)
        if options:
            for side in (model.transformer.encoder, model.transformer.decoder):
                side.norm = torch.nn.LayerNorm(16)
        randomise(model)
        weights = {f"weights/{name}": x for name, x in model.state_dict().items()}
        with torch.no_grad():
            logits = model(**batch)
        fields = {**fields, "pre_norm": bool(options)}
        write(f"torch_transformer_{case}", fields, {"logits": logits, **weights})


def marian_outputs(model, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Draws a model's weights; the weights as its file has them, logits, and searches.

    The weights are such that a token is not followed by itself for ever, as random ones are.
    """
    randomise(model)
    for side in (model.model.encoder, model.model.decoder):
        side.embed_positions.weight.copy_(side.embed_positions.create_weight())
    last = model.model.decoder.layers[-1].final_layer_norm.weight
    for name, tensor in model.named_parameters():
        if "layer_norm.weight" in name and tensor is not last:
            tensor.add_(1)
        elif ".layers." in name and tensor.ndim == 2:
            tensor.mul_(2)
    last.mul_(24)
    model.final_logits_bias[0, 0] = 2.0  # of the end
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights = load_file(f"{folder}/model.safetensors")
    sources = {"attention_mask": batch["sources_valid"].long()}
    logits = model(
        input_ids=batch["sources"],
        decoder_input_ids=batch["targets"],
        decoder_attention_mask=batch["targets_valid"].long(),
        **sources,
    ).logits
    found = {}
    for beams, penalty, early in SEARCHES:
        found[f"search/{beams},{penalty},{early}"] = model.generate(
            batch["sources"],
            num_beams=beams,
            length_penalty=penalty,
            early_stopping=early,
            max_length=13,  # theirs counts the start
            bad_words_ids=[[23]],
            forced_eos_token_id=0,
            **sources,
        )
    return {"logits": logits, **found, **{f"weights/{name}": x for name, x in weights.items()}}


# Beams, length penalty, early stopping.
SEARCHES = (
    (1, 1.0, False),
    (4, 1.0, False),
    (4, 1.0, True),
    (4, 0.6, False),
    (4, 2.0, True),
    (4, -0.5, False),
    (2, 0.0, False),
)


def masked_autoencoders() -> None:
    """Hugging Face's, and the authors' own from a checkout of facebookresearch/mae in $FAIR_MAE.

    The losses are with (`loss_normalised`) and without normalised patches; they draw the mask.
    The authors' positions are as they are, Hugging Face's are drawn as everything else.
    """
    fields = {**{k: VIT[k] for k in VIT if k != "num_classes"}, "decoder_hidden_dim": 8}
    fields |= {"decoder_num_layers": 1, "decoder_num_heads": 2, "decoder_mlp_dim": 32}
    name, x = "mae_vit_nano_patch4", images(16, 16)
    config = transformers.ViTMAEConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    model = randomise(transformers.ViTMAEForPreTraining(config))
    noise = torch.rand(3, 16)
    with torch.no_grad():
        plain = model(x, noise=noise)
        config.norm_pix_loss = True
        normalised = model(x, noise=noise).loss
    weights = model.state_dict()
    # A file of transformers 4, as on the hub: attention and MLP are called as ViT's there.
    for old, new in (
        ("vit.layers", "vit.encoder.layer"),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ):
        weights = {k.replace(old, new): v for k, v in weights.items()}
    save_masked("huggingface_mae", name, fields, x, weights, plain, normalised)

    np.float = float  # what its positions are made with; numpy has dropped it
    sys.path.insert(0, os.environ["FAIR_MAE"])
    import models_mae

    sys.path.pop(0)
    for module in ("util", "util.pos_embed"):  # DETR has a package of that name as well
        del sys.modules[module]

    block = models_mae.Block
    models_mae.Block = lambda *args, qk_scale=None, **kwargs: block(*args, **kwargs)
    model = models_mae.MaskedAutoencoderViT(
        img_size=16,
        patch_size=4,
        embed_dim=16,
        depth=2,
        num_heads=2,
        decoder_embed_dim=8,
        decoder_depth=1,
        decoder_num_heads=2,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    sinusoids = {k: v.clone() for k, v in model.state_dict().items() if "pos_embed" in k}
    randomise(model).load_state_dict(sinusoids, strict=False)
    with torch.no_grad():
        loss, predicted, mask = model(x)
        model.norm_pix_loss = True
        normalised = model.forward_loss(x, predicted, mask)
    output = argparse.Namespace(loss=loss, logits=predicted, mask=mask)
    save_masked("fair_mae", name, fields, x, model.state_dict(), output, normalised)


def save_masked(case, name, fields, x, weights, output, normalised) -> None:
    """Writes the golden of a masked autoencoder: its prediction, what it saw, and both losses."""
    np.savez_compressed(
        HERE / f"{case}.npz",
        config=json.dumps({"name": name, "fields": fields}),
        images=x.permute(0, 2, 3, 1).numpy(),
        logits=output.logits.numpy(),
        visible=output.mask.numpy() == 0,
        loss=output.loss.numpy(),
        loss_normalised=normalised.numpy(),
        **{f"weights/{k}": v.numpy() for k, v in weights.items()},
    )


class NarrowSmpUnet(torch.nn.Module):
    """segmentation_models_pytorch's decoder and head on timm's ResNet, which can be narrow."""

    def __init__(self, dims: tuple[int, ...], decoder_dims: tuple[int, ...], classes: int):
        super().__init__()
        self.encoder = ResNet(BasicBlock, (1, 1, 1, 1), channels=dims)
        del self.encoder.fc
        self.decoder = UnetDecoder((3, 64, *dims), decoder_dims)
        self.segmentation_head = SegmentationHead(decoder_dims[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        net = self.encoder
        maps = [x, torch.relu(net.bn1(net.conv1(x)))]
        y = net.maxpool(maps[-1])
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            y = stage(y)
            maps.append(y)
        return self.segmentation_head(self.decoder(maps))


def smp_unet() -> None:
    """`Unet` in small."""
    dims, decoder_dims = (4, 8, 8, 8), (8, 4, 4, 4, 4)
    model = randomise(NarrowSmpUnet(dims, decoder_dims, 3))
    fields = {"backbone": "resnet_nano", "backbone_fields": {"stage_dims": dims}}
    fields |= {"decoder_dims": decoder_dims, "num_classes": 3}
    save("smp_unet", "unet_resnet34", fields, model, images(32, 32))


class TorchUNet(torch.nn.Module):
    """The paper's U-Net, written from its figure 1, and the usual changes to it."""

    def __init__(self, depth: int, dim: int, classes: int, padding: str, bilinear: bool, norm: str):
        super().__init__()
        self.padding, self.bilinear, self.norm = padding, bilinear, norm
        dims = [dim * 2**i for i in range(depth + 1)]
        self.down = torch.nn.ModuleList(
            self.block(3 if i == 0 else d // 2, d) for i, d in enumerate(dims)
        )
        self.up = torch.nn.ModuleList(self.block(2 * d, d) for d in dims[:-1])
        up_conv = self.interpolating if bilinear else self.transposed
        self.upsample = torch.nn.ModuleList(up_conv(2 * d, d) for d in dims[:-1])
        self.head = torch.nn.Conv2d(dim, classes, 1)

    def block(self, inputs: int, outputs: int) -> torch.nn.Sequential:
        norms = {"batch": torch.nn.BatchNorm2d, "group": lambda d: torch.nn.GroupNorm(d, d)}
        layers = []
        for d in (inputs, outputs):
            layers.append(
                torch.nn.Conv2d(d, outputs, 3, padding=self.padding, bias=self.norm == "none")
            )
            layers += [norms[self.norm](outputs)] if self.norm in norms else []
            layers.append(torch.nn.ReLU())
        return torch.nn.Sequential(*layers)

    def transposed(self, inputs: int, outputs: int) -> torch.nn.Module:
        return torch.nn.ConvTranspose2d(inputs, outputs, 2, stride=2)

    def interpolating(self, inputs: int, outputs: int) -> torch.nn.Module:
        larger = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        return torch.nn.Sequential(larger, torch.nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        copied = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else torch.nn.functional.max_pool2d(x, 2))
            copied.append(x)
        for i in reversed(range(len(self.up))):
            x = self.upsample[i](x)
            cut = [(a - b) // 2 for a, b in zip(copied[i].shape, x.shape, strict=True)]
            skip = copied[i][:, :, cut[2] : cut[2] + x.shape[2], cut[3] : cut[3] + x.shape[3]]
            x = self.up[i](torch.cat([skip, x], dim=1))
        return self.head(x)

    def zoo_weights(self) -> dict[str, np.ndarray]:
        """Under the zoo's own names, in its layouts."""
        weights = {}
        for part in ("down", "up"):
            for i, block in enumerate(getattr(self, part)):
                layers = [layer for layer in block if next(layer.parameters(), None) is not None]
                kinds = (
                    ["conv1", "conv2"]
                    if self.norm == "none"
                    else ["conv1", "norm1", "conv2", "norm2"]
                )
                for kind, layer in zip(kinds, layers, strict=True):
                    weights |= self._leaves(f"{part}_{i}/{kind}", layer)
        for i, layer in enumerate(self.upsample):
            if self.bilinear:
                weights |= self._leaves(f"upsample_{i}/proj", layer[1], dense=True)
            else:
                kernel = layer.weight.permute(0, 2, 3, 1).flatten(1)  # c, 2 2 d
                weights[f"params/upsample_{i}/proj/kernel"] = kernel
                weights[f"params/upsample_{i}/bias"] = layer.bias
        weights |= self._leaves("head", self.head, dense=True)
        return {name: x.detach().contiguous().numpy() for name, x in weights.items()}

    def _leaves(self, path: str, layer: torch.nn.Module, dense: bool = False) -> dict:
        state = layer.state_dict()
        if "norm" in path:
            leaves = {f"params/{path}/scale": state["weight"]}
            if self.norm == "batch":
                leaves[f"batch_stats/{path}/mean"] = state["running_mean"]
                leaves[f"batch_stats/{path}/var"] = state["running_var"]
        else:
            kernel = state["weight"].permute(2, 3, 1, 0)
            leaves = {f"params/{path}/kernel": kernel[0, 0] if dense else kernel}
        return leaves | ({f"params/{path}/bias": state["bias"]} if "bias" in state else {})


def torch_unets() -> None:
    """The paper's form, and the same-padded one with each norm and upsampling."""
    for padding, upsampling, norm, size in (
        ("valid", "transposed", "none", (52, 44)),
        ("same", "bilinear", "batch", (12, 20)),
        ("same", "transposed", "group", (12, 20)),
    ):
        fields = {"depth": 2, "base_dim": 4, "padding": padding, "upsampling": upsampling}
        fields |= {"norm": norm, "num_classes": 3}
        model = randomise(TorchUNet(2, 4, 3, padding, upsampling == "bilinear", norm))
        weights = model.zoo_weights()
        save(f"torch_unet_{padding}_{norm}", "unet", fields, model, images(*size), weights)


def vision_transformer() -> None:
    """The npz layouts of big_vision and of vision_transformer, as timm reads them."""
    d, block = (16,), "Transformer/encoderblock_{}/"
    for case, tokens, numbers in (
        ("big_vision_vit", 16, ("0", "0", "1", "0")),
        ("vision_transformer_vit", 17, ("0", "1", "2", "3")),
    ):
        shapes = {"embedding/kernel": (4, 4, 3, 16), "embedding/bias": d, "cls": (1, 1, 16)}
        name = "pos_embedding" if tokens == 16 else "Transformer/posembed_input/pos_embedding"
        shapes[name] = (1, tokens, 16)
        for i in range(2):
            first, attention, second, mlp = (block.format(i) + n for n in ("",) * 4)
            first += f"LayerNorm_{numbers[0]}/"
            attention += f"MultiHeadDotProductAttention_{numbers[1]}/"
            second += f"LayerNorm_{numbers[2]}/"
            mlp += f"MlpBlock_{numbers[3]}/"
            for part in ("query", "key", "value"):
                shapes |= {
                    f"{attention}{part}/kernel": (16, 2, 8),
                    f"{attention}{part}/bias": (2, 8),
                }
            shapes |= {f"{attention}out/kernel": (2, 8, 16), f"{attention}out/bias": d}
            shapes |= {f"{norm}{leaf}": d for norm in (first, second) for leaf in ("scale", "bias")}
            shapes |= {f"{mlp}Dense_0/kernel": (16, 64), f"{mlp}Dense_0/bias": (64,)}
            shapes |= {f"{mlp}Dense_1/kernel": (64, 16), f"{mlp}Dense_1/bias": d}
        shapes |= {f"Transformer/encoder_norm/{leaf}": d for leaf in ("scale", "bias")}
        shapes |= {"head/kernel": (16, 5), "head/bias": (5,)}
        prefix = "params/" if tokens == 16 else "opt/target/"
        weights = {
            prefix + name: (torch.randn(shape) * 3).round().div(16).numpy()
            for name, shape in shapes.items()
        }
        no_position = {"no_embed_class": True} if tokens == 16 else {}
        model = VisionTransformer(img_size=16, **TIMM_VIT, **no_position).eval()
        with tempfile.TemporaryDirectory() as folder:
            np.savez(f"{folder}/weights.npz", **weights)
            model.load_pretrained(f"{folder}/weights.npz")
        save(case, "vit_nano_patch4_32", VIT, model, images(16, 16), weights)


DETR = {"num_classes": 4, "num_queries": 6, "hidden_dim": 32, "num_heads": 2, "mlp_dim": 32}
DETR |= {"num_encoder_layers": 2, "num_decoder_layers": 2}


def padded_batch(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of different sizes, NCHW with zeros around them, and True on their pixels."""
    x, valid = torch.zeros(2, 3, height, width), torch.zeros(2, height, width, dtype=torch.bool)
    for i, (rows, columns) in enumerate([(height * 3 // 4, width), (height, width * 2 // 3)]):
        x[i, :, :rows, :columns] = images(rows, columns)[0]
        valid[i, :rows, :columns] = True
    return x, valid


def randomise_detr(model: torch.nn.Module) -> torch.nn.Module:
    """As `randomise`, with norms around the identity, so that images and queries still differ."""
    with torch.no_grad():
        for name, tensor in randomise(model).state_dict().items():
            if name.endswith("weight") and tensor.ndim == 1:
                tensor.add_(1)
            elif "query" in name:
                tensor.mul_(5)
    return model


def save_detr(case: str, fields: dict, model: torch.nn.Module, weights: dict | None = None) -> None:
    """Writes the golden of a DETR of either peer."""
    x, valid = padded_batch(34, 41)
    with torch.no_grad():
        if isinstance(model, transformers.PreTrainedModel):
            output = dict(model(x, valid.long()))
        else:
            from util.misc import NestedTensor

            output = model(NestedTensor(x, ~valid))
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
    weights = model.state_dict() if weights is None else weights
    np.savez_compressed(
        HERE / f"{case}.npz",
        config=json.dumps({"name": "detr_resnet50", "fields": {**DETR, **fields}}),
        images=x.permute(0, 2, 3, 1).numpy(),
        valid=valid.numpy(),
        **{k: v.numpy() for k, v in arrays.items()},
        **{f"weights/{k}": np.asarray(v) for k, v in weights.items()},
    )


def fair_modules() -> None:
    """Makes the imports of facebookresearch/detr work that its models do not need."""
    for name in ("panopticapi", "panopticapi.utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["panopticapi.utils"].__dict__.update(id2rgb=None, rgb2id=None)
    torchvision.__version__ = "1.0"  # it takes 0.2x for 0.2


def fair_detr() -> None:
    """The authors' own code around a narrow ResNet: post-norm, and dilated with pre-norm."""
    fair_modules()
    from models.backbone import BackboneBase, FrozenBatchNorm2d, Joiner
    from models.detr import DETR as Detr
    from models.position_encoding import PositionEmbeddingSine
    from models.transformer import Transformer
    from torchvision.models._utils import IntermediateLayerGetter

    cases = {
        "fair_detr": (BasicBlock, (1, 2), 32, 8, False),
        "fair_detr_dc5": (Bottleneck, (1, 1, 2), 8, 16, True),
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
        save_detr(case, {"backbone_fields": body, "pre_norm": pre_norm, **layers}, model)


def huggingface_detr() -> None:
    """Detection with a file's names, and panoptic segmentation with a state dict's."""
    widths = {f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")}
    cases = {
        "huggingface_detr": (transformers.DetrForObjectDetection, 2, ([4, 8], [1, 2])),
        "huggingface_detr_panoptic": (
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
        save_detr(case, fields, model, weights)


def torch_files() -> None:
    """Files of torch.save in both formats: dtypes, views, a training script's wrapping."""
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


def positions() -> None:
    """timm's resampling of learned positions, up, down and to another shape."""
    grids = {"up": (7, 9), "down": (3, 2), "mixed": (2, 8)}
    learned = torch.randn(1, 25, 8)
    arrays = {"learned": learned[0].reshape(5, 5, 8)}
    for case, grid in grids.items():
        resized = resample_abs_pos_embed(learned, list(grid), num_prefix_tokens=0)
        arrays[case] = resized[0].reshape(*grid, 8)
    np.savez_compressed(HERE / "timm_positions.npz", **arrays)


def parameter_counts() -> None:
    """Of every model of timm that the zoo has, and of those that only the zoo names."""
    vit = r"vit_(tiny|small|base|large|huge|giant|gigantic)_patch\d+(_gap)?_\d+"
    names = re.compile(rf"{vit}|mixer_[sbl]\d+_224|resnet(18|34|50|101|152|50_gn)")
    with torch.device("meta"):
        models = {
            name: timm.create_model(name, num_classes=1000)
            for name in timm.list_models()
            if names.fullmatch(name)
        }
        nano = {"img_size": 32, "patch_size": 4, "embed_dim": 64}
        models["vit_nano_patch4_32"] = VisionTransformer(**nano, depth=4, num_heads=4)
        models["mixer_nano_patch4_32"] = MlpMixer(**nano, num_blocks=4)
        models["resnet_nano"] = ResNet(BasicBlock, (1, 1, 1, 1), channels=(16, 32, 64, 128))
        for name, config in MAE_CONFIGS.items():
            model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**config))
            del model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed  # fixed
            models[name] = model
        models["mixer_h14_224"] = MlpMixer(patch_size=14, num_blocks=32, embed_dim=1280)
        for name in ("resnet34", "resnet50"):
            models[f"unet_{name}"] = smp.Unet(name, encoder_weights=None, classes=2)
        dims = (16, 32, 64, 128), (64, 32, 32, 16, 16)
        models["unet_resnet_nano"] = NarrowSmpUnet(*dims, 2)
        models["unet"] = TorchUNet(4, 64, 2, "valid", False, "none")
        models["unet_same"] = TorchUNet(4, 64, 2, "same", False, "batch")
        models["unet_nano"] = TorchUNet(2, 32, 2, "same", False, "batch")
        models |= detr_models() | text_models()
    counts = {name: count(model) for name, model in sorted(models.items())}
    (HERE / "parameter_counts.json").write_text(json.dumps(counts, indent=2) + "\n")


def count(model: torch.nn.Module) -> int:
    """Parameters; the scales and biases of frozen norms, which torch has as buffers, too."""
    frozen = [x for name, x in model.named_buffers() if name.endswith(("weight", "bias"))]
    return sum(x.numel() for x in (*model.parameters(), *frozen))


def detr_models() -> dict[str, torch.nn.Module]:
    """The authors' own models, and their code around a small ResNet of Hugging Face's."""
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
    """Names and shapes of the tensors in the authors' own checkpoints of DETR."""
    with torch.device("meta"):
        models = detr_models()
    del models["detr_nano"]
    names = {
        model: {name: list(tensor.shape) for name, tensor in state.state_dict().items()}
        for model, state in models.items()
    }
    text = json.dumps(names, separators=(",", ":"))
    (HERE / "fair_detr_names.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def data_transforms() -> None:
    """timm's and torchvision's image transforms on one small picture, and boxes they draw."""
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
                    continue  # to 0 bits, on which Pillow 13 raises
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
    """How timm prepares the images of the models that it has."""
    names = json.loads((HERE / "parameter_counts.json").read_text())
    configs = {name: timm.get_pretrained_cfg(name) for name in names}
    found = {
        name: [
            *config.input_size[1:],
            config.mean,
            config.std,
            config.interpolation,
            config.crop_pct,
        ]
        for name, config in configs.items()
        if config is not None
    }
    (HERE / "preprocessing.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    random.seed(0)
    torch.manual_seed(0)
    data_transforms()
    torch.manual_seed(0)
    timm_transformers()
    timm_resnets()
    torchvision_vit()
    huggingface()
    masked_autoencoders()
    vision_transformer()
    torch_files()
    positions()
    torch.manual_seed(0)
    fair_detr()
    huggingface_detr()
    fair_names()
    torch.manual_seed(0)
    smp_unet()
    torch_unets()
    parameter_counts()
    preprocessing()
    text_transformers()
