"""``python -m zoo list [PATTERN]``, ``inspect FILE``, ``convert FILE OUT --model=NAME``."""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import zoo
from zoo.registry import family_of
from zoo.types import InputError
from zoo.weights import Checkpoint, LoadReport, fetch, open_checkpoint
from zoo.weights.choose import resembles
from zoo.weights.files import check_output
from zoo.weights.load import report_of

_NEW_SIZE = re.compile(r"\[(?:\d+, )*(\d+)\] in the file, \[(?:\d+, )*(\d+)\] in the model")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code; bad input gives one line on stderr and code 2."""
    parser = argparse.ArgumentParser(prog="python -m zoo", description=zoo.__doc__)
    commands = parser.add_subparsers(required=True, metavar="list | inspect | convert")

    command = commands.add_parser("list", help="print the models' names")
    command.add_argument("pattern", nargs="?", default="*", help="such as 'vit*'")
    command.set_defaults(run=_list)

    command = commands.add_parser("inspect", help="print a checkpoint's tensors and fitting models")
    command.add_argument("file", help="path, hf://owner/repo[/file][@revision] or https://...")
    command.set_defaults(run=_inspect)

    command = commands.add_parser("convert", help="write a checkpoint in another layout")
    command.add_argument("file", help="path, hf://owner/repo[/file][@revision] or https://...")
    command.add_argument("out", help="the safetensors file to write")
    command.add_argument("--model", required=True, help="one of `python -m zoo list`")
    command.add_argument("--source", help="whose tensor names the file has (default: detected)")
    command.add_argument("--to", default="zoo", help="whose tensor names to write (default: zoo)")
    command.add_argument(
        "--num-classes", type=_count, help="classes in the file, if not the model's"
    )
    command.set_defaults(run=_convert)

    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _count(text: str) -> int:
    """A number of classes: 0 is a model without a head."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _list(options: argparse.Namespace) -> None:
    names = zoo.list_models(options.pattern)
    if not names:
        raise InputError(f"no model matches {options.pattern!r}")
    print("\n".join(names))


def _inspect(options: argparse.Namespace) -> None:
    path = fetch(options.file)
    checkpoint = open_checkpoint(path)
    for line in [*_description(options.file, checkpoint), *_guess(options.file, checkpoint)]:
        print(line)
    tensors = list(checkpoint.items())
    sizes = sum(tensor.size for _, tensor in tensors)
    dtypes = Counter(str(tensor.dtype) for _, tensor in tensors)
    print(f"\n{path}: {checkpoint.format}, {len(checkpoint)} tensors, {sizes:,} numbers", end=", ")
    print(", ".join(f"{count} {dtype}" for dtype, count in dtypes.most_common()))
    for key, value in checkpoint.metadata.items():
        print(f"metadata: {key}: {value}")
    for name, tensor in tensors:
        print(f"{name:60} {tensor.dtype!s:9} {list(tensor.shape)}")


def _description(file: str, checkpoint: Checkpoint) -> list[str]:
    """A line on a file of `zoo.save` or a run; none for a file of another program."""
    if not (stored := checkpoint.description):
        return []
    fields = "".join(f", {name}={value!r}" for name, value in stored.fields.items())
    try:
        model = zoo.create(stored.name, **stored.fields)
        report = report_of(family_of(model), model, checkpoint, stored.source)[1]
    except (TypeError, ValueError) as error:  # such as a model of a later version
        return [f"describes itself as {stored.name}{fields}, which does not load: {error}"]
    loads = f"it does not fit: {report.error()}" if report.problems else f"zoo.load({file!r})"
    return [f"describes itself as {stored.name}{fields}: {loads}"]


def _guess(file: str, checkpoint: Checkpoint) -> list[str]:
    """Lines with the models that a checkpoint fits, best first, or why the nearest does not fit."""
    lengths = {tensor.size for tensor in checkpoint.values() if tensor.ndim == 1}
    models = {name: zoo.create(name) for name in zoo.list_models()}
    names = set(checkpoint)
    own = any(name.startswith("params/") for name in names)  # names that all families have
    found: dict[str, tuple[Any, LoadReport]] = {}
    for name, model in models.items():
        if not own and not resembles(family_of(model), model, names):
            continue
        if getattr(model, "hidden_dim", None) in {None, *lengths}:
            report = report_of(family_of(model), model, checkpoint, None, new_head=True)[1]
            found[name] = model, report
    fits = {name: (model, report) for name, (model, report) in found.items() if not report.problems}
    if not fits:
        nearest = min(found, key=lambda name: found[name][1].problems, default=None)
        why = f"; the nearest is {nearest}: {found[nearest][1].error()}" if nearest else ""
        return [f"looks like no model of the zoo{why}"]
    order = sorted(fits, key=lambda name: _distance(fits[name][1]))
    return [_fit(file, name, *fits[name]) for name in order]


def _distance(report: LoadReport) -> int:
    return len(report.resized) + len(report.reinitialised) + len(report.dropped)


def _fit(file: str, name: str, model: Any, report: LoadReport) -> str:
    """A line on a model that a file fits: how the file differs from it, and how to load it."""
    text, fields = f"looks like {name} ({report.source})", ""
    if report.resized:
        text += ", with its positions resized"
    if report.reinitialised:
        match = next(filter(None, map(_NEW_SIZE.match, report.reinitialised.values())), None)
        text += ", with another number of classes" if match else ", without a head"
        # A head may have more outputs than classes.
        count = int(match[1]) - int(match[2]) + model.num_classes if match else "N"
        fields = f", num_classes={count}"
    if left := sum(why.startswith("beside") for why in report.dropped.values()):
        text += f", beside {left} tensors of something else"
    return f"{text}: zoo.load({name!r}, {file!r}{fields})"


def _convert(options: argparse.Namespace) -> None:
    check_output(options.out, options.to)  # before the file is read
    fields = {} if options.num_classes is None else {"num_classes": options.num_classes}
    model, variables, report = zoo.load_with_report(
        options.model, options.file, options.source, param_dtype=None, **fields
    )
    if report.reinitialised:
        raise InputError(
            f"{options.file}: --num-classes={options.num_classes} would make a new head"
            f" ({next(iter(report.reinitialised.values()))}); give the file's number, or 0 for none"
        )
    names = _class_names(fetch(options.file))
    zoo.save(model, variables, options.out, options.to, class_names=names)
    print(report)
    print(f"wrote {options.out} in the layout of {options.to}")


def _class_names(path: Path) -> tuple[str, ...]:
    """The class names that a file or a run stores; empty if it stores none."""
    try:
        return zoo.class_names(path)
    except InputError:
        return ()


if __name__ == "__main__":
    sys.exit(main())
