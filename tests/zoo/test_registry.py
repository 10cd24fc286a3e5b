import numpy as np
import pytest

import zoo
from zoo.types import InputError


def test_names_are_sorted_and_matched():
    names = zoo.list_models()
    assert names == sorted(names)
    assert zoo.list_models("mixer_b*") == ["mixer_b16_224", "mixer_b32_224"]
    assert zoo.list_models("nothing") == []


def test_fields_replace_the_variants():
    model = zoo.create("vit_tiny_patch16_224", num_classes=7, image_size=(32, 64))
    assert (model.num_classes, model.image_size, model.hidden_dim) == (7, (32, 64), 192)


def test_unknown_model_lists_near_names():
    with pytest.raises(InputError, match=r"no model 'vit_bse_patch16_224'.*vit_base_patch16_224"):
        zoo.create("vit_bse_patch16_224")
    with pytest.raises(InputError, match=r"no model 'resnet_50'"):
        zoo.preprocessing("resnet_50")


def test_unknown_field_lists_fields():
    with pytest.raises(TypeError, match=r"vit_tiny.*no field 'classes'.*num_classes"):
        zoo.create("vit_tiny_patch16_224", classes=7)
    with pytest.raises(TypeError, match="no field 'parent'"):
        zoo.create("vit_tiny_patch16_224", parent=None)


def test_preprocessing():
    prepared = zoo.preprocessing("vit_base_patch16_384")
    assert prepared.size == (384, 384)
    assert prepared.mean == prepared.std == (0.5, 0.5, 0.5)
    assert (prepared.interpolation, prepared.crop_fraction) == ("bicubic", 1.0)
    assert zoo.preprocessing("vit_base_patch16_224").crop_fraction == 0.9


VIT, MAE = "vit_nano_patch4_32", "mae_vit_nano_patch4"


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (VIT, {"num_classes": -1}, "num_classes is -1, but must be a whole number of at least 0"),
        (VIT, {"num_classes": 2.5}, "num_classes is 2.5, but must be a whole number"),
        (VIT, {"num_classes": None}, "num_classes is None, but"),
        (VIT, {"num_layers": True}, "num_layers is True, but must be a whole number of at least 0"),
        (VIT, {"drop_path": 2.0}, "drop_path is 2.0, but must be a number in 0..1 and below 1"),
        (VIT, {"dropout": float("nan")}, "dropout is nan, but"),
        (VIT, {"norm_epsilon": -1.0}, "norm_epsilon is -1.0, but must be a number of at least 0"),
        (VIT, {"image_size": 30}, "image of 30 x 30 px does not divide into patches of 4 x 4 px"),
        (VIT, {"image_size": (32, 30)}, "image of 32 x 30 px does not divide into patches"),
        (VIT, {"image_size": "32"}, "image_size is '32', but must be a whole number of at least 1"),
        (VIT, {"image_size": (32, 32, 3)}, "or a tuple of 2 whole numbers of at least 1"),
        (VIT, {"patch_size": 0}, "patch_size is 0, but"),
        (VIT, {"num_heads": 3}, "num_heads is 3: 64 features do not divide into 3 heads"),
        (VIT, {"num_heads": 0}, "num_heads is 0, but must be a whole number of at least 1"),
        (VIT, {"pool": "avg"}, "pool 'avg' is not one of token, mean"),
        (VIT, {"class_token": "yes"}, "class_token is 'yes', but must be True or False"),
        (VIT, {"dtype": "float33"}, "dtype is 'float33', but must be a dtype of floating"),
        (VIT, {"representation_dim": 0}, "representation_dim is 0, but .* or None"),
        (MAE, {"mask_ratio": 1.0}, "mask_ratio is 1.0, but must be a number in 0..1 and below 1"),
        (MAE, {"decoder_num_heads": 5}, "32 features do not divide into 5 heads"),
        ("resnet_nano", {"num_blocks": 3}, "num_blocks is 3, but must be a tuple of whole numbers"),
        (
            "resnet_nano",
            {"num_groups": 0},
            "num_groups is 0, but must be a whole number of at least",
        ),
        ("resnet_nano", {"norm": "bn"}, "norm 'bn' is not one of batch, frozen, group"),
        ("unet_nano", {"depth": 0}, "depth is 0, but"),
        ("transformer_nano", {"vocab_size": -1}, "vocab_size is -1, but"),
        ("detr_nano", {"num_queries": 0}, "num_queries is 0, but"),
        ("detr_nano", {"backbone": "resnet_5"}, "no backbone 'resnet_5'"),
        ("detr_nano", {"backbone_fields": {"drop_path": 3}}, "resnet_nano: drop_path is 3, but"),
    ],
)
def test_values_are_checked(name, fields, message):
    with pytest.raises(InputError, match=message) as error:
        zoo.create(name, **fields)
    assert "\n" not in str(error.value)


def test_values_that_are_allowed():
    assert zoo.create(VIT, image_size=[32, 64]).image_size == (32, 64)
    assert zoo.create(VIT, num_layers=0, num_classes=np.int64(0), drop_path=0.0).num_layers == 0
    for name in zoo.list_models():
        zoo.create(name)


@pytest.mark.parametrize(
    ("name", "field", "message"),
    [
        (VIT, "img_size", "it is image_size here"),
        (VIT, "drop_path_rate", "it is drop_path here"),
        (VIT, "global_pool", "it is pool here"),
        (VIT, "embed_dim", "it is hidden_dim here"),
        (VIT, "depth", "it is num_layers here"),
        (VIT, "pretrained", r"zoo\.load\(NAME, FILE\) loads weights"),
        (VIT, "in_chans", "images have three channels"),
        ("resnet_nano", "global_pool", "num_classes=0 gives pooled features"),
        ("resnet_nano", "drop_rate", "it has no dropout"),
        ("resnet_nano", "img_size", "there are block, .*num_classes"),
    ],
)
def test_names_of_timm(name, field, message):
    with pytest.raises(TypeError, match=rf"{name}: no field '{field}'.*{message}"):
        zoo.create(name, **{field: 1})
