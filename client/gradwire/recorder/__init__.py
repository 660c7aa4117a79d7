"""The recorder: operations are written to a tape and sent as programs when a value is wanted."""
