"""Two ways to launch a training step with less work for the host: torch.compile, and a recorded CUDA graph.

Both compute what the plain step computes. "auto" is the plain step on every device: neither pays on a CPU, and on a GPU
neither has been measured yet.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.config import Acceleration
from core.errors import ConfigError
from core.step import Batch, TrainingStep

WARM_UP_STEPS = 3  # before recording: libraries choose their algorithms and allocate what they keep


def accelerate(step: TrainingStep, how: Acceleration) -> None:
    """Make a step launch as the configuration wants.

    Raises
    ------
    ConfigError
        If a graph is wanted where none can be recorded.
    """
    if how == "compile":
        step.loss_of = torch.compile(step.loss_of, dynamic=False)  # type: ignore[method-assign]
    elif how == "graph":
        if step.device.type != "cuda":
            raise ConfigError(
                "acceleration: expected none, compile or auto on a CPU, got graph; it needs a CUDA device"
            )
        if step.config.accumulate > 1 or step.config.optimizer == "rmsprop":
            raise ConfigError("acceleration: a graph can be recorded with accumulate 1 and any optimizer but rmsprop")
        step.compute = _Recorded(step)  # type: ignore[method-assign]


class _Recorded:
    """The device's part of a step as one CUDA graph: recorded from the first batch, replayed for every other.

    Images and labels are copied to where the graph reads them; the learning rate is a tensor that is filled before.
    While the graph is prepared the latch of the step is closed, so that no weight moves.
    """

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.plain = step.compute
        self.graph: torch.cuda.CUDAGraph | None = None
        self.image = self.label = torch.empty(0)
        for group in step.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=step.device)
            if "capturable" in group:
                group["capturable"] = True

    def __call__(self, batches: Sequence[Batch]) -> None:
        ((image, label),) = batches
        if self.graph is None:
            self._record(image, label)
        assert self.graph is not None
        self.image.copy_(image, non_blocking=True)
        self.label.copy_(label, non_blocking=True)
        self.graph.replay()

    def _record(self, image: Tensor, label: Tensor) -> None:
        step = self.step
        self.image, self.label = image.clone(), label.clone()
        latch, total = step.latch.clone(), step.loss_sum.clone()
        step.latch.fill_(1)
        aside = torch.cuda.Stream(step.device)
        aside.wait_stream(torch.cuda.current_stream(step.device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_STEPS):
                self.plain([(self.image, self.label)])
        torch.cuda.current_stream(step.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # threads that stream data go on
            self.plain([(self.image, self.label)])
        step.latch.copy_(latch)
        step.loss_sum.copy_(total)
        self.graph = graph
