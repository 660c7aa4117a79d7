"""``python -m gradwire_server``: the same as the command ``gradwire``."""

import sys

from gradwire_server.cli import main

if __name__ == "__main__":
    sys.exit(main())
