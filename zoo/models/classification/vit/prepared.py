"""How images are prepared for each source's ViT: functions of a model and its file's name."""

from flax import linen as nn

from zoo.types import Preprocessing

_HALF = (0.5, 0.5, 0.5)


def timm(model: nn.Module, file: str) -> Preprocessing | None:
    """As `mae` for MAE's fine-tuned models, which have timm's names; else as for the variant.

    A model with a norm after the pooling and a class token is one of MAE's: timm's own models with
    such a norm have no class token.
    """
    return mae(model, file) if model.norm_after_pool and model.class_token else None


def mae(model: nn.Module, file: str) -> Preprocessing:
    """As in facebookresearch/mae, fine-tuned or not: above 224 pixels nothing is cropped."""
    return Preprocessing((224, 224), crop_fraction=1.0 if _side(model) > 224 else 224 / 256)


def torchvision(model: nn.Module, file: str) -> Preprocessing:
    """The transforms of torchvision's weights.

    Nothing is cropped for weights from SWAG. They are recognised by ``swag`` in the file's name, by
    images above 224 pixels, or by patches of 14 pixels: ViT-H/14 has only weights from SWAG.
    """
    if "swag" in file or _side(model) > 224 or model.patch_size == 14:
        return Preprocessing((224, 224), crop_fraction=1.0)
    resized = 242 if (model.hidden_dim, model.patch_size) == (1024, 16) else 256
    return Preprocessing((224, 224), interpolation="bilinear", crop_fraction=224 / resized)


def huggingface(model: nn.Module, file: str) -> Preprocessing:
    """As in `ViTImageProcessor`, which does not crop and does not keep the aspect ratio."""
    return Preprocessing((224, 224), _HALF, _HALF, "bilinear", 1.0, "squash")


def _side(model: nn.Module) -> int:
    """The longer side of a model's images."""
    size = model.image_size
    return size if isinstance(size, int) else max(size)
