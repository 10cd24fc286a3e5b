"""TensorBoard's events: written at once, and completed from metrics.jsonl when a run resumes."""

import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from etils import epath
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter, directory_check
from tensorboardX.summary import scalar

Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
SessionLog: Any = event_pb2.SessionLog  # pyright: ignore[reportAttributeAccessIssue]

Scalars = dict[str, dict[int, tuple[float, float]]]
"""For each name and step, the time at which it was written, and the value."""

_EVENTS_ONLY = ("speed/", "time/")  # figures that are not in metrics.jsonl


class EventLog:
    """A new event file in a folder; what is written is in the file when the call returns.

    If the run resumes, events after its checkpoint are declared void, which TensorBoard heeds. The
    same happens to events from the first step on that differs from metrics.jsonl, because the
    process was killed or the disk was full; then all events from there on are written again.
    """

    def __init__(
        self, folder: epath.Path, entries: Sequence[Mapping[str, Any]], resumed_at: int
    ) -> None:
        """Opens the file.

        Args:
            folder: The folder of the event files.
            entries: The entries of metrics.jsonl, up to the step at which the run resumes.
            resumed_at: The last step that is done.
        """
        directory_check(str(folder))
        files = _event_files(folder)
        old = read_events(folder)
        # Readers take the files in the order of their names, which begin with the time.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
        self._file = RecordWriter(str(folder / f"{name}.{len(files):05d}"))
        self._put(Event(wall_time=time.time(), file_version="brain.Event:2"))
        valid = _first_difference(old, entries, resumed_at)
        start = SessionLog(status=SessionLog.SessionStatus.START)
        self._put(Event(wall_time=time.time(), step=valid, session_log=start))
        again: dict[int, dict[str, float]] = {}
        for name, values in old.items():
            for step in (step for step in values if valid <= step <= resumed_at):
                again.setdefault(step, {})[name] = values[step][1]
        for entry in (entry for entry in entries if valid <= entry["step"]):
            again[entry["step"]] = {**again.get(entry["step"], {}), **_figures(entry)}
        for step in sorted(again):
            times = [old[name][step][0] for name in again[step] if step in old.get(name, {})]
            self._add(step, again[step], max(times, default=time.time()))
        self._file.flush()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds the figures of a step."""
        self._add(step, figures, time.time())
        self._file.flush()

    def _add(self, step: int, figures: Mapping[str, float], when: float) -> None:
        for name, value in figures.items():
            self._put(Event(wall_time=when, step=step, summary=scalar(name, value)))

    def _put(self, event: Any) -> None:
        self._file.write(event.SerializeToString())

    def close(self) -> None:
        """Closes the file; what a full disk did not take is not written."""
        with suppress(OSError):
            self._file.close()


def _figures(entry: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in entry.items() if name != "step"}


def _event_files(folder: epath.Path) -> list[epath.Path]:
    """The event files in the order in which readers take them."""
    return sorted(path for path in folder.iterdir() if ".tfevents." in path.name)


def _first_difference(old: Scalars, entries: Sequence[Mapping[str, Any]], resumed_at: int) -> int:
    """The first step whose events are not those of metrics.jsonl; else the one after the last."""
    written = {
        (step, name): np.float32(value).tobytes()  # so that NaN equals NaN
        for name, values in old.items()
        if not name.startswith(_EVENTS_ONLY)
        for step, (_, value) in values.items()
        if step <= resumed_at
    }
    expected = {
        (entry["step"], name): np.float32(value).tobytes()
        for entry in entries
        for name, value in _figures(entry).items()
    }
    both = written.keys() | expected.keys()
    wrong = (at for at in both if written.get(at) != expected.get(at))
    return min((step for step, _ in wrong), default=resumed_at + 1)


def read_events(folder: epath.Path) -> Scalars:
    """The scalars in a folder's event files, as TensorBoard shows them.

    A file is read up to the first record that is cut off or damaged.
    """
    found: Scalars = {}
    for path in _event_files(folder):
        for record in _records(path.read_bytes()):
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.SessionStatus.START:
                for values in found.values():
                    for step in [step for step in values if step >= event.step]:
                        del values[step]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = (event.wall_time, value.simple_value)
    return found


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a file: length, checksum of the length, content, checksum of the content."""
    place = 0
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        if place + 16 + length > len(data):
            return
        yield data[place + 12 : place + 12 + length]
        place += 16 + length
