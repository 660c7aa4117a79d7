"""Sessions: registry, order, once-only execution, limits, placement. Knows no torch and no gRPC."""
