"""The engine: runs commands with torch, inside a worker process. Knows nothing above it."""
