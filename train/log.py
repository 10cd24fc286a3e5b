"""What a run leaves to read: metrics.jsonl, TensorBoard events, the learning curve."""

import json
from typing import Any

from etils import epath
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter

from train.workdir import is_remote, replace_text


class MetricsLog:
    """``DIR/metrics.jsonl``, one object a step, and the same figures for TensorBoard.

    The file is a function of the run's settings alone: entries after the checkpoint that a run
    resumes from are dropped, and speeds go to TensorBoard only.
    """

    def __init__(self, workdir: epath.Path, resumed_at: int) -> None:
        self.path = workdir / "metrics.jsonl"
        kept = [entry for entry in read_metrics(self.path) if entry["step"] <= resumed_at]
        replace_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=resumed_at + 1)

    def write(self, step: int, figures: dict[str, float], speeds: dict[str, float]) -> None:
        """Adds an entry at once."""
        line = json.dumps({"step": step, **figures}) + "\n"
        if is_remote(self.path):  # nothing can be added to an object
            replace_text(self.path, self.path.read_text() + line)
        else:
            with self.path.open("a") as file:
                file.write(line)
        for name, value in {**figures, **speeds}.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes out the events."""
        self._events.close()


def read_metrics(path: epath.Path) -> list[dict[str, Any]]:
    """The entries of a metrics.jsonl; none of a missing file, nor a last line cut short."""
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
    groups: dict[str, list[str]] = {}  # what one panel shows: train/loss with eval/loss
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
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=100)
    return path
