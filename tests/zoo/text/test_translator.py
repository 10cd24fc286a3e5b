import importlib
import sys

import jax
import jax.numpy as jnp
import pytest

import zoo
from zoo.text.tokenizers import BytePairs
from zoo.text.translator import Translator
from zoo.types import InputError


@pytest.fixture(scope="module")
def random():
    """A translator with random weights."""
    tokenizer = BytePairs.train(["one two three", "eins zwei drei"], 300)
    fields = {"hidden_dim": 16, "mlp_dim": 16, "num_heads": 2}
    model = zoo.create("transformer_nano", vocab_size=tokenizer.vocab_size, **fields)
    tokens, valid = jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4), bool)
    return Translator(
        model, jax.jit(model.init)(jax.random.key(0), tokens, tokens, valid, valid), tokenizer
    )


@pytest.fixture
def echo(random, monkeypatch):
    """A translator whose translation of a text is the text; and the sources that it was given."""
    seen = []

    def generate(variables, sources, valid, search):
        seen.extend(row[ok] for row, ok in zip(sources, valid, strict=True) if ok.any())
        return type("Sequences", (), {"tokens": sources})

    monkeypatch.setattr(random, "_generate", generate)
    return random, seen


def test_empty_texts_among_others(random):
    alone = random(["one two"], num_beams=1)
    assert alone != [""]
    found = random(["", "one two", " \t\n", "\u3000", ">>fra<< "], num_beams=1)
    assert found == ["", *alone, "", "", ""]
    assert random([]) == []


LONG = {
    "sentences": " ".join(f"This is sentence {i} of a long text." for i in range(100)),
    "words": " ".join(f"word{i}" for i in range(600)),
    "one word": "abc" * 1000,
    "no spaces": "\u4e00\u4e8c\u4e09\u3002" * 150,
}


@pytest.mark.parametrize("kind", LONG)
def test_a_long_text_is_split_with_a_warning(echo, kind):
    translator, seen = echo
    text = LONG[kind]
    with pytest.warns(UserWarning, match=r"in parts: 1 of 2, first texts\[1\]"):
        found = translator(["one", text])
    assert found[0] == "one"
    assert found[1].replace(" ", "") == text.replace(" ", "")
    assert max(map(len, seen)) <= 256 < sum(map(len, seen))
    if kind == "sentences":
        decoded = [translator.tokenizer.decode(tokens) for tokens in seen]
        assert all(part.endswith(".") for part in decoded if part != "one")
        assert found[1] == text


def test_each_part_keeps_the_code_of_the_target_language(echo):
    translator, seen = echo
    with pytest.warns(UserWarning, match="in parts"):
        translator([">>fra<< " + LONG["words"]])
    assert len(seen) > 1
    assert all(translator.tokenizer.decode(part).startswith(">>fra<< word") for part in seen)


@pytest.mark.parametrize("texts", ["one text", None, 3, [None], ["a", 3]])
def test_what_is_no_list_of_texts(random, texts):
    with pytest.raises(InputError, match="translate takes a list of texts"):
        random(texts)


@pytest.mark.parametrize(
    ("old", "new"),
    [("zoo.translator", "zoo.text.translator"), ("zoo.data.text", "zoo.text.tokenizers")],
)
def test_places_of_the_first_version(old, new):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} .* import from {new}"):
        module = importlib.import_module(old)
    for name in module.__all__:
        assert getattr(module, name) is getattr(importlib.import_module(new), name)
