"""The folder of a run, with its ``config.json`` and lock."""

import dataclasses
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from etils import epath

from train.config import Config, ConfigError, to_json
from train.data_checksum import COMPARED, data_checksum
from zoo.data import Dataset
from zoo.writing import write_whole

# Settings that a resumed run may change, since they do not change what it computes.
_FREE = (
    *("log_every", "eval_every", "checkpoint_every", "keep"),
    *("parallel", "mesh.data", "mesh.fsdp", "profile.steps"),
    *("distributed.coordinator", "distributed.processes", "distributed.process"),
    *("data.data_dir", "data.threads", "data.workers", "data.on_error"),
    *("data.proposal_cache",),
)


@contextmanager
def locked(workdir: epath.Path) -> Iterator[None]:
    """Makes the folder of a run, and locks it against other processes until this process ends.

    The lock is also released if the process is killed. A folder in a bucket cannot be locked: there
    the user must not start two runs in the same folder.

    Raises:
        ConfigError: If the folder cannot be made, or another process trains in it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = None if is_remote(workdir) else (workdir / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"--workdir={workdir}: {error.strerror}") from error
    if lock is None:
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process is training in {workdir}") from None
        yield


def check_same(
    workdir: epath.Path, config: Config, examples: Dataset, held_out: Dataset, step: int | None
) -> list[str]:
    """Checks that the run in `workdir` can go on with these settings.

    Two settings may change, besides those that do not affect what a run computes: `steps` of a
    finished run may be larger, and `data.source` may be another place of the same data, which
    `train.data_checksum` decides.

    Args:
        workdir: The folder of the run.
        config: The settings that are asked for.
        examples: The training data.
        held_out: The data for evaluation.
        step: The step of the newest checkpoint.

    Returns:
        A text for each of these two settings that changes.

    Raises:
        ConfigError: If the run has other settings, naming the first, or the data have changed.
    """
    there = flatten(read_config(workdir))
    # Tuples become lists, as in the file.
    asked = flatten(json.loads(json.dumps(to_json(config))))
    defaults = json.loads(json.dumps(_defaults(config)))
    there: dict[str, Any] = {**defaults, **_renamed(there, asked)}
    notes = []
    for name in asked:
        old, new = there.get(name), asked[name]
        if old == new or name in _FREE:
            continue
        if name == "steps" and old is not None and new > old:
            notes.append(_extended(workdir, old, new, step))
        elif name == "data.source":
            _check_same_data(workdir, there, new, examples, held_out)
            notes.append(f"the data were {old}, now they are {new}: they have {_SAME_DATA}")
        else:
            raise ConfigError(
                f"{workdir} holds a run with {name}={old}, not {new}: to continue it, use its"
                f" settings; to start a new run from it, take another --workdir and"
                f" --init={workdir}"
            )
    for name, content in examples.files.items():
        file = workdir / name
        if not file.exists() or file.read_bytes() != content:
            raise ConfigError(
                f"{file} differs from the data, which have changed since: take another --workdir"
            )
    return notes


_SAME_DATA = (
    "as many examples, the same classes, and the same content in up to"
    f" {COMPARED} examples of each split, at equal distances"
)


def _extended(workdir: epath.Path, old: int, new: int, step: int | None) -> str:
    """A text about more steps; raises ConfigError if the run has not finished the old ones."""
    if step != old:
        raise ConfigError(
            f"{workdir} holds a run with steps={old}, of which {step} are done, not {new}: only a"
            f" finished run can be extended; finish it with --steps={old}, or, to start a new run"
            f" from it, take another --workdir and --init={workdir}"
        )
    return (
        f"{workdir} is extended from {old} to {new} steps; the learning rate is that of a run of"
        f" {new} steps from here on, and was that of a run of {old} steps before"
    )


def _check_same_data(
    workdir: epath.Path, there: dict[str, Any], new: str, examples: Dataset, held_out: Dataset
) -> None:
    """Raises ConfigError if data at another place differ from those of the run."""
    old = there["data.source"]
    known = {split: there.get(f"data_checksums.{split}") for split in ("train", "eval")}
    if None in known.values():
        raise ConfigError(
            f"{workdir}/config.json has no checksums of the data, because an earlier version began"
            f" the run: resume it once with --data.source={old}, then with {new}"
        )
    for split, checksum in _checksums(examples, held_out).items():
        if checksum != known[split]:
            raise ConfigError(
                f"{workdir} holds a run with data.source={old}, not {new}, and the data for {split}"
                f" are not the same (which would have {_SAME_DATA}): to start a new run from it,"
                f" take another --workdir and --init={workdir}"
            )


def _checksums(examples: Dataset, held_out: Dataset) -> dict[str, str]:
    return {"train": data_checksum(examples), "eval": data_checksum(held_out)}


def read_config(workdir: epath.Path) -> dict[str, Any]:
    """The settings in ``config.json``."""
    path = workdir / "config.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); restore it, or take another --workdir"
        ) from error


def _renamed(there: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run of version 0.1 under their present names.

    In version 0.1 the settings of the loss were fields of the task, and a factor of the learning
    rate applied to every path that began with the characters of its name.
    """
    renamed = dict(there)
    for name, value in there.items():
        if name.startswith("task."):
            renamed.setdefault(name.replace("task.", "task.loss.", 1), value)
        if name.startswith("optim.multipliers."):
            same = (new for new in asked if new.rstrip("_*") == name.rstrip("_"))
            renamed.setdefault(next(same, name), value)
    return renamed


def _defaults(node: Any, prefix: str = "") -> dict[str, Any]:
    """The defaults of a configuration, by dotted name; older runs do not store every field."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            found |= _defaults(value, f"{prefix}{field.name}.")
        elif field.default is not dataclasses.MISSING:
            found[f"{prefix}{field.name}"] = field.default
    return found


def write_config(workdir: epath.Path, config: Config, examples: Dataset, held_out: Dataset) -> None:
    """Writes ``config.json`` with settings, class names and checksums, and the data's files."""
    for name, file in examples.files.items():
        write_whole(workdir / name, file)
    content = {
        **to_json(config),
        "class_names": examples.class_names,
        "data_checksums": _checksums(examples, held_out),
    }
    write_whole(workdir / "config.json", json.dumps(content, indent=2) + "\n")


def is_remote(path: epath.Path) -> bool:
    """Whether a path is in a bucket, such as gs://bucket/run."""
    return "://" in str(path)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns nested dicts into one dict with dotted names."""
    flat = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        flat |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat
