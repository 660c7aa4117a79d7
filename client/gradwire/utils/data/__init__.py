"""Datasets, samplers and loaders with the names and the behaviour of torch.utils.data.

They run in the program and need no torch. Samples may be numpy arrays, gradwire tensors, tensors of
a local torch, or Python numbers; a loader yields gradwire tensors. The order of the samples is
torch's: under the same ``manual_seed`` a loader draws the same random numbers, from the random
state of the session, that torch's draws from that of the process.
"""

from gradwire.utils.data.collate import default_collate, default_convert
from gradwire.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from gradwire.utils.data.loader import DataLoader, get_worker_info
from gradwire.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
]
