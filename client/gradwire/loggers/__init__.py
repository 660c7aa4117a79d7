"""Where else the numbers of runs go: to TensorBoard, to MLflow, or wherever a logger takes them.

::

    from gradwire.loggers import MLflow, TensorBoard

    gradwire.train(..., loggers=[TensorBoard("logs/digits"), MLflow(experiment="digits")])

A logger hears of what the program itself hears of: give it to `gradwire.train`, or to
`gradwire.runs.attach`, which replays a run from its first event on.
"""

from gradwire.loggers.logger import Logger, Scalar, scalars
from gradwire.loggers.mlflow import MLflow
from gradwire.loggers.tensorboard import TensorBoard

__all__ = ["Logger", "MLflow", "Scalar", "TensorBoard", "scalars"]
