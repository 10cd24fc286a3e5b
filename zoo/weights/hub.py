"""Downloads with huggingface_hub: with its cache, its progress bar and its offline mode."""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import urllib.parse
from pathlib import Path

from zoo.text_files import read_text
from zoo.types import InputError
from zoo.weights.files import FOLDER_FILES
from zoo.weights.preprocessing import HUGGINGFACE_FILE, TIMM_FILE

_HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(/(?P<file>[^@]+))?(@(?P<revision>.+))?")
# torch's convention: a file's name ends with the first digits of its SHA-256.
_RECORDED = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def fetch(path_or_url: str | Path) -> Path:
    """The local path of a checkpoint, which is downloaded if it is not in the cache.

    Args:
        path_or_url: A path, ``hf://owner/repo[/file][@revision]`` or ``https://...``.

    Raises:
        InputError: If the address is malformed, the download fails, or the file's SHA-256 is not
            the recorded one: the hub's, or the digits at the end of the file's name.
    """
    url = str(path_or_url)
    if url.startswith("http://"):
        raise InputError(f"{url}: downloads need https:// or hf://")
    if not url.startswith(("hf://", "https://")):
        return Path(path_or_url)
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(
            f"{url}: downloads need huggingface_hub (the extra 'hub'); or give a local path"
        )
    try:
        return _fetch_hub(url) if url.startswith("hf://") else _fetch_url(url)
    except InputError:
        raise
    except Exception as error:  # any exception of the network libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{url}: not downloaded ({reason}); put the file anywhere and give its path instead"
        ) from error


def _fetch_hub(url: str) -> Path:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    match = _HUB.fullmatch(url)
    if not match:
        raise InputError(f"{url}: not of the form hf://owner/repo[/file][@revision]")
    repo, file, revision = match["repo"], match["file"], match["revision"]
    for name in [file] if file else FOLDER_FILES:
        try:
            path = _hub_file(repo, name, revision)
        except LocalEntryNotFoundError:  # there is no network: the file may exist
            raise
        except EntryNotFoundError:
            continue
        _fetch_preprocessing(repo, name, revision)
        if name.endswith(".index.json"):
            _fetch_shards(path, repo, name, revision)
        return path
    raise InputError(f"{url}: no {file or ' or '.join(FOLDER_FILES)} there")


def _hub_file(repo: str, name: str, revision: str | None) -> Path:
    """A file in the hub's cache, where the name of a large file is its SHA-256."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(repo, name, revision=revision), str)
    path = Path(hf_hub_download(repo, name, revision=revision))
    digest = path.resolve().name
    if not cached and re.fullmatch("[0-9a-f]{64}", digest):
        _check(path.resolve(), digest, f"hf://{repo}/{name}")
    return path


def _fetch_shards(index: Path, repo: str, name: str, revision: str | None) -> None:
    folder = name.rpartition("/")[0]
    shards = set(json.loads(read_text(index))["weight_map"].values())
    for shard in sorted(shards):
        _hub_file(repo, f"{folder}/{shard}".lstrip("/"), revision)


def _fetch_preprocessing(repo: str, name: str, revision: str | None) -> None:
    """Downloads the small files beside a checkpoint that say how images are prepared, if any."""
    from huggingface_hub.errors import EntryNotFoundError

    folder = name.rpartition("/")[0]
    for beside in (TIMM_FILE, HUGGINGFACE_FILE):
        with contextlib.suppress(EntryNotFoundError):
            _hub_file(repo, f"{folder}/{beside}".lstrip("/"), revision)


def _fetch_url(url: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import http_get

    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    name = urllib.parse.urlsplit(url).path.rpartition("/")[2]  # without the query
    if not name:
        raise InputError(f"{url}: not the address of a file")
    path = Path(constants.HF_HOME) / "jax-vision-zoo" / digest / name
    if path.is_file():
        return path
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{url}: not in the cache, and HF_HUB_OFFLINE is set; give a local path")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            http_get(url, file)
        if recorded := _RECORDED.search(path.name):
            _check(partial, recorded[1], url)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _check(path: Path, digest: str, url: str) -> None:
    """Removes a file, and raises InputError, if its SHA-256 does not start with `digest`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digest):
        path.unlink()
        raise InputError(f"{url}: its SHA-256 is {found[:16]}..., recorded is {digest[:16]}...")
