"""The gRPC edge: servicers, interceptors and the codec of small things. Knows no torch."""
