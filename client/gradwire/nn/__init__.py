"""``torch.nn`` on the server: modules of torch by name, and the base for modules of your own."""

from gradwire.namespace import catalog_getattr
from gradwire.nn import functional as functional
from gradwire.nn import init as init
from gradwire.nn import utils as utils
from gradwire.nn.builtin import layer
from gradwire.nn.containers import ModuleDict as ModuleDict
from gradwire.nn.containers import ModuleList as ModuleList
from gradwire.nn.containers import Sequential as Sequential
from gradwire.nn.module import Module as Module
from gradwire.nn.parameter import Buffer as Buffer
from gradwire.nn.parameter import Parameter as Parameter
from gradwire.nn.parameter_containers import ParameterDict as ParameterDict
from gradwire.nn.parameter_containers import ParameterList as ParameterList
from gradwire.nn.triplet import TripletMarginWithDistanceLoss as TripletMarginWithDistanceLoss
from gradwire.v1.catalog import CLASSES, LOSSES, MODULES

_OWN = (
    "Buffer",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "Sequential",
    "TripletMarginWithDistanceLoss",
    "functional",
    "init",
    "utils",
)
__all__ = [  # noqa: PLE0604
    *_OWN,
    *(
        name.removeprefix("torch.nn.")
        for table in (MODULES, LOSSES, CLASSES)
        for name in table
        if name.startswith("torch.nn.") and name.count(".") == 2 and name.split(".")[2] not in _OWN
    ),
]

__getattr__, __dir__ = catalog_getattr("torch.nn", globals(), layer)
