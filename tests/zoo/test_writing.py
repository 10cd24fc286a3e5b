import errno
import os
from pathlib import Path

import pytest
from etils import epath

from zoo.writing import WriteError, write_whole


@pytest.mark.parametrize("kind", [Path, epath.Path])
def test_a_file_is_written(kind, tmp_path):
    write_whole(kind(tmp_path / "a.json"), "{}")
    write_whole(kind(tmp_path / "a.json"), b"\xff")
    assert (tmp_path / "a.json").read_bytes() == b"\xff"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("moment", ["write_bytes", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(moment, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(*arguments):
        if moment == "write_bytes":  # a part of the content gets in
            Path.touch(arguments[0])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((Path, moment) if moment == "write_bytes" else (os, moment)), full)
    with pytest.raises(WriteError, match=r"a\.json: cannot be written: No space left on device$"):
        write_whole(path, "new")
    assert os.listdir(tmp_path) == ["a.json"] and path.read_text() == "old"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WriteError, match=r"nowhere/a\.json: cannot be written: No such file"):
        write_whole(tmp_path / "nowhere" / "a.json", "new")
