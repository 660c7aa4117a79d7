"""What operators see of a server: figures, metrics, traces, the audit log. Nothing below knows it.

Whatever a floor counts, it counts for itself in plain numbers; this package reads them.
"""
