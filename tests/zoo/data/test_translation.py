import numpy as np
import pytest

from zoo.data import (
    DataError,
    TranslationData,
    eval_batches,
    open_translation,
    train_batches,
    unbundle,
)
from zoo.data import pairs as pairs_module
from zoo.data.pairs import number_words, open_pairs
from zoo.data.translation import bundle


@pytest.fixture
def few(monkeypatch):
    """The number words with fewer numbers, which takes less time."""
    monkeypatch.setattr(pairs_module, "_TRAIN", 150)
    monkeypatch.setattr(pairs_module, "_SMALL", 120)
    number_words.cache_clear()
    yield
    number_words.cache_clear()


@pytest.fixture
def file(tmp_path):
    """Two hundred pairs of one to seventeen words."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(200):
        words = [f"w{n}" for n in rng.integers(0, 30, rng.integers(1, 18))]
        lines.append(f"{i} {' '.join(words)}\t{' '.join(words[::-1])} ü\n")
    (tmp_path / "pairs.tsv").write_text("".join(lines))
    return tmp_path / "pairs.tsv"


def test_number_words(few):
    train, test = number_words("train"), number_words("test")
    assert (len(train), len(test)) == (150, 1_000)
    assert not {first for first, _ in train} & {first for first, _ in test}
    assert ("twenty one", "einundzwanzig") in train
    assert ("zero", "null") in train
    long = max(test, key=lambda pair: len(pair[0]))
    assert " " not in long[1] and not {"-", ","} & set(long[0] + long[1])
    with pytest.raises(DataError, match="no split 'dev'; there are train, test"):
        number_words("dev")
    with pytest.raises(DataError, match="num2words has no language 'xx'"):
        number_words("test", ("en", "xx"))


def test_a_file_is_split_by_its_texts(file):
    source = f"pairs:{file}"
    train = open_pairs(source, None, "train", ("en", "de"))
    test = open_pairs(source, None, "test", ("en", "de"))
    assert len(train) + len(test) == 200 and 2 < len(test) < 25
    assert not set(train) & set(test)
    file.write_text(file.read_text() * 2)  # equal texts are in the same split
    assert set(open_pairs(source, None, "test", ("en", "de"))) == set(test)


def test_a_folder_has_a_file_a_split(tmp_path):
    (tmp_path / "dev.tsv").write_bytes("a\tb\r\nc d\té\r\n".encode())
    found = open_pairs(f"pairs:{tmp_path}", None, "dev", ("en", "de"))
    assert found == [("a", "b"), ("c d", "é")]
    with pytest.raises(DataError, match=r"test\.tsv: cannot be read: No such file"):
        open_pairs(f"pairs:{tmp_path}", None, "test", ("en", "de"))


@pytest.mark.parametrize("line", ["", "one", "a\tb\tc", "a\t ", "\tb"])
def test_bad_lines_are_named(tmp_path, line):
    (tmp_path / "x.tsv").write_text(f"a\tb\n{line}\nc\td\n")
    with pytest.raises(DataError, match=r"x\.tsv:2: not two texts with a tab between them"):
        open_pairs(f"pairs:{tmp_path / 'x.tsv'}", None, "train", ("en", "de"))


def test_tfds_sets_are_found_without_tensorflow(tmp_path, monkeypatch):
    source = "wmt14_translate/de-en"
    with pytest.raises(
        DataError, match=r"is not prepared in .*; run: python -m zoo\.data\.prepare"
    ):
        open_pairs(source, str(tmp_path), "train", ("en", "de"))
    records = [{"en": b"a t\xc3\xa9st", "de": "ein Test"}]
    monkeypatch.setattr(pairs_module, "features_of", lambda *_: {"en": None, "de": None})
    monkeypatch.setattr(pairs_module, "records_of", lambda *_, **__: records)
    assert open_pairs(source, str(tmp_path), "train", ("en", "de")) == [("a tést", "ein Test")]
    with pytest.raises(DataError, match="has no language 'fr'; its features are de, en"):
        open_pairs(source, str(tmp_path), "train", ("en", "fr"))


def config(file, **fields):
    return TranslationData(
        **{"source": f"pairs:{file}", "vocab_size": 300, "buckets": (16, 24, 40), **fields},
        bundle_tokens=80,
    )


def test_batches_are_whole_pairs_of_one_bucket(file):
    data = config(file)
    examples = open_translation(data, "train")
    source, shapes = examples.source, set()
    batches = train_batches(examples, 4, seed=0)
    for _ in range(25):
        batch = next(batches)
        rows = {name: np.asarray(x) for name, x in unbundle(batch).items()}
        length = rows["sources"].shape[1]
        shapes.add((rows["sources"].shape[0], length))
        assert rows["sources"].shape == rows["targets"].shape
        for i, index in enumerate(rows["index"]):
            for side, name in enumerate(("sources", "targets")):
                tokens = rows[name][i][rows[f"{name}_valid"][i]]
                if index < 0:
                    assert not len(tokens)
                    continue
                assert source.tokenizer.decode(tokens) == source.pairs[index][side]
                assert tokens[-1] == source.tokenizer.end_id
            if index >= 0:
                assert rows["inputs"][i, 0] == source.tokenizer.start_id
                seen = rows["targets_valid"][i][1:]
                before = rows["targets"][i][:-1][seen]
                np.testing.assert_array_equal(rows["inputs"][i, 1:][seen], before)
    batches.close()
    assert shapes == {(20, 16), (12, 24), (8, 40)}  # 4 bundles of 5, 3 and 2 pairs


def test_evaluation_has_every_pair_once_however_long(file):
    data = config(file, buckets=(8, 10))
    examples = open_translation(
        data, "eval", open_translation(config(file), "train").source.tokenizer
    )
    lengths = [
        max(map(len, pair))
        for pair in zip(examples.source.sources, examples.source.targets, strict=True)
    ]
    assert max(lengths) > 20  # there are buckets of 20 and 40 as well
    seen = [i for batch in eval_batches(examples, 2) for i in batch["index"].ravel() if i >= 0]
    assert sorted(seen) == list(range(len(examples.source.pairs)))
    assert len(open_translation(data, "eval", most=3).source.pairs) == 3


def test_training_leaves_out_what_is_too_long_and_says_so(file, caplog):
    examples = open_translation(config(file, buckets=(16,)), "train")
    kept = sum(map(len, examples.source.bundles))
    total = len(examples.source.pairs)
    assert 0 < kept < total
    assert f"left out: {total - kept} of {total} pairs, longer than 16 tokens" in caplog.text


def test_bundles_partition_each_bucket():
    lengths = np.random.default_rng(0).integers(1, 50, 300)
    bundles, groups = bundle(lengths, (10, 20, 40), 60, shuffle=True)
    assert sorted(np.concatenate(bundles)) == np.flatnonzero(lengths <= 40).tolist()
    for members, group in zip(bundles, groups, strict=True):
        low, high, size = ((0, 10, 6), (10, 20, 3), (20, 40, 1))[group]
        assert (lengths[members] > low).all() and (lengths[members] <= high).all()
        assert len(members) <= size
    again, _ = bundle(lengths, (10, 20, 40), 60, shuffle=True)
    assert all((a == b).all() for a, b in zip(bundles, again, strict=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"buckets": ()}, "must be ascending"),
        ({"buckets": (8, 8)}, "must be ascending"),
        ({"buckets": (1, 8)}, "must be ascending from 2"),
        ({"buckets": (8, 90)}, "bundle_tokens is 48, but must be at least the longest bucket, 90"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(DataError, match=message):
        TranslationData(**fields)
