"""What a person sees of runs and models: numbers, tables, plots, HTML, TensorBoard and MLflow."""

import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradwire
from gradwire.loggers import Logger, MLflow, TensorBoard
from gradwire.nn import Module
from gradwire.runs import Run
from gradwire.session import Session
from gradwire.v1 import runs_pb2, runs_pb2_grpc

STEPS, EPOCHS = 12, 3


def trained(loggers: list[Logger] | None = None, **options: Any) -> Run:
    """Trains for 3 epochs of 4 steps, with an evaluation after each."""
    numbers = np.random.default_rng(0)
    inputs = numbers.standard_normal((16, 3), dtype=np.float32)
    data = inputs, inputs.sum(1, keepdims=True)
    gradwire.manual_seed(0)
    model = gradwire.nn.Linear(3, 1)
    optimizer = gradwire.optim.SGD(model.parameters(), lr=0.1)
    run: Run = gradwire.train(
        model,
        data,
        loss=gradwire.nn.MSELoss(),
        optimizer=optimizer,
        scheduler=gradwire.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
        epochs=EPOCHS,
        batch_size=4,
        validation=data,
        metrics=["mae"],
        name="a <small> run",
        loggers=loggers or [],
        **options,
    )
    return run


def test_the_history_of_a_run_has_each_step_and_each_evaluation(session: Session) -> None:
    history = trained().history

    assert history["step"].tolist() == list(range(1, STEPS + 1))
    assert history["epoch"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert history["learning_rate"].tolist() == [0.1] * 4 + [0.05] * 4 + [0.025] * 4
    assert np.isfinite(history["loss"]).all()
    assert history["grad_norm"][-1] > 0
    assert history["seconds"][-1] > 0
    assert history["validation_step"].tolist() == [4, 8, 12]
    assert history["validation_epoch"].tolist() == [1, 2, 3]
    assert history["validation_loss"][0] > history["validation_loss"][-1] > 0
    assert history["mae"].shape == (EPOCHS,)


def test_events_are_ten_a_second_at_most_and_none_of_their_values_is_lost(
    session: Session,
) -> None:
    model = gradwire.nn.Linear(1, 1)
    inputs = np.array([[1.0], [2.0]], np.float32)
    inputs[1] = np.nan  # each second step is left out, with a warning
    run = gradwire.train(
        model,
        (inputs, inputs),
        loss=gradwire.nn.MSELoss(),
        optimizer=gradwire.optim.SGD(model.parameters(), lr=0.01),
        epochs=200,
        batch_size=1,
        shuffle=False,
        validation=(inputs[:1], inputs[:1]),
        on_nonfinite="skip",
        checkpoint={"every_steps": 40, "keep_last": 4},
    )

    stub = runs_pb2_grpc.RunServiceStub(session.channel)
    responses = session.stream(stub.WatchRun, runs_pb2.WatchRunRequest(name=run.name))
    events = [response.event for response in responses]
    seconds = [event.time.ToNanoseconds() / 1e9 for event in events]
    assert all(
        later - earlier >= 1.0 for earlier, later in zip(seconds, seconds[10:], strict=False)
    )
    history = run.history
    assert len(run.losses) == 400
    assert history["validation_epoch"].tolist() == list(range(1, 201))
    assert history["validation_step"].tolist() == list(range(2, 402, 2))
    assert history["validation_loss"][-1] == run.validation["validation_loss"]
    assert len(run.warnings) == 200
    steps = [checkpoint.rpartition("-")[2].lstrip("0") for checkpoint in run.checkpoints]
    assert steps == ["280", "320", "360", "400"]


def test_a_run_becomes_a_table_of_pandas(session: Session) -> None:
    run = trained()

    table = run.to_pandas()

    assert table["step"].tolist() == list(range(1, STEPS + 1))
    assert table["loss"].tolist() == run.losses
    evaluated = table.dropna(subset=["mae"])
    assert evaluated["step"].tolist() == [4, 8, 12]
    assert evaluated["validation_loss"].tolist() == run.history["validation_loss"].tolist()


def test_a_run_is_plotted_with_loss_and_metrics_above_the_learning_rate(
    session: Session, tmp_path: Path
) -> None:
    run = trained()

    figure = run.plot()

    losses, rates, metrics = figure.axes
    assert losses.get_title() == "a <small> run"
    labels = {line.get_label(): line for line in (*losses.get_lines(), *metrics.get_lines())}
    assert set(labels) == {"loss", "validation loss", "mae"}
    assert labels["loss"].get_ydata().tolist() == run.losses
    assert labels["mae"].get_xdata().tolist() == [4, 8, 12]
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(labels)
    assert metrics.get_ylabel() == "mae"
    assert rates.get_ylabel() == "learning rate"
    assert rates.get_lines()[0].get_ydata().tolist() == run.history["learning_rate"].tolist()
    assert rates.get_position().y1 <= losses.get_position().y0
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_notebook_shows_runs_and_models_as_html(session: Session) -> None:
    run = trained()
    shown = run._repr_html_()
    assert run.name in shown
    assert "SUCCEEDED" in shown
    assert "validation loss" in shown
    assert "<svg" in shown

    class Net(Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = gradwire.nn.Linear(3, 2)

        def extra_repr(self) -> str:
            return "<script>"

    shown = Net()._repr_html_()
    assert "8 parameters" in shown
    assert "layer.weight" in shown
    assert "(2, 3)" in shown
    assert "Linear(in_features=3, out_features=2, bias=True)" in shown
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize("attached", [False, True], ids=["while it trains", "afterwards"])
def test_tensorboards_own_reader_finds_all_numbers(
    session: Session, tmp_path: Path, attached: bool
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trained([TensorBoard(tmp_path)])
    if attached:
        # A second file, which takes the place of the first.
        gradwire.runs.attach(run.name, loggers=[TensorBoard(tmp_path)])

    read = EventAccumulator(str(tmp_path)).Reload()
    numbers = {tag: read.Scalars(tag) for tag in read.Tags()["scalars"]}

    history = run.history
    assert [n.step for n in numbers["loss"]] == history["step"].tolist()
    for name in ("loss", "learning_rate"):
        expected = history[name].astype(np.float32).tolist()
        assert [n.value for n in numbers[name]] == expected
    assert [n.step for n in numbers["mae"]] == [4, 8, 12]
    for name in ("mae", "validation_loss"):
        expected = history[name].astype(np.float32).tolist()
        assert [n.value for n in numbers[name]] == expected
    assert {"epoch", "grad_norm", "samples_per_second"} <= set(numbers)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_mlflow_keeps_a_run_with_its_numbers_and_its_end(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    logger = MLflow("digits", tracking_uri=address, params={"hidden": 3})

    run = trained([logger])

    from mlflow import MlflowClient

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_id == logger.run_id
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "a <small> run"
    assert found.data.tags["gradwire.run"] == run.name
    assert found.data.params["num_steps"] == str(STEPS)
    assert found.data.params["hidden"] == "3"
    losses = client.get_metric_history(logger.run_id, "loss")
    assert sorted((m.step, m.value) for m in losses) == list(enumerate(run.losses, 1))
    assert found.data.metrics["mae"] == run.validation["mae"]
    del client
    gc.collect()


def test_a_logger_that_fails_is_left_out_and_the_run_goes_on(session: Session) -> None:
    class Full:
        num_calls = 0

        def update(self, event: Any, history: Any) -> None:
            self.num_calls += 1
            raise OSError("No space left on device")

        def close(self) -> None:
            raise AssertionError("it was left out")

    full = Full()
    with pytest.warns(RuntimeWarning, match=r"Full failed .* while the run goes on: OSError: No s"):
        run = trained([full])

    assert run.state == "SUCCEEDED"
    assert full.num_calls == 1


def test_what_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)

    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gradwire\[mlflow\]'"):
        MLflow()
