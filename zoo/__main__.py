"""``python -m zoo list [PATTERN]``, ``inspect FILE``, ``convert FILE OUT --model=NAME``."""

import argparse
import sys
from collections import Counter
from pathlib import Path

import zoo
from zoo.types import InputError
from zoo.weights import Checkpoint, LoadReport, fetch, load_report, open_checkpoint


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 2, after one line on stderr, for bad input."""
    parser = argparse.ArgumentParser(prog="python -m zoo", description=zoo.__doc__)
    commands = parser.add_subparsers(required=True, metavar="list | inspect | convert")

    command = commands.add_parser("list", help="the models' names")
    command.add_argument("pattern", nargs="?", default="*", help="such as 'vit*'")
    command.set_defaults(run=_list)

    command = commands.add_parser("inspect", help="what is in a checkpoint, and what it looks like")
    command.add_argument("file", help="path, hf://owner/repo[/file][@revision] or https://...")
    command.set_defaults(run=_inspect)

    command = commands.add_parser("convert", help="a checkpoint to safetensors of another layout")
    command.add_argument("file", help="path, hf://owner/repo[/file][@revision] or https://...")
    command.add_argument("out", help="the safetensors file to write")
    command.add_argument("--model", required=True, help="one of `python -m zoo list`")
    command.add_argument("--source", help="whose names the file has; found out if absent")
    command.add_argument("--to", default="zoo", help="whose names to write (default: zoo)")
    command.add_argument("--num-classes", type=_count, help="of the file, if not the model's")
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def _list(options: argparse.Namespace) -> None:
    names = zoo.list_models(options.pattern)
    if not names:
        raise InputError(f"no model matches {options.pattern!r}")
    print("\n".join(names))


def _inspect(options: argparse.Namespace) -> None:
    path = fetch(options.file)
    checkpoint = open_checkpoint(path)
    sizes, dtypes = 0, Counter()
    for name, tensor in checkpoint.items():
        print(f"{name:60} {tensor.dtype!s:9} {list(tensor.shape)}")
        sizes += tensor.size
        dtypes[str(tensor.dtype)] += 1
    print(f"\n{path}: {checkpoint.format}, {len(checkpoint)} tensors, {sizes:,} numbers", end=", ")
    print(", ".join(f"{count} {dtype}" for dtype, count in dtypes.most_common()))
    for key, value in checkpoint.metadata.items():
        print(f"metadata: {key}: {value}")
    for line in _guess(checkpoint):
        print(line)


def _guess(checkpoint: Checkpoint) -> list[str]:
    """The models that a checkpoint fits, best first, or why the nearest does not."""
    lengths = {tensor.size for tensor in checkpoint.values() if tensor.ndim == 1}
    reports: dict[str, LoadReport] = {}
    for name in zoo.list_models():
        model = zoo.create(name)
        if getattr(model, "hidden_dim", None) in {None, *lengths}:
            reports[name] = load_report(model, checkpoint.path, new_head=True)
    fits = {name: report for name, report in reports.items() if not report.problems}
    if not fits:
        nearest = min(reports, key=lambda name: reports[name].problems, default=None)
        why = f"; the nearest is {nearest}: {reports[nearest].error()}" if nearest else ""
        return [f"looks like no model of the zoo{why}"]
    order = sorted(fits, key=lambda name: len(fits[name].resized) + len(fits[name].reinitialised))
    return [f"looks like {name} ({fits[name].source}){_departures(fits[name])}" for name in order]


def _departures(report: LoadReport) -> str:
    resized = ", with its positions resized" if report.resized else ""
    return resized + (", with another number of classes" if report.reinitialised else "")


def _convert(options: argparse.Namespace) -> None:
    folder = Path(options.out).absolute().parent
    if not folder.is_dir():
        raise InputError(f"{options.out}: there is no folder {folder} to write it to")
    if Path(options.out).is_dir():
        raise InputError(f"{options.out}: a folder; give the name of a file to write")
    fields = {} if options.num_classes is None else {"num_classes": options.num_classes}
    model, variables, report = zoo.load_with_report(
        options.model, options.file, options.source, param_dtype=None, **fields
    )
    if report.reinitialised:
        raise InputError(
            f"{options.file}: --num-classes={options.num_classes} would make a new head"
            f" ({next(iter(report.reinitialised.values()))}); give the file's number, or 0 for none"
        )
    zoo.save(model, variables, options.out, options.to)
    print(report)
    print(f"wrote {options.out} in the layout of {options.to}")


if __name__ == "__main__":
    sys.exit(main())
