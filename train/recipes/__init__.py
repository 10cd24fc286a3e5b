"""Recipes: plain functions that return a run's configuration."""

from collections.abc import Callable

from train.config import Config
from train.recipes.detr import (
    detr_digit_scenes,
    detr_digit_scenes_short,
    detr_finetune,
    detr_resnet50_coco,
    detr_resnet50_coco_500,
)
from train.recipes.digits import mixer_digits, vit_digits
from train.recipes.finetune import vit_b16_finetune
from train.recipes.imagenet import mixer_b16_imagenet, vit_s16_imagenet
from train.recipes.mae import (
    mae_digits,
    mae_finetune_base_imagenet,
    mae_finetune_digits,
    mae_finetune_large_imagenet,
    mae_linear_base_imagenet,
    mae_linear_digits,
    mae_vit_base_imagenet,
    mae_vit_large_imagenet,
)
from train.recipes.segmentation import unet_digit_scenes, unet_folder, unet_oxford_pets
from train.recipes.translation import (
    marian_finetune,
    transformer_number_words,
    transformer_pairs,
    transformer_wmt14_en_de,
)

RECIPES: dict[str, Callable[[], Config]] = {
    "detr_digit_scenes": detr_digit_scenes,
    "detr_digit_scenes_short": detr_digit_scenes_short,
    "detr_finetune": detr_finetune,
    "detr_resnet50_coco": detr_resnet50_coco,
    "detr_resnet50_coco_500": detr_resnet50_coco_500,
    "mae_digits": mae_digits,
    "mae_finetune_base_imagenet": mae_finetune_base_imagenet,
    "mae_finetune_digits": mae_finetune_digits,
    "mae_finetune_large_imagenet": mae_finetune_large_imagenet,
    "mae_linear_base_imagenet": mae_linear_base_imagenet,
    "mae_linear_digits": mae_linear_digits,
    "mae_vit_base_imagenet": mae_vit_base_imagenet,
    "mae_vit_large_imagenet": mae_vit_large_imagenet,
    "marian_finetune": marian_finetune,
    "mixer_b16_imagenet": mixer_b16_imagenet,
    "mixer_digits": mixer_digits,
    "transformer_number_words": transformer_number_words,
    "transformer_pairs": transformer_pairs,
    "transformer_wmt14_en_de": transformer_wmt14_en_de,
    "unet_digit_scenes": unet_digit_scenes,
    "unet_folder": unet_folder,
    "unet_oxford_pets": unet_oxford_pets,
    "vit_b16_finetune": vit_b16_finetune,
    "vit_digits": vit_digits,
    "vit_s16_imagenet": vit_s16_imagenet,
}
