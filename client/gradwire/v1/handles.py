"""Bounds of handles, shared by client and server.

Handles below :data:`FIRST_SERVER_HANDLE` are chosen by the client of an Execute stream, those
from it on by the server, for values that unary calls leave behind.
"""

FIRST_SERVER_HANDLE = 1 << 40
