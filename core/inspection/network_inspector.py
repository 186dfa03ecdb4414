"""A process that answers questions about networks, so that the process which asks needs no torch.

It reads a question per line from standard input and writes an answer per line to standard output, both JSON, and ends
at the end of its input or after two minutes without a question::

    {"question": "training_step", "config": {...}, "in_channels": 2, "classes": 4, "device": "cpu", "ignore": false}
    {"answer": {"parameters": 371892, "forward_gflop": 4.1, "training_gflop": 12.2, "step_bytes": 412000000}}

    {"question": "network", "model": {...}, "in_channels": 2, "classes": 4, "size": [64, 64, 64]}
    {"answer": {"parameters": 371892, "forward_gflop": 4.1, "stages": [{"kind": "encoder", "level": 0, ...}, ...]}}

What a configuration gets wrong is answered as ``{"error": "..."}``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TextIO

from core.config import ModelConfig, TrainConfig
from core.inspection.questions import IDLE_S, serve
from core.processes import reserve_stdout
from core.types import triple


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question, in the form of the module's docstring without its envelope.

    Raises
    ------
    UserError
        If the configuration cannot be used.
    """
    in_channels, classes = int(question["in_channels"]), int(question["classes"])
    if question["question"] == "training_step":
        from core.training.step_cost import TracedOutputs, trace_training_step

        config = TrainConfig.from_json(question["config"])
        outputs = TracedOutputs(classes, bool(question["ignore"]), bool(question.get("overlapping")))
        cost = trace_training_step(config, in_channels, outputs, question["device"])
        return dataclasses.asdict(cost)
    from core.models.network_trace import trace_network

    trace = trace_network(ModelConfig(**question["model"]), in_channels, classes, triple(question["size"]))
    stages = [dataclasses.asdict(stage) for stage in trace.stages]
    return {"parameters": trace.parameters, "forward_gflop": trace.forward_gflop, "stages": stages}


def main(answers: TextIO | None = None) -> None:
    """Answer questions until the end of the input, or until none has come for two minutes."""
    import torch

    torch.set_num_threads(1)
    serve(answer, "model: the network cannot be traced", answers, IDLE_S)


if __name__ == "__main__":
    main(reserve_stdout())
