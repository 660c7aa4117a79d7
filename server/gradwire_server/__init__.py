"""The gradwire server: a gRPC front process over a pool of PyTorch workers."""
