import pytest

from train import doctor
from train.checks import CHECKS
from train.recipes import RECIPES

DIGITS = ("--model.num_layers=1", "--batch_size=16", "--data.threads=2")


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_has_checks(recipe):
    assert type(RECIPES[recipe]().task) in CHECKS


@pytest.mark.parametrize(
    ("recipe", "truth"), [("vit_digits", "top1 1.0000"), ("mae_digits", "a batch with its targets")]
)
def test_digits_are_well(tmp_path, capsys, recipe, truth):
    arguments = [recipe, *DIGITS, "--overfit_steps=0", f"--workdir={tmp_path}"]
    assert doctor.main(arguments) == 0
    output = capsys.readouterr().out
    assert truth in output and "all is well" in output
    assert (tmp_path / "targets.png").stat().st_size > 5_000


def test_pairs_of_texts_are_well(tmp_path, capsys):
    arguments = ["transformer_number_words", "--overfit_steps=0", f"--workdir={tmp_path}"]
    assert doctor.main(arguments) == 0
    assert "exact_match 1.0000" in capsys.readouterr().out
    assert (tmp_path / "targets.png").stat().st_size > 5_000


def test_texts_of_both_splits_are_a_problem(tmp_path, capsys):
    for split, first in (("train", 0), ("test", 95)):
        lines = [f"text {i}\tText {i}\n" for i in range(first, first + 100)]
        (tmp_path / f"{split}.tsv").write_text("".join(lines))
    data = (f"--data.source=pairs:{tmp_path}", "--data.vocab_size=300")
    arguments = ["transformer_number_words", *data, "--overfit_steps=0", f"--workdir={tmp_path}"]
    assert doctor.main(arguments) == 1
    assert "5 sources of eval are in train, too" in capsys.readouterr().out


def test_a_class_without_images_is_a_problem(tmp_path, capsys):
    few = "--data.eval_split=test[:3]"  # cannot have all ten digits
    arguments = ["vit_digits", *DIGITS, few, "--overfit_steps=0", f"--workdir={tmp_path}"]
    assert doctor.main(arguments) == 1
    assert "has no image in eval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no recipe 'nothing'"),
        (["vit_digits", "--overfit_steps=many"], "--overfit_steps=many is no number of steps"),
        (["vit_digits", "--colour=red"], "no field 'colour'"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, message):
    assert doctor.main([*arguments, f"--workdir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
