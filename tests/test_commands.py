"""Every command and every piece of Python in README and docs is executed, on tiny data.

Commands run in one folder, by a call of the module's `main`, with overrides that make them small.
The files that they name are made in this folder by `tests.samples`. If a command needs a run, the
run is made by the command for it on the same pages. Commands that cannot run here are listed with
the reason, and only their arguments are checked; a command of any other program is a failure.
"""

import contextlib
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import train.speed
import zoo
from tests.pages import (
    INDENTED,
    LANGUAGES,
    PAGES,
    ROOT,
    all_blocks,
    inline_commands,
    read_blocks,
    read_commands,
)
from tests.samples import TINY_DETR, TINY_MARIAN, provide
from train.config import override
from train.recipes import RECIPES
from zoo.data import prepare

SHORT = "--steps=2 --batch_size=2 --optim.warmup_steps=1 --log_every=1 --eval_every=2"
VIT = (
    "--model.num_layers=1 --model.hidden_dim=16 --model.mlp_dim=32 --model.num_heads=2"
    f" {SHORT} --batch_size=16 --data.eval_split=test[:32] --data.threads=2"
)
DECODER = (
    "--model.decoder_num_layers=1 --model.decoder_hidden_dim=8 --model.decoder_num_heads=2"
    " --model.decoder_mlp_dim=16"
)
DETR = (
    f"{SHORT} --optim.multipliers={{}} --data.buckets=[[64,64]]"
    " --data.short_sides=[] --data.random_crop=false --data.max_objects=8 --data.threads=2 "
    + " ".join(
        f"--model.{name}={json.dumps(value, separators=(',', ':'))}"
        for name, value in TINY_DETR.items()
    )
)
PIXELS = f"{SHORT} --data.image_size=32,32 --data.threads=2"
SIZES = " ".join(f"--model.{name}={value}" for name, value in TINY_MARIAN.items())
TEXTS = (
    f"{SIZES} {SHORT} --checkpoint_every=1 --data.vocab_size=300 --data.buckets=16,32"
    " --data.bundle_tokens=32"
)

# Arguments that make a command small, by words of the command after `python -m train[.doctor]`.
# If the words of several keys are all in the command, the longest key is used.
SMALL = {
    "detr_finetune": DETR,
    "detr_resnet50_coco --model.backbone=resnet18": (
        f"{SHORT} --data.buckets=[[64,64]] --data.short_sides=64 --data.random_crop=false"
        " --model.num_encoder_layers=1 --model.num_decoder_layers=1 --data.threads=2"
    ),
    "mae_digits": f"{VIT} {DECODER}",
    "mae_finetune_digits": VIT,
    "mae_linear_digits": VIT,
    "marian_finetune": f"{SIZES} {SHORT} --data.buckets=32,64 --data.bundle_tokens=64",
    "rcnn_digit_scenes": (
        f"{SHORT} --data.train_split=train[:64] --data.eval_split=test[:8] --data.threads=0"
        " --data.proposal_cache=cache"
    ),
    "transformer_number_words": TEXTS,
    "transformer_pairs": TEXTS,
    "unet_folder": (
        f"--model.name=unet --model.padding=same --model.depth=1 --model.base_dim=4 {PIXELS}"
        " --data.elastic=0"
    ),
    "unet_folder --model.name=unet_resnet34": f"{PIXELS} --data.elastic=0",
    "vit_b16_finetune": f"--model.name=vit_tiny_patch16_224 --model.scan_layers=true {PIXELS}",
    "vit_b16_finetune --model.name=resnet18": PIXELS,
    "vit_digits": f"{VIT} --model.patch_size=4 --data.mixup=0",
    "vit_s16_imagenet --data.source=folder:photos": (
        f"--model.num_layers=1 {PIXELS} --model.dtype=float32 --data.mixup=0"
        " --model.hidden_dim=16 --model.num_heads=2 --model.mlp_dim=32"
    ),
}

# Commands with these words need data or machines that a test does not have: only the recipe and its
# fields are checked.
NOT_HERE = ("BUCKET", "HOST:PORT", "oxford_flowers102", "vit_s16_imagenet --workdir=runs/s16")

# Programs that do not run in a test, and why.
NOT_RUN = {
    "cd": "goes with git clone",
    "gcloud": "needs a cloud",
    "git": "needs a network",
    "pip": "needs a network",
    "tensorboard": "is a server",
    "xpk": "needs a cluster",
}

# A command with one of these words, or that needs a run with one, takes more than a few seconds.
SLOW = (
    *("detr", "XLA_FLAGS", "marian", "opus-mt", "resnet18", "resnet34", "fsdp"),
    *("runs/boxes", "runs/mae", "runs/numbers", "runs/pairs", "runs/voc", "runs/photos"),
    *("mae_digits", "number_words", "transformer_pairs", "vit_b16", "vit_s16"),
    *("runs/tuned", "runs/scans", "runs/rcnn", "runs/svms", ".safetensors"),
)


def commands() -> list[tuple[str, list[str]]]:
    """Place and words of every command in an indented block."""
    return [
        command
        for block in all_blocks()
        if block.language == INDENTED
        for command in read_commands(block)
    ]


def as_params(items: list) -> list:
    """Parameters of a test; those that take long are marked as slow."""
    return [
        pytest.param(
            *item,
            id=item[0],
            marks=[pytest.mark.slow] if any(word in text for word in SLOW) else [],
        )
        for item in items
        for text in [item[0] + " " + (item[1] if isinstance(item[1], str) else " ".join(item[1]))]
    ]


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """The folder in which all commands run."""
    return tmp_path_factory.mktemp("desk")


