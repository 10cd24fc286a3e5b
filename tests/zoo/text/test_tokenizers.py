import json

import pytest
import sentencepiece

from zoo.text.tokenizers import BytePairs, MarianPieces, open_tokenizer
from zoo.types import InputError

TEXTS = ["zwei Hühner und ein Hahn", "ein Huhn und zwei Hähne", "two hens and a cock"] * 5


@pytest.fixture(scope="module")
def trained():
    return BytePairs.train(TEXTS, 290)


@pytest.mark.parametrize("text", ["ein Huhn", "日本 🙂", "</s> <pad>", "a  b\tc", ""])
def test_any_text_comes_back(trained, text):
    (tokens,) = trained.encode([text])
    assert tokens[-1] == trained.end_id and trained.end_id not in tokens[:-1]
    assert trained.pad_id not in tokens
    assert trained.decode([*tokens, trained.pad_id, 99]) == text
    assert trained.decode([trained.start_id, *tokens[:-1]]) == text


def test_words_that_were_seen_are_few_tokens(trained):
    assert trained.vocab_size == 290
    seen, unseen = trained.encode(["zwei Hühner", "Zebra Quark"])
    assert len(seen) < 6 < len(unseen)
    assert "".join(trained.pieces(seen[:-1])) == " zwei Hühner"


def test_files_make_it_again(trained, tmp_path):
    for name, content in trained.files().items():
        (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        again = open_tokenizer(path)
        assert again.encode(TEXTS) == trained.encode(TEXTS)
        assert again.files() == trained.files()


def test_training_is_the_same_every_time(trained):
    assert BytePairs.train(TEXTS, 290).files() == trained.files()


def test_bad_files_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer: neither tokenizer.json nor source.spm"):
        open_tokenizer(tmp_path)
    for text in ("{}", "no json"):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(InputError, match="not a tokenizer") as error:
            open_tokenizer(tmp_path)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="vocab_size is 100, but must be at least 259"):
        BytePairs.train(TEXTS, 100)


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """The tokenizer files of a tiny Marian translator, like those of Helsinki-NLP."""
    folder = tmp_path_factory.mktemp("marian")
    (folder / "text").write_text("\n".join(TEXTS))
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text"),
            model_prefix=str(folder / side),
            vocab_size=28,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    names = ["</s>", "<unk>", *pieces, ">>deu<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    return folder


def test_marian(marian):
    tokenizer = open_tokenizer(marian)
    assert isinstance(tokenizer, MarianPieces)
    assert (tokenizer.end_id, tokenizer.pad_id) == (0, tokenizer.vocab_size - 1)
    assert tokenizer.start_id == tokenizer.pad_id
    for target in (False, True):
        (tokens,) = tokenizer.encode(["ein Huhn und ein Hahn"], target=target)
        assert tokens[-1] == 0
        assert tokenizer.decode([*tokens, tokenizer.pad_id]) == "ein Huhn und ein Hahn"
    coded, bare, unknown = tokenizer.encode([">>deu<< ein Huhn", "ein Huhn", "ж"])
    assert coded == [tokenizer.vocab_size - 2, *bare]
    assert 1 in unknown


def test_damaged_marian_files_are_named(marian, tmp_path):
    contents = open_tokenizer(marian).files()
    for name in contents:
        for other, content in contents.items():
            (tmp_path / other).write_bytes(b"?" if other == name else content)
        with pytest.raises(InputError, match="are damaged") as error:
            open_tokenizer(tmp_path)
        assert "\n" not in str(error.value)
