"""Datasets: columns of samples in the storage or in files; a leaf above the storage, without torch.

Front and workers share it: the front stores and describes, the workers read.
"""