def module_of(words: list[str]) -> tuple[str, list[str]]:
    """The module and the arguments of ``python [-u] -m MODULE ...``."""
    words = [word for word in words if word != "-u"]
    assert words[:2] == ["python", "-m"], shlex.join(words)
    return words[2], words[3:]


def check_training(arguments: list[str]) -> None:
    """Checks that the recipe exists and takes the fields."""
    if not arguments or arguments[0] == "RECIPE":
        return
    own = ("--workdir=", "--overfit_steps=", "--help")
    values = {"$JOB_COMPLETION_INDEX": "0", "REPOSITORY": "."}
    fields = [text for text in arguments[1:] if not text.startswith(own)]
    for name, value in values.items():
        fields = [text.replace(name, value) for text in fields]
    override(RECIPES[arguments[0]](), fields)


def check_speed(arguments: list[str]) -> None:
    """Checks that the models, or the recipe, exist and take the fields; test_speed.py measures."""
    options, fields = train.speed._parse(arguments)
    for pattern in options.models:
        assert zoo.list_models(pattern)
        for name in zoo.list_models(pattern):
            train.speed._config(name, options, fields)
    if options.loader:
        override(RECIPES[options.loader](), fields)


def small(arguments: list[str]) -> list[str]:
    """The arguments, with those added that make the command small."""
    fits = [key for key in SMALL if set(key.split()) <= set(arguments)]
    assert fits, f"add {arguments[0]} to SMALL or NOT_HERE"
    return [*arguments, *shlex.split(SMALL[max(fits, key=len)].replace('"', '\\"'))]


def run(words: list[str], folder: Path) -> None:
    """Runs a command in a folder, or checks its arguments if it cannot run here."""
    words = list(words)
    environment = {}
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
        return
    if words[0] in NOT_RUN:
        for training in re.findall(r"-m train ([^&>]*)", " ".join(words).replace("\\", "")):
            check_training(shlex.split(training))
        return
    module, arguments = module_of(words)
    if module == "train.speed":
        check_speed(arguments)
        return
    if module in ("train", "train.doctor"):
        check_training(arguments)
        if any(name in " ".join(arguments) for name in NOT_HERE):
            return
        arguments = small(arguments) if arguments else []
        if module == "train.doctor":
            arguments.append("--overfit_steps=0")
    needed = set(re.findall(r"(?<==)runs/\w+", " ".join(arguments)))
    made_by = {"train": "--workdir=", "train.svms": "--output="}.get(module)
    if made_by:
        needed -= {f"runs/{Path(text).name}" for text in arguments if text.startswith(made_by)}
    for name in sorted(needed) if module != "train.doctor" else []:
        provide_run(name, folder)
    provide(" ".join(arguments), folder)
    assert call(module, arguments, environment, folder) == 0


def call(module: str, arguments: list[str], environment: dict[str, str], folder: Path) -> int:
    """The exit code of a module's command; with environment variables it runs in a new process."""
    if environment:
        surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=folder, env=surroundings, check=False).returncode
    name = {"train": "train.__main__", "zoo": "zoo.__main__"}.get(module, module)
    with contextlib.chdir(folder):
        return importlib.import_module(name).main(arguments)


def provide_run(name: str, folder: Path) -> None:
    """Makes the run in the folder `name`, by the first command of the pages that makes it."""
    if (folder / name / "checkpoints").is_dir():
        return
    for _, words in commands():
        made_by = {"train": f"--workdir={name}", "train.svms": f"--output={name}"}
        if words[:2] == ["python", "-m"] and made_by.get(words[2]) in words:
            run(words, folder)
            return
    raise AssertionError(f"no command makes {name}")


@pytest.mark.parametrize(("place", "words"), as_params(commands()))
def test_command(place, words, desk, monkeypatch):
    monkeypatch.setattr(prepare, "prepare", lambda *_: desk)  # it would use the network
    run(words, desk)


@pytest.mark.parametrize(
    ("place", "words"), [pytest.param(*c, id=c[0]) for page in PAGES for c in inline_commands(page)]
)
def test_command_in_the_text(place, words):
    module, arguments = module_of(words)
    if module in ("train", "train.doctor"):
        check_training(arguments)
    else:
        assert importlib.util.find_spec(module)


PYTHON = [(block.place, block.text) for block in all_blocks() if block.language == "python"]


@pytest.mark.parametrize(("place", "code"), as_params(PYTHON))
def test_python(place, code, desk, capsys):
    """The code runs, and its comments on printed lines and shapes of arrays are true."""
    code = re.sub(r'"hf://[^"]*"', '"vit_tiny.safetensors"', code)  # no network
    for name in re.findall(r'"(runs/\w+)["/]', code):
        provide_run(name, desk)
    provide(code, desk)
    found: dict = {"zoo": zoo}
    with contextlib.chdir(desk):
        exec(compile(code, place, "exec"), found)
    printed = capsys.readouterr().out
    for text in re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE):
        assert text in printed
    for name, shape in re.findall(r"^\(?(\w+)\b.* = .*  # \[([\d, ]+)\]", code, re.MULTILINE):
        assert found[name].shape == tuple(map(int, shape.split(",")))


@pytest.mark.parametrize("page", PAGES)
def test_blocks_name_their_language(page):
    assert {block.language for block in read_blocks(page)} <= {INDENTED, *LANGUAGES}


def test_scripts_of_clusters_name_recipes_and_fields():
    scripts = [block.text for block in all_blocks() if block.language == "bash"]
    commands = [c for text in scripts for c in re.findall(r"-m train (.*)", text)]
    assert commands
    for command in commands:
        check_training(shlex.split(command))
