"""Launches a training step with less host work: torch.compile, a captured CUDA graph, or both.

Every mode computes the same step. "auto" is the eager step on a CPU, where no mode pays off. On a CUDA device it
captures a graph after some steps of the run, times it against the eager step and keeps the faster one; capturing takes
no longer than a few steps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from core.choices import Acceleration
from core.compute.device import empty_cache
from core.errors import ConfigError, first_line
from core.sampling.patches import Batch
from core.training.step import Launch, TrainingStep

CAPTURE_WARM_UP_STEPS = 3  # libraries choose algorithms and allocate workspaces before a capture
EAGER_STEPS = 10  # of a run, before a graph is tried
TIMED_STEPS = 5
MessageCallback = Callable[[str], None]


def accelerate(step: TrainingStep, mode: Acceleration, on_message: MessageCallback = lambda text: None) -> None:
    """Make a step launch in the configured mode.

    Parameters
    ----------
    step : TrainingStep. Not called yet.
    mode : str. Configured acceleration.
    on_message : callable. Called with a sentence once "auto" has chosen.

    Raises
    ------
    ConfigError
        If a graph is requested that cannot be captured.
    """
    obstacle = _capture_obstacle(step)
    if mode == "auto":
        if step.device.type == "cuda" and not obstacle and not torch.are_deterministic_algorithms_enabled():
            step.launch = AutoLauncher(step, on_message)
        return
    if mode in ("compile", "compiled_graph"):
        step.compute_loss = torch.compile(step.compute_loss, dynamic=False)  # type: ignore[method-assign]
    if mode in ("graph", "compiled_graph"):
        if step.device.type != "cuda":
            where = "a CPU" if step.device.type == "cpu" else step.device.type
            raise ConfigError(
                f"acceleration: expected none, compile or auto on {where}, got {mode}, which needs a CUDA device"
            )
        if obstacle:
            raise ConfigError(f"acceleration: {obstacle}, got {mode}; choose none, compile or auto")
        step.launch = CudaGraphLauncher(step)


class CudaGraphLauncher:
    """The device work of a step as one CUDA graph, captured at the first batch and replayed for every batch.

    Images and labels are copied to the graph's input tensors; the learning rate is a tensor that is filled before.
    """

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.graph: torch.cuda.CUDAGraph | None = None
        self.image = self.label = torch.empty(0)
        self.learning_rates = [group["lr"] for group in step.optimizer.param_groups]

    def __call__(self, batches: Sequence[Batch]) -> None:
        ((image, label),) = batches
        if self.graph is None:
            self.capture(image, label)
        assert self.graph is not None
        self.image.copy_(image, non_blocking=True)
        self.label.copy_(label, non_blocking=True)
        self.graph.replay()

    def capture(self, image: Tensor, label: Tensor) -> None:
        """Capture a step on a batch of this size; weights and optimizer state do not change."""
        step = self.step
        for group in step.optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], device=step.device)
            if "capturable" in group:
                group["capturable"] = True
        self.image, self.label = image.clone(), label.clone()
        current, side = torch.cuda.current_stream(step.device), torch.cuda.Stream(step.device)
        # A failed capture leaves torch on its own stream; the outer context restores the current one.
        with frozen_training_state(step), torch.cuda.stream(current):
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(CAPTURE_WARM_UP_STEPS):
                    step.compute([(self.image, self.label)])
            current.wait_stream(side)
            step.optimizer.zero_grad(set_to_none=True)  # frees the gradients' memory before the capture
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may stream data
                step.compute([(self.image, self.label)])
        self.graph = graph

    def release(self) -> None:
        """Free the memory of the capture, so that the eager step can continue."""
        self.graph = None
        self.image = self.label = torch.empty(0)
        self.step.optimizer.zero_grad(set_to_none=True)  # gradients are in the graph's memory
        for group, learning_rate in zip(self.step.optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = learning_rate
            if "capturable" in group:
                group["capturable"] = False
        empty_cache(self.step.device)


class AutoLauncher:
    """The eager step, replaced after :data:`EAGER_STEPS` by a CUDA graph if that is faster."""

    def __init__(self, step: TrainingStep, on_message: MessageCallback) -> None:
        self.step, self.on_message = step, on_message
        self.eager_steps_left = EAGER_STEPS

    def __call__(self, batches: Sequence[Batch]) -> None:
        if self.eager_steps_left:
            self.eager_steps_left -= 1
            self.step.compute(batches)
            return
        self.step.launch = self._choose(batches)
        self.step.launch(batches)

    def _choose(self, batches: Sequence[Batch]) -> Launch:
        graph, failure = CudaGraphLauncher(self.step), ""
        eager_s = graph_s = 0.0
        try:
            with frozen_training_state(self.step):
                eager_s = self._time(self.step.compute, batches)
                graph.capture(*batches[0])
                graph_s = self._time(graph, batches)
        except RuntimeError as error:  # includes out-of-memory errors: the eager step has been shown to fit
            failure = _root_cause(error)
        if failure:  # outside the except block, where the error no longer references the capture's tensors
            graph.release()
            self.on_message(f"steps are launched one by one: a CUDA graph could not be captured ({failure})")
            return self.step.compute
        times = f"{1000 * graph_s:.2f} ms as a CUDA graph, {1000 * eager_s:.2f} ms launched one by one"
        if graph_s < eager_s:
            self.on_message(f"steps are launched as a CUDA graph: {times}")
            return graph
        graph.release()
        self.on_message(f"steps are launched one by one: {times}")
        return self.step.compute

    def _time(self, launch: Launch, batches: Sequence[Batch]) -> float:
        """Mean seconds of a step; synchronises with the device before and after."""
        synchronise = torch.cuda.synchronize if self.step.device.type == "cuda" else lambda device: None
        synchronise(self.step.device)
        started = time.perf_counter()
        for _ in range(TIMED_STEPS):
            launch(batches)
        synchronise(self.step.device)
        return (time.perf_counter() - started) / TIMED_STEPS


@contextlib.contextmanager
def frozen_training_state(step: TrainingStep) -> Iterator[None]:
    """While the block runs, steps change neither weights nor optimizer state: ``found_inf`` is set. Buffers and the
    running loss are restored afterwards."""
    saved = [step.found_inf, step.loss_sum, *step.model.buffers()]
    values = [tensor.clone() for tensor in saved]
    step.found_inf.fill_(1)
    try:
        yield
    finally:
        for tensor, value in zip(saved, values, strict=True):
            tensor.copy_(value)


def _root_cause(error: BaseException) -> str:
    """First line of the first error of a chain; later ones ("capture failed") only follow from it."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(error)


def _capture_obstacle(step: TrainingStep) -> str:
    """Why a step cannot be captured as a CUDA graph, as the beginning of a message; empty if it can."""
    if step.config.accumulate > 1:
        return f"a CUDA graph needs accumulate 1, found {step.config.accumulate}"
    if step.config.optimizer == "rmsprop":
        return "a CUDA graph supports every optimizer but rmsprop"
    if step.distributed.world_size > 1:
        return "a CUDA graph needs a single device"
    if step.scaler.is_enabled():
        return "a CUDA graph needs another precision than fp16, whose gradient scaler it cannot hold"
    return ""
