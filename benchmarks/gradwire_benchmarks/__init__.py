"""Benchmarks: what it costs to train over the network, against the same work done elsewhere.

``gradwire bench`` starts servers, bare gRPC servers and processes with local torch, lets whoever is
compared take turns, and prints one table. Every ratio is of two things measured in the same round.
"""
