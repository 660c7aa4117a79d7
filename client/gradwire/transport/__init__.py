"""The way to the server: channel, calls, the Execute stream."""
