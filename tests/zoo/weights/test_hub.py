"""Downloads, with a replacement for the network."""

import hashlib
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from zoo.types import InputError
from zoo.weights import fetch


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A dict of files by (repo, name, revision) in place of the hub, with the same cache."""
    files, asked = {}, []

    def download(repo, name, revision=None):
        asked.append((repo, name, revision))
        if (repo, name, revision) not in files:
            raise EntryNotFoundError(f"no {name}")
        content, digest = files[repo, name, revision]
        blob = tmp_path / digest
        blob.write_bytes(content)
        link = tmp_path / repo.replace("/", "--") / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(blob)
        return str(link)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return files, asked


def put(files, name, content=b"weights", revision=None, digest=None):
    files["owner/repo", name, revision] = (
        content,
        digest or hashlib.sha256(content).hexdigest(),
    )


def test_local_paths_pass_through():
    assert fetch("some/file.pth") == Path("some/file.pth")


def test_named_file_and_revision(hub):
    files, asked = hub
    put(files, "sub/x.pth", revision="v1.0")
    assert fetch("hf://owner/repo/sub/x.pth@v1.0").read_bytes() == b"weights"
    beside = [f"sub/{name}" for name in ("config.json", "preprocessor_config.json")]
    assert asked == [("owner/repo", name, "v1.0") for name in ("sub/x.pth", *beside)]


def test_how_images_are_prepared_comes_along(hub):
    files, _ = hub
    put(files, "model.safetensors")
    put(files, "preprocessor_config.json", b'{"size": 384}')
    path = fetch("hf://owner/repo")
    assert (path.parent / "preprocessor_config.json").read_bytes() == b'{"size": 384}'
    assert not (path.parent / "config.json").exists()


def test_file_is_chosen(hub):
    files, _ = hub
    put(files, "pytorch_model.bin")
    assert fetch("hf://owner/repo").name == "pytorch_model.bin"
    put(files, "model.safetensors")
    assert fetch("hf://owner/repo").name == "model.safetensors"


def test_shards_come_along(hub):
    files, asked = hub
    put(files, "model.safetensors.index.json", b'{"weight_map": {"a": "1.st", "b": "2.st"}}')
    put(files, "1.st")
    put(files, "2.st")
    fetch("hf://owner/repo")
    assert [name for _, name, _ in asked[-2:]] == ["1.st", "2.st"]


def test_wrong_checksum_is_refused_and_removed(hub, tmp_path):
    files, _ = hub
    put(files, "model.safetensors", digest="0" * 64)
    with pytest.raises(InputError, match=r"hf://owner/repo/model.safetensors: its SHA-256 is"):
        fetch("hf://owner/repo")
    assert not (tmp_path / ("0" * 64)).exists()


@pytest.mark.parametrize("url", ["hf://repo", "hf://owner/repo@", "hf:///x"])
def test_malformed(hub, url):
    with pytest.raises(InputError, match=r"not of the form hf://owner/repo"):
        fetch(url)


def test_nothing_there(hub):
    with pytest.raises(InputError, match=r"hf://owner/repo: no model.safetensors or"):
        fetch("hf://owner/repo")


def test_hub_without_network_is_one_line(hub, monkeypatch):
    def download(*_, **__):
        raise LocalEntryNotFoundError("cannot find it in the cache\nor on the hub")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(InputError) as error:
        fetch("hf://owner/repo")
    assert str(error.value) == (
        "hf://owner/repo: not downloaded (cannot find it in the cache);"
        " put the file anywhere and give its path instead"
    )


def serve(monkeypatch, content):
    def http_get(url, file):
        if content is None:
            raise OSError("Name or service not known\nand more")
        file.write(content)

    monkeypatch.setattr("huggingface_hub.file_download.http_get", http_get)


def test_https_with_the_recorded_digits(hub, monkeypatch):
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    url = f"https://host.example/resnet50-{digits}.pth"
    serve(monkeypatch, b"weights")
    path = fetch(url)
    assert path.read_bytes() == b"weights"
    serve(monkeypatch, None)  # the file is in the cache now
    assert fetch(url) == path
    serve(monkeypatch, b"other")
    with pytest.raises(InputError, match=r"resnet18-00000000\.pth: its SHA-256 is"):
        fetch("https://host.example/resnet18-00000000.pth")
    assert [p.name for p in path.parents[1].rglob("*.*")] == [path.name]


def test_no_network_is_one_line(hub, monkeypatch):
    serve(monkeypatch, None)
    with pytest.raises(InputError) as error:
        fetch("https://host.example/x.pth")
    assert str(error.value) == (
        "https://host.example/x.pth: not downloaded (Name or service not known);"
        " put the file anywhere and give its path instead"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set; give a local path"):
        fetch("https://host.example/x.pth")


def test_without_the_extra_a_local_path_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"need huggingface_hub \(the extra 'hub'\)"):
        fetch("https://host.example/x.pth")
    assert fetch("x.pth") == Path("x.pth")


def test_query_hides_no_checksum(hub, monkeypatch):
    serve(monkeypatch, b"other")
    with pytest.raises(InputError, match=r"its SHA-256 is"):
        fetch("https://host.example/resnet18-00000000.pth?download=true/x")
    assert fetch("https://host.example/x.pth?a=1").name == "x.pth"


@pytest.mark.parametrize(
    ("url", "message"),
    [("http://host.example/x.pth", "https://"), ("https://host.example/", "not the address")],
)
def test_no_address_of_a_file(hub, url, message):
    with pytest.raises(InputError, match=message):
        fetch(url)
