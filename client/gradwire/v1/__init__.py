"""Generated messages and stubs of the ``gradwire.v1`` contract, and tables shared by both ends."""
