"""Reading public checkpoints, and the name maps, one file a source."""

from zoo.weights.convert import LoadReport
from zoo.weights.files import METADATA, Checkpoint, open_checkpoint
from zoo.weights.hub import fetch
from zoo.weights.load import load_report, load_variables, save_variables
from zoo.weights.marian import read_marian_fields
from zoo.weights.run import fields_from_json, fields_to_json, read_run

__all__ = [
    "METADATA",
    "Checkpoint",
    "LoadReport",
    "fetch",
    "fields_from_json",
    "fields_to_json",
    "load_report",
    "load_variables",
    "open_checkpoint",
    "read_marian_fields",
    "read_run",
    "save_variables",
]
