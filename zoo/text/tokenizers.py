"""Tokenizers: text to numbers and back; each can be written to files.

`BytePairs` is byte-level byte-pair encoding (arXiv 1508.07909, on bytes as in GPT-2), by the
package tokenizers. It can encode any text, and decoding gives the same text except for spaces at
both ends.
`MarianPieces` reads the files of Helsinki-NLP's translators, with the package sentencepiece.
"""

import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from zoo.text_files import TextError, decode_text, read_text
from zoo.types import InputError

PAD, START, END = "<pad>", "<s>", "</s>"
TOKENIZER = "tokenizer.json"
MARIAN = ("source.spm", "target.spm", "vocab.json")


class Tokenizer(Protocol):
    """Converts text to tokens and back.

    An encoded sequence ends with `end_id`. A decoder's first input is `start_id`. `pad_id` is
    padding.
    """

    vocab_size: int
    pad_id: int
    start_id: int
    end_id: int

    def encode(self, texts: Sequence[str], *, target: bool = False) -> list[list[int]]:
        """The tokens of each text, with the end; texts are in the source or `target` language."""
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens before the end; of all tokens if there is no end."""
        ...

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """Each token as readable text."""
        ...

    def files(self) -> dict[str, bytes]:
        """The contents, by name, of the files from which `open_tokenizer` opens this tokenizer."""
        ...


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"this tokenizer needs the package {name}: pip install {name}") from error


def _until_end(tokens: Iterable[int], end: int, *without: int) -> list[int]:
    """The tokens before the first `end`, without those in `without`."""
    tokens = list(map(int, tokens))
    tokens = tokens[: tokens.index(end)] if end in tokens else tokens
    return [token for token in tokens if token not in without]


class BytePairs:
    """One vocabulary for both languages: special tokens, bytes, and merged pairs of tokens."""

    def __init__(self, serialised: str) -> None:
        try:
            self._tokenizer = _package("tokenizers").Tokenizer.from_str(serialised)
        except BaseException as error:  # the package, written in Rust, raises Exception or panics
            if isinstance(error, InputError | KeyboardInterrupt | SystemExit):
                raise
            raise InputError(f"not a tokenizer of the package tokenizers: {error}") from error
        self._tokenizer.encode_special_tokens = True  # "</s>" in a text is only text
        self.vocab_size: int = self._tokenizer.get_vocab_size()
        ids = [self._tokenizer.token_to_id(token) for token in (PAD, START, END)]
        if None in ids:
            raise InputError(f"the tokenizer lacks one of the tokens {PAD} {START} {END}")
        self.pad_id, self.start_id, self.end_id = ids

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BytePairs":
        """Learns the merges from texts of both languages.

        Raises:
            InputError: If the vocabulary cannot hold the special tokens and all bytes.
        """
        tokenizers = _package("tokenizers")
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        if vocab_size < len(alphabet) + 3:
            raise InputError(f"data.vocab_size is {vocab_size}, but must be at least 259")
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.normalizer = tokenizers.normalizers.NFC()
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, START, END],
            initial_alphabet=sorted(alphabet),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    def encode(self, texts: Sequence[str], *, target: bool = False) -> list[list[int]]:
        """See `Tokenizer`; both languages are encoded in the same way."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[*item.ids, self.end_id] for item in encoded]

    def decode(self, tokens: Iterable[int]) -> str:
        """See `Tokenizer`."""
        tokens = _until_end(tokens, self.end_id, self.pad_id, self.start_id)
        return self._tokenizer.decode(tokens, skip_special_tokens=False).strip()

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """See `Tokenizer`; parts of a character are replacement characters."""
        return [self._tokenizer.decode([int(t)], skip_special_tokens=False) for t in tokens]

    def files(self) -> dict[str, bytes]:
        """See `Tokenizer`."""
        return {TOKENIZER: self._tokenizer.to_str(pretty=True).encode()}


class MarianPieces:
    """SentencePiece for each language and one vocabulary: the files of a Marian translator.

    Transformers also normalises punctuation if the package sacremoses is installed; this class does
    not.
    """

    def __init__(self, contents: Mapping[str, bytes], path: str = "") -> None:
        """Takes the contents of the files in `MARIAN`, by name; errors name the `path`."""
        sentencepiece = _package("sentencepiece")
        self._contents = dict(contents)
        try:
            self._vocabulary: dict[str, int] = json.loads(decode_text(contents["vocab.json"]))
            self._unknown = self._vocabulary["<unk>"]
            self.pad_id, self.end_id = self._vocabulary[PAD], self._vocabulary[END]
            self._source, self._target = (
                sentencepiece.SentencePieceProcessor(model_proto=contents[name])
                for name in ("source.spm", "target.spm")
            )
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: its {', '.join(MARIAN)} are damaged: {reason}") from error
        self.vocab_size = len(self._vocabulary)
        self.start_id = self.pad_id  # as in Marian, where padding is embedded as zeros
        self._names = {number: piece for piece, number in self._vocabulary.items()}

    def encode(self, texts: Sequence[str], *, target: bool = False) -> list[list[int]]:
        """See `Tokenizer`; a text may begin with the code of a target language, ``>>fra<<``."""
        processor = self._target if target else self._source
        encoded = []
        for text in texts:
            code, end, rest = text.partition("<<") if text.startswith(">>") else ("", "", text)
            code, rest = (code + end, rest) if end else ("", text)
            pieces = [code] * bool(code) + processor.encode(rest, out_type=str)
            numbers = [self._vocabulary.get(piece, self._unknown) for piece in pieces]
            encoded.append([*numbers, self.end_id])
        return encoded

    def decode(self, tokens: Iterable[int]) -> str:
        """See `Tokenizer`."""
        pieces = self.pieces(_until_end(tokens, self.end_id, self.pad_id))
        return "".join(pieces).strip()

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """See `Tokenizer`."""
        return [self._names.get(int(t), "<unk>").replace("\u2581", " ") for t in tokens]

    def files(self) -> dict[str, bytes]:
        """See `Tokenizer`."""
        return dict(self._contents)


def open_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a file ``tokenizer.json``, or in a folder with it or Marian's files.

    Raises:
        InputError: If there is no tokenizer, it cannot be read, or it needs a missing package.
    """
    path = Path(path).expanduser()
    try:
        if all((path / name).is_file() for name in MARIAN):
            contents = {name: (path / name).read_bytes() for name in MARIAN}
            return MarianPieces(contents, str(path))
        file = path / TOKENIZER if path.is_dir() else path
        return BytePairs(read_text(file))
    except OSError as error:
        raise InputError(
            f"{path}: no tokenizer: neither {TOKENIZER} nor {', '.join(MARIAN)}: {error.strerror}"
        ) from error
    except TextError as error:
        raise InputError(f"{path}: not a tokenizer of the package tokenizers: {error}") from error
