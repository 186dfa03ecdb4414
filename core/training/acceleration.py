"""Ways to launch a training step with less work for the host: torch.compile, a recorded CUDA graph, or both.

All of them compute what the plain step computes. "auto" is the plain step on a CPU, where none of them pays. On a CUDA
device a graph, which takes no longer to make than a few steps, is recorded after some steps of the run and timed beside
the plain step; the faster one goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from core.compute.device import empty_cache
from core.config import Acceleration
from core.errors import ConfigError, first_line
from core.sampling.patches import Batch
from core.training.step import Launch, TrainingStep

WARM_UP_STEPS = 3  # before recording: libraries choose their algorithms and allocate what they keep
PLAIN_STEPS = 10  # of a run, before a graph is tried
TIMED_STEPS = 5
Tell = Callable[[str], None]


def accelerate(step: TrainingStep, how: Acceleration, tell: Tell = lambda words: None) -> None:
    """Make a step launch as the configuration wants.

    Parameters
    ----------
    step : not called yet.
    how : the configured way.
    tell : called with a sentence once "auto" has found what is faster.

    Raises
    ------
    ConfigError
        If a graph is wanted where none can be recorded.
    """
    if how == "auto":
        if step.device.type == "cuda" and not _obstacle(step) and not torch.are_deterministic_algorithms_enabled():
            step.launch = AutoLauncher(step, tell)
        return
    if how in ("compile", "compiled_graph"):
        step.loss_of = torch.compile(step.loss_of, dynamic=False)  # type: ignore[method-assign]
    if how in ("graph", "compiled_graph"):
        if step.device.type != "cuda":
            raise ConfigError(
                f"acceleration: expected none, compile or auto on a CPU, got {how}; it needs a CUDA device"
            )
        if obstacle := _obstacle(step):
            raise ConfigError(f"acceleration: {obstacle}, got {how}; choose none, compile or auto")
        step.launch = RecordedStep(step)


class RecordedStep:
    """The device's part of a step as one CUDA graph: recorded from the first batch, replayed for every other.

    Images and labels are copied to where the graph reads them; the learning rate is a tensor that is filled before.
    """

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.graph: torch.cuda.CUDAGraph | None = None
        self.image = self.label = torch.empty(0)
        self.rates = [group["lr"] for group in step.optimizer.param_groups]

    def __call__(self, batches: Sequence[Batch]) -> None:
        ((image, label),) = batches
        if self.graph is None:
            self.record(image, label)
        assert self.graph is not None
        self.image.copy_(image, non_blocking=True)
        self.label.copy_(label, non_blocking=True)
        self.graph.replay()

    def record(self, image: Tensor, label: Tensor) -> None:
        """Record a step on a batch of that size; nothing that is trained moves."""
        step = self.step
        for group in step.optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], device=step.device)
            if "capturable" in group:
                group["capturable"] = True
        self.image, self.label = image.clone(), label.clone()
        usual, aside = torch.cuda.current_stream(step.device), torch.cuda.Stream(step.device)
        with (
            frozen_training_state(step),
            torch.cuda.stream(usual),
        ):  # where recording fails torch leaves its own stream behind
            aside.wait_stream(usual)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP_STEPS):
                    step.compute([(self.image, self.label)])
            usual.wait_stream(aside)
            step.optimizer.zero_grad(set_to_none=True)  # their memory too is given back before recording
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # threads that stream data go on
                step.compute([(self.image, self.label)])
        self.graph = graph

    def forget(self) -> None:
        """Give back what recording took; the plain step goes on as before."""
        self.graph = None
        self.image = self.label = torch.empty(0)
        self.step.optimizer.zero_grad(set_to_none=True)  # gradients lie in the graph's memory
        for group, rate in zip(self.step.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = False
        empty_cache(self.step.device)


class AutoLauncher:
    """The plain step, and after some of them whichever is faster: that, or its recording."""

    def __init__(self, step: TrainingStep, tell: Tell) -> None:
        self.step, self.tell = step, tell
        self.left = PLAIN_STEPS

    def __call__(self, batches: Sequence[Batch]) -> None:
        if self.left:
            self.left -= 1
            self.step.compute(batches)
            return
        self.step.launch = self._choose(batches)
        self.step.launch(batches)

    def _choose(self, batches: Sequence[Batch]) -> Launch:
        recorded, reason = RecordedStep(self.step), ""
        plain_s = graph_s = 0.0
        try:
            with frozen_training_state(self.step):
                plain_s = self._seconds(self.step.compute, batches)
                recorded.record(*batches[0])
                graph_s = self._seconds(recorded, batches)
        except RuntimeError as error:  # too little memory for both, too: the plain step has proved to fit
            reason = _first_cause(error)
        if reason:  # only now nothing holds what the recording took
            recorded.forget()
            self.tell(f"steps are launched one by one: a CUDA graph could not be recorded ({reason})")
            return self.step.compute
        times = f"{1000 * graph_s:.2f} ms as a CUDA graph, {1000 * plain_s:.2f} ms launched one by one"
        if graph_s < plain_s:
            self.tell(f"steps are launched as a CUDA graph: {times}")
            return recorded
        recorded.forget()
        self.tell(f"steps are launched one by one: {times}")
        return self.step.compute

    def _seconds(self, launch: Launch, batches: Sequence[Batch]) -> float:
        """Seconds of a step; waits for the device before and after."""
        wait = torch.cuda.synchronize if self.step.device.type == "cuda" else lambda device: None
        wait(self.step.device)
        began = time.perf_counter()
        for _ in range(TIMED_STEPS):
            launch(batches)
        wait(self.step.device)
        return (time.perf_counter() - began) / TIMED_STEPS


@contextlib.contextmanager
def frozen_training_state(step: TrainingStep) -> Iterator[None]:
    """While the block runs steps may be taken, and nothing that is trained moves: the latch is closed, so no update
    reaches the weights or the optimizer's state; buffers and the sum of the loss are put back afterwards."""
    kept = [step.latch, step.loss_sum, *step.model.buffers()]
    values = [tensor.clone() for tensor in kept]
    step.latch.fill_(1)
    try:
        yield
    finally:
        for tensor, value in zip(kept, values, strict=True):
            tensor.copy_(value)


def _first_cause(error: BaseException) -> str:
    """The first line of what went wrong first; that a recording has failed is only what follows from it."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(error)


def _obstacle(step: TrainingStep) -> str:
    """Why a step cannot be recorded, as the beginning of a message; empty if it can."""
    if step.config.accumulate > 1:
        return f"a graph can be recorded with accumulate 1, found {step.config.accumulate}"
    if step.config.optimizer == "rmsprop":
        return "a graph can be recorded with any optimizer but rmsprop"
    if step.distributed.world_size > 1:
        return "a graph is recorded on one device"
    return ""
