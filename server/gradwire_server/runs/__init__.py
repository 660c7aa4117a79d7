"""Runs: what the server keeps of them, and what lets them outlive callers, workers and itself."""
