import pytest

import train.doctor
from tests.train.conftest import TINY
from train.__main__ import main
from train.config import override
from train.fields import described_fields
from train.recipes import RECIPES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vit_digit"], "no recipe 'vit_digit'; similar are vit_digits"),
        (["vit_digits", "--stepz=3"], "--stepz: no field 'stepz'; there are accumulate"),
        (["vit_digits", "--steps=many"], "--steps: 'many' is not an integer"),
        (["vit_digits", "--model.name=vit"], "--model.name: no model 'vit'"),
        (["vit_digits", "--data.source=folder:nowhere"], "nowhere"),
        (["vit_digits", "--data.source=digit"], "digit"),
        (["vit_digits", "--data.train_split=trian"], "trian"),
        (["vit_digits", "--model.patch_size=3"], "image of 8 x 8 px does not divide into patches"),
        (["vit_digits", "--model.num_heads=3"], "64 features do not divide into 3 heads"),
        (["vit_digits", "--model.class_token=false"], "pool='token' needs class_token=True"),
        (["vit_digits", "--model.name=mixer_nano_patch4_32", "--model.num_heads=2"], "num_heads"),
        (["vit_digits", "--workdir="], "--workdir is empty"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    assert main([arguments[0], f"--workdir={tmp_path / 'run'}", *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["vit_digits", f"--workdir={tmp_path / 'file'}", *TINY, "--steps=9"]) == 2
    assert capsys.readouterr().err.endswith("File exists\n")


def test_a_class_folder_without_images_is_named(tmp_path, capsys):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
    arguments = [f"--data.source=folder:{tmp_path / 'pets'}", f"--workdir={tmp_path / 'run'}"]
    assert main(["vit_digits", *arguments]) == 2
    error = capsys.readouterr().err
    assert "cat" in error and error.count("\n") == 1


def test_a_checkpoint_of_another_model_is_refused(tmp_path, capsys):
    arguments = ["vit_digits", f"--workdir={tmp_path / 'run'}", *TINY, "--steps=9"]
    assert main(arguments) == 0
    assert main([*arguments, "--model.num_layers=2"]) == 2
    error = capsys.readouterr().err
    assert "holds a run with model.fields.num_layers=1, not 2" in error
    assert error.count("\n") == 1


def test_recipes_are_listed(capsys):
    assert main([]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in RECIPES)


def test_each_field_is_listed_with_its_meaning_and_choices(capsys):
    for command in (main, train.doctor.main):
        assert command(["vit_digits", "--help"]) == 0
        output = " ".join(capsys.readouterr().out.split())
        for text in (
            "--parallel=data How a step is spread over devices: data splits the batch,",
            "one replica on each device. (one of data, fsdp, pmap)",
            "--data.flip=false Mirror training images left and right with probability 1/2. (true",
            "--optim.clip_norm=",
            "(one of adamw, sgd, lamb, lars, adafactor, muon)",
            "--model.drop_path=0.0",
            "--steps=",
        ):
            assert text in output


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_each_field_of_each_recipe_has_a_meaning(recipe):
    described = list(described_fields(RECIPES[recipe]()))
    assert [path for path, _, text in described if not text or text.startswith((" ", "("))] == []
    arguments = [f"--{path}={value}" for path, value, _ in described]
    decided = ("--model.backbone_fields=", "--model.preprocessing=")
    assert override(RECIPES[recipe](), [a for a in arguments if not a.startswith(decided)])


def test_the_fields_of_a_recipe_are_listed(capsys):
    assert main(["vit_digits", "--help"]) == 0
    output = capsys.readouterr().out
    assert "--optim.learning_rate=0.002\n" in output
    assert "--model.patch_size=2\n" in output
    assert "--data.source=digits" in output
