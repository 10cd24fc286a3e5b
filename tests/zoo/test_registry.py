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
