"""Text in the encodings that systems write, and names without invisible characters."""

import pytest

from zoo.text_files import TextError, decode_text, plain_name, read_text

TEXT = "größer\tzürich\n猫\n"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"],
)
def test_encodings_that_are_certain(encoding, tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode(encoding))
    assert read_text(path) == TEXT


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "latin-1", "windows-1252", "Shift_JIS"])
def test_an_xml_says_its_encoding(encoding):
    word = "grün" if encoding in ("latin-1", "windows-1252") else "猫"
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<name>{word}</name>'
    assert decode_text(text.encode(encoding)) == text


def test_an_xml_that_says_utf_16_but_is_not():
    text = '<?xml version="1.0" encoding="utf-16"?><name>grün</name>'
    assert decode_text(text.encode()) == text
    assert decode_text(text.encode("utf-16")) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "eins\nM\xfcller\n".encode("latin-1"),
            r"not text in UTF-8: byte 0xfc at line 2, byte 2 of it, in 'M\\xfcller'; convert",
        ),
        ("a\n\n汽车 car".encode("gbk"), r"byte 0xc6 at line 3, byte 1 of it"),
        (b"\xff\xfea\0b", "not text in utf-16: byte 0x62"),
        (b"cat\ndog\0\n", "not text: a byte 0 in line 2"),
        (b'<?xml version="1.0" encoding="klingon"?>', "its encoding 'klingon' is unknown"),
        (b'<?xml version="1.0" encoding="zlib"?>', "its encoding 'zlib' is unknown"),
    ],
)
def test_other_bytes_are_one_line(data, message):
    with pytest.raises(TextError, match=message) as caught:
        decode_text(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("cat", "cat"),
        ("traffic  light", "traffic  light"),
        ("\ufeffcat", "cat"),
        ("polar\xa0bear\u200b", "polar bear"),
        (" cat\t", "cat"),
        ("po\xadlar\x07bear", "polar bear"),
        ("\u202ecat\u202c", "cat"),
        ("Käfer 猫", "Käfer 猫"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",) * 2,  # a joiner that Persian needs
        ("\ud800", "\ufffd"),
    ],
)
def test_names(name, plain):
    assert plain_name(name) == plain
