import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

import zoo
from eval.translation import TranslationResult, evaluator, main, signatures
from train.__main__ import main as train_main
from zoo.data import TranslationData, open_translation
from zoo.losses.translation import token_cross_entropy
from zoo.text.tokenizers import open_tokenizer
from zoo.text.translator import Translator, open_translator
from zoo.weights.run import average_run, read_run

TINY = (
    "--model.num_encoder_layers=1",
    "--model.num_decoder_layers=1",
    "--model.hidden_dim=16",
    "--model.mlp_dim=32",
    "--model.num_heads=2",
    "--model.dropout=0",
    "--data.vocab_size=270",
    "--data.buckets=16",
    "--data.bundle_tokens=32",
    "--batch_size=8",
    "--optim.warmup_steps=2",
)


def test_figures_are_the_definitions():
    references = ["the cat sat on the mat", "two dogs bark at night", "a"]
    hypotheses = ["the cat sat on a mat", "two dogs bark at night", "b"]
    result = TranslationResult(
        references,
        references,
        hypotheses,
        np.asarray([3.0, 1, 2]),
        np.asarray([5, 5, 0]),
        np.full(3, 6),
    )
    figures = result.figures()
    assert figures["exact_match"] == pytest.approx(1 / 3)
    assert figures["token_accuracy"] == pytest.approx(10 / 18)
    assert figures["perplexity"] == pytest.approx(math.exp(6 / 18))
    expected = sacrebleu.corpus_bleu(hypotheses, [references])
    assert figures["BLEU"] == expected.score
    assert figures["chrF"] == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert signatures()["BLEU"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of a text and the same text backwards."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 9)):
        words = [rng.choice(list("abcd"), rng.integers(2, 12)).tolist() for _ in range(count)]
        lines = [f"{' '.join(w)}\t{' '.join(w[::-1])}\n" for w in words]
        (folder / f"{split}.tsv").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    """A run of six steps."""
    workdir = tmp_path_factory.mktemp("run")
    arguments = [f"--workdir={workdir}", f"--data.source=pairs:{pairs}", *TINY]
    steps = ["--steps=6", "--checkpoint_every=2", "--eval_every=6", "--log_every=2"]
    assert train_main(["transformer_number_words", *arguments, *steps]) == 0
    return workdir


def test_a_run_evaluates_from_its_folder_alone(run, capsys, tmp_path):
    file = tmp_path / "figures.json"
    assert main([f"--workdir={run}", f"--json={file}", "--num_beams=1"]) == 0
    figures = json.loads(file.read_text())
    names = {"BLEU", "chrF", "exact_match", "token_accuracy", "perplexity", "signatures"}
    assert names <= figures.keys() and figures["examples"] == 9
    logged = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for name in ("token_accuracy", "perplexity"):
        assert figures[name] == pytest.approx(logged[f"eval/{name}"], rel=1e-4)
    rows = [line.split("\t") for line in (run / "translations.tsv").read_text().splitlines()]
    assert len(rows) == 9 and all(row[0][::-1] == row[1] for row in rows)
    assert (run / "attention_maps.png").stat().st_size > 5_000
    assert "nrefs:1" in capsys.readouterr().out


def test_figures_do_not_depend_on_the_batch_size(run, pairs):
    model, variables = zoo.load(run)
    data = TranslationData(source=f"pairs:{pairs}", buckets=(16,), bundle_tokens=32)
    examples = open_translation(data, "eval", open_tokenizer(run))
    results = [evaluator(model, examples, size, jax.device_put)(variables) for size in (1, 4)]
    assert results[0].hypotheses == results[1].hypotheses
    np.testing.assert_allclose(results[0].losses, results[1].losses, rtol=1e-4)
    source = examples.source
    i = 4  # the definition, computed for one pair without padding
    tokens, targets = (jnp.asarray(x[i])[None] for x in (source.sources, source.targets))
    inputs = jnp.concatenate([jnp.asarray([[source.tokenizer.start_id]]), targets[:, :-1]], axis=1)
    logits = model.apply(variables, tokens, inputs)
    expected = float(token_cross_entropy(logits, targets).sum())
    assert results[0].losses[i] == pytest.approx(expected, rel=1e-4)
    assert results[0].lengths[i] == targets.shape[1]


def test_translate_on_the_command_line_and_in_one_call(run, capsys):
    texts = ["a b c", "d d d d", "b"]
    found = zoo.translate(run, texts, num_beams=2, batch_size=2)
    assert len(found) == 3
    translator = open_translator(run)
    assert [translator([text], num_beams=2, batch_size=2)[0] for text in texts] == found
    options = [f"--translate={text}" for text in texts]
    assert main([f"--workdir={run}", "--num_beams=2", "--length_penalty=0.6", *options]) == 0
    # Not all control characters in the output of an untrained model are sent to a terminal.
    said, shown = "".join(found), capsys.readouterr().out
    assert [c for c in shown if c.isprintable()] == [c for c in said if c.isprintable()]


def test_the_mean_of_the_last_checkpoints(run, capsys, tmp_path):
    variables, steps = average_run(run, 3)
    assert steps == [2, 4, 6]
    singles = [read_run(run / "checkpoints" / str(step))[2] for step in steps]
    expected = jax.tree.map(lambda *xs: np.mean(xs, axis=0), *singles)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), variables, expected)
    file = tmp_path / "figures.json"
    assert main([f"--workdir={run}", "--average=3", "--num_beams=1", f"--json={file}"]) == 0
    figures = json.loads(file.read_text())
    assert (figures["averaged"], figures["step"]) == (3, 6)
    assert main([f"--workdir={run}", "--average=4"]) == 2
    assert "has 3 checkpoints, not 4; see --keep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_beams=0"], "--num_beams is 0, but must be at least 1"),
        (["--average=0"], "--average is 0, but must be at least 1"),
        (["--source=pairs:nowhere"], "nowhere: cannot be read"),
        (["--split=dev"], "dev.tsv: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, message, capsys):
    assert main([f"--workdir={run}", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error


def test_a_model_of_another_vocabulary_is_refused(run):
    model = zoo.create("transformer_nano", vocab_size=7)
    with pytest.raises(
        zoo.types.InputError, match=r"the tokenizer has [0-9]+ tokens, but the model 7"
    ):
        Translator(model, {}, open_tokenizer(run))
