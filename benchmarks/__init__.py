"""Benchmarks: what it costs to train over the network, against the same work done here.

`python -m benchmarks` starts a server, a bare gRPC server and a process with local torch, lets all
of them take turns, and prints one table. Every ratio is of two things measured in the same round.
"""
