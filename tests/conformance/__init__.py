"""Conformance with torch's own test tables.

The tables ship inside torch: ``op_db``, ``module_db`` and ``optim_db``. Each entry is run twice, by
local torch and by the SDK on a real server, and what comes back is compared.
``python -m tests.conformance`` runs all entries and writes ``docs/conformance.md``; the tests in
this folder run a selection.
"""

from unittest import mock

import torch

# Importing torch's tables ends the setting of torch.backends' flags for the whole process, and what
# other tests of the process set them for with it.
with mock.patch.object(torch.backends, "disable_global_flags"):
    import torch.testing._internal.common_utils
