import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from train.recipes.mlp_mixer import mixer_b16_imagenet
from train.recipes.vit import vit_s16_imagenet
from zoo.data import ClassificationData, DataError, eval_batches, open_classification, train_batches

replace = dataclasses.replace


def test_the_config_survives_json():
    config = ClassificationData(source="folder:x", image_size=(32, 48), mixup=0.2)
    fields = json.loads(json.dumps(dataclasses.asdict(config)))
    assert fields["image_size"] == [32, 48]
    assert set(fields) == {field.name for field in dataclasses.fields(config)}


def test_defaults_are_digits_at_their_own_size(digits):
    train, test = (open_classification(digits, split) for split in ("train", "eval"))
    assert (len(train), len(test)) == (1257, 540)
    assert train.num_classes == 10
    assert train.class_names == tuple("0123456789")
    batch = next(train_batches(train, 32, seed=0))
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "image": ((32, 8, 8, 3), "uint8"),
        "label": ((32,), "int32"),
        "valid": ((32,), "bool"),
    }
    assert batch["image"].max() == 255


def test_unaugmented_training_equals_evaluation(digits):
    config = replace(digits, image_size=(20, 20), interpolation="bicubic")
    raw = open_classification(digits, "eval").source[3]
    results = [
        open_classification(config, split).transform(raw, np.random.default_rng(0))["image"]
        for split in ("train", "eval")
    ]
    assert results[0].shape == (20, 20, 3)
    np.testing.assert_array_equal(*results)


def test_a_folder_gives_the_images_that_pillow_gives(folder):
    config = ClassificationData(
        source=f"folder:{folder}", image_size=(24, 32), interpolation="bicubic", threads=2
    )
    (batch,) = eval_batches(open_classification(config, "eval"), 6)
    assert batch["label"].tolist() == [0, 0, 1, 1, 0, 0]
    assert batch["valid"].tolist() == [True] * 4 + [False] * 2
    assert not batch["image"][4:].any()
    image = Image.open(folder / "val" / "dog" / "1.jpg")  # 43 x 48
    whole = np.asarray(image.resize((32, 36), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(batch["image"][3], whole[6:30])


AUGMENTED = {
    "train_crop": "random_resized",
    "image_size": (24, 24),
    "flip": True,
    "randaugment_layers": 2,
    "randaugment_std": 0.5,
    "erase_probability": 0.3,
}


def test_augmentation_is_random_and_repeatable_for_any_number_of_threads(folder):
    config = ClassificationData(source=f"folder:{folder}", **AUGMENTED)
    runs = []
    for threads in (0, 16):
        batches = train_batches(
            open_classification(replace(config, threads=threads), "train"), 12, seed=5
        )
        runs.append([next(batches)["image"] for _ in range(3)])
    np.testing.assert_array_equal(*runs)
    assert len({image.tobytes() for image in np.concatenate(runs[0])}) == 36


@pytest.mark.parametrize("field", ["flip", "randaugment_layers", "erase_probability"])
def test_each_augmentation_is_wired(field, folder):
    plain = ClassificationData(source=f"folder:{folder}", image_size=(24, 24))
    config = replace(plain, **{field: 1})
    raw = open_classification(plain, "train").source[0]
    results = set()
    for seed in range(20):
        example = open_classification(config, "train").transform(raw, np.random.default_rng(seed))
        results.add(example["image"].tobytes())
    assert len(results) >= 2


def test_bad_images_stop_with_their_path_or_are_left_out(folder):
    bad = folder / "val" / "cat" / "0.jpg"
    bad.write_bytes(bad.read_bytes()[:-100])
    config = ClassificationData(source=f"folder:{folder}", threads=2)
    with pytest.raises(DataError, match=r"val/cat/0\.jpg: not a readable image"):
        list(eval_batches(open_classification(config, "eval"), 2))
    dataset = open_classification(replace(config, on_error="skip"), "eval")
    batches = list(eval_batches(dataset, 2))
    assert [batch["valid"].tolist() for batch in batches] == [[False, True], [True, True]]
    assert not batches[0]["image"][0].any()
    assert dataset.skipped == 1


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("crop_fraction", 0.0, "in 0..1"),
        ("crop_scale", (0.5, 0.1), "ascending"),
        ("image_size", (0, 8), "positive"),
        ("randaugment_magnitude", 11.0, "in 0..10 with randaugment_style=timm"),
        ("erase_probability", 1.5, "in 0..1"),
        ("workers", -1, "0 or more"),
    ],
)
def test_impossible_values_are_refused(field, value, rule, digits):
    with pytest.raises(DataError, match=rf"data\.{field} is .*, but must be .*{rule}"):
        open_classification(replace(digits, **{field: value}), "train")


def test_big_visions_magnitudes_go_further(folder):
    source = {"source": f"folder:{folder}", "randaugment_style": "big_vision"}
    config = ClassificationData(**source, randaugment_layers=2, randaugment_magnitude=15)
    assert next(train_batches(open_classification(config, "train"), 6, seed=0))["valid"].all()
    with pytest.raises(DataError, match=r"in 0\.\.30 with randaugment_style=big_vision"):
        open_classification(replace(config, randaugment_magnitude=31), "train")


@pytest.mark.parametrize("recipe", [vit_s16_imagenet, mixer_b16_imagenet])
def test_the_imagenet_recipes_data_can_be_drawn(recipe, folder):
    """Draws so many examples that every operation of RandAugment is applied."""
    config = replace(recipe().data, source=f"folder:{folder}", train_split="train", threads=2)
    dataset = open_classification(config, "train")
    raw = dataset.source[0]
    for seed in range(100):
        image = dataset.transform(raw, np.random.default_rng(seed))["image"]
        assert image.shape == (224, 224, 3)
    minival = open_classification(replace(config, eval_split="train[50%:]"), "eval")
    assert len(minival) == 3


def test_imagenet_steps_and_rates_are_big_visions():
    vit, mixer = vit_s16_imagenet(), mixer_b16_imagenet()
    assert (vit.steps, mixer.steps) == (111_477, 92_897)
    assert (vit.data.randaugment_magnitude, mixer.data.randaugment_magnitude) == (10, 15)
    assert {config.data.eval_split for config in (vit, mixer)} == {"train[99%:]"}
    assert mixer.optim.learning_rate * mixer.optim.final_fraction == pytest.approx(1e-8)


def test_labels_are_positions_among_the_classes_of_a_run(folder, digits):
    config = ClassificationData(source=f"folder:{folder}", threads=2)
    names = ("ant", "dog", "emu", "cat")
    dataset = open_classification(config, "eval", names)
    assert dataset.class_names == names
    (batch,) = eval_batches(dataset, 4)
    assert batch["label"].tolist() == [3, 3, 1, 1]
    with pytest.raises(
        DataError, match=r"val: class folder cat, dog is none .* these are ant, eel"
    ):
        open_classification(config, "eval", ("ant", "eel"))
    with pytest.raises(DataError, match=r"has the classes 0, 1, .* other classes: 1, 0"):
        open_classification(digits, "eval", ("1", "0"))
    assert len(open_classification(digits, "eval", tuple("0123456789"))) == 540
