"""The files that show how a run went: metrics.jsonl, TensorBoard events, the learning curve."""

import json
import os
from pathlib import Path
from typing import Any

from etils import epath
from matplotlib.figure import Figure

from eval.pictures import save_figure
from train.events import EventLog
from train.workdir import is_remote
from zoo.writing import write_whole


class MetricsLog:
    """Writes ``DIR/metrics.jsonl``, one object for each logged step, and TensorBoard events.

    The content of metrics.jsonl depends on the run's settings alone: when a run resumes, entries
    after its checkpoint are dropped, and speeds are written to TensorBoard only.
    """

    def __init__(self, workdir: epath.Path, resumed_at: int) -> None:
        self.path = workdir / "metrics.jsonl"
        kept = [entry for entry in read_metrics(self.path) if entry["step"] <= resumed_at]
        write_whole(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._events = EventLog(workdir / "tensorboard", kept, resumed_at)

    def write(self, step: int, figures: dict[str, float], speeds: dict[str, float]) -> None:
        """Adds an entry, which is in both files when this returns.

        Raises:
            OSError: If the disk is full; metrics.jsonl then ends with the entry before.
        """
        line = json.dumps({"step": step, **figures}) + "\n"
        if is_remote(self.path):  # an object in a bucket cannot be appended to
            write_whole(self.path, self.path.read_text() + line)
        else:
            _append(Path(self.path), line)
        self._events.write(step, {**figures, **speeds})

    def close(self) -> None:
        """Closes the events."""
        self._events.close()


def _append(path: Path, line: str) -> None:
    """Appends a line completely or not at all."""
    size = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(line.encode())
    except OSError:
        os.truncate(path, size)
        raise


def read_metrics(path: epath.Path) -> list[dict[str, Any]]:
    """The entries of a metrics.jsonl, without a last line that is cut off; none without a file."""
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries


def draw_learning_curve(workdir: epath.Path) -> epath.Path:
    """Draws every figure of metrics.jsonl over the steps into ``DIR/learning_curve.png``."""
    entries = read_metrics(workdir / "metrics.jsonl")
    path = workdir / "learning_curve.png"
    if not entries:
        return path
    groups: dict[str, list[str]] = {}  # figures of one panel, such as train/loss and eval/loss
    for name in dict.fromkeys(name for entry in entries for name in entry if "/" in name):
        groups.setdefault(name.split("/", 1)[1], []).append(name)
    columns = 2
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(6 * columns, 3 * rows), layout="constrained")
    for position, (title, names) in enumerate(groups.items(), start=1):
        axes = figure.add_subplot(rows, columns, position)
        for name in names:
            points = [(entry["step"], entry[name]) for entry in entries if name in entry]
            axes.plot(
                *zip(*points, strict=True), label=name, marker="." if len(points) < 50 else ""
            )
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)
    return path
