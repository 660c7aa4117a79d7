"""The entries of all tables, and how a process of its own runs one."""

import warnings

import torch

import gradwire
from tests.conformance import modules, operations, optimizers
from tests.conformance.outcomes import Outcome
from tests.conformance.report import reason

Entry = tuple[str, str]
"""A table and the name of an entry of it."""


def all_entries() -> list[Entry]:
    """Returns the entries of all tables."""
    return [
        *(("op_db", name) for name in operations.entries()),
        *(("module_db", name) for name in modules.entries()),
        *(("optim_db", name) for name in optimizers.entries()),
    ]


def run(entry: Entry, *, num_first: int, num_other: int) -> Outcome:
    """Runs an entry in the session of this process.

    Args:
        entry: The entry.
        num_first: How many samples of the main variant to run.
        num_other: How many of each other variant.
    """
    table, name = entry
    counts = {"num_first": num_first, "num_other": num_other}
    if table == "op_db":
        outcome = operations.run(name, operations.entries()[name], **counts)
    elif table == "module_db":
        outcome = modules.run(name, modules.entries()[name], **counts)
    else:
        outcome = optimizers.run(name, optimizers.entries()[name])
    for label, missing in outcome.not_allowed.items():
        try:
            reason(missing)
        except LookupError as error:
            outcome.failures[label] = str(error)
    return outcome


def prepare(address: str) -> None:
    """Sets a process up to run entries on the server at an address."""
    gradwire.connect(address)
    # The samples of the tables provoke warnings of torch on purpose.
    warnings.simplefilter("ignore")
    # As the worker: the number of threads decides the order in which sums are computed.
    torch.set_num_threads(1)
