"""Workers: a pool of processes, and the frames exchanged with them. Knows no torch and no gRPC."""
