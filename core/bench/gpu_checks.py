"""Checks of what training and inference do on a GPU, each run in a process of its own by :mod:`core.bench.gpu_check`.

``python -m core.bench.gpu_checks NAME DEVICE`` runs one and prints its result as one line of JSON. A check returns a
sentence about what was found, and raises :class:`CheckFailed` where that is wrong.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.augmentation.augmenter import Augmenter
from core.bench.gpu_check_cases import (
    SIZES,
    STEPS,
    CheckFailed,
    describe_fall,
    expect_close,
    gradient_norm,
    make_batch,
    make_subjects,
    make_task,
    small_config,
    train_steps,
    training_step,
)
from core.bench.implementations import CLASSES, DICE_CE, IN_CHANNELS, plain_unet
from core.bench.machine import defaults_of
from core.bench.timing import PeakMemory
from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import LAST
from core.choices import Acceleration
from core.compute.determinism import deterministic
from core.compute.device import resolve_device
from core.compute.distributed import init_process_group
from core.compute.precision import resolve_precision
from core.inference.sliding_window import InferenceOptions, predict_logits
from core.losses.build import build_loss
from core.models.build import build_model
from core.presets import preset
from core.processes import module_command, run_limited
from core.sampling.patches import PatchLocation, ResidentSubjects
from core.sampling.streaming import StreamedSubjects
from core.training.step import TrainingStep
from core.training.step_cost import trace_training_step
from core.training.trainer import fit

TOLERANCE = {"fp32": 0.01, "bf16": 0.05, "fp16": 0.05}  # of the first loss, relative to fp32 on the CPU
NEEDED = ("core", "torch", "numpy")  # without them, nothing can be checked
PROCESSES_S = 80.0  # longest duration of two processes, within the limit of their check


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    run : callable. Takes the device; returns a sentence about what was found.
    title : str. What is checked, in a few words.
    limit_s : float. Longest duration.
    gpus : int. CUDA devices it needs; 0: it runs on a CPU too.
    """

    run: Callable[[torch.device], str]
    title: str
    limit_s: float = 60.0
    gpus: int = 0


def run_check(name: str, device_name: str) -> dict[str, Any]:
    """Run a check in this process; returns its status ("passed", "failed", or "skipped" where a
    package is missing) and sentence."""
    torch.manual_seed(0)
    try:
        status, sentence = "passed", CHECKS[name].run(resolve_device(device_name))
    except CheckFailed as error:
        status, sentence = "failed", str(error)
    except ModuleNotFoundError as error:
        status, sentence = "skipped", f"needs the package {error.name}, which is not installed here"
        if str(error.name).partition(".")[0] in NEEDED:
            status, sentence = "failed", str(error)
    except Exception as error:  # noqa: BLE001 - any failure is the result of the check
        status, sentence = "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return {"status": status, "sentence": sentence}


# --- training steps ---------------------------------------------------------------------------------------------------


def _steps_in(precision: str) -> Callable[[torch.device], str]:
    def check(device: torch.device) -> str:
        losses = train_steps(device, precision)
        reference = train_steps(torch.device("cpu"), "fp32", steps=1)[0]
        expect_close(
            losses[0], reference, TOLERANCE[precision], f"the first loss in {precision} and in fp32 on the CPU"
        )
        return f"first loss {losses[0]:.4f}, on the CPU in fp32 {reference:.4f}; {describe_fall(losses)}"

    return check


def _accelerated(mode: Acceleration) -> Callable[[torch.device], str]:
    def check(device: torch.device) -> str:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        precision, messages = "bf16" if native else "fp32", list[str]()  # CUDA graphs have no fp16
        losses, eager = train_steps(device, precision, mode, messages.append), train_steps(device, precision)
        expect_close(losses[0], eager[0], TOLERANCE[precision], f"the first loss with {mode} and that without")
        expect_close(losses[-1], eager[-1], 0.2, f"the last loss with {mode} and that without")
        if mode == "auto" and not messages:
            raise CheckFailed(f"expected a decision between graph and single launches after {STEPS} steps, got none")
        return "; ".join([f"last loss {losses[-1]:.4f}, without {eager[-1]:.4f}", *messages])

    return check


def _non_finite(device: torch.device) -> str:
    step, (image, label) = training_step(device, "fp32"), make_batch(device)
    step([(image, label)], 0.01, 1)
    before = [p.detach().clone() for p in step.model.parameters()]
    broken = image.clone()
    broken[0, 0, 0, 0, 0] = float("nan")
    step([(broken, label)], 0.01, 2)
    step([(image, label)], 0.01, 3)
    _, failed = step.read_loss()
    if failed != 2:
        raise CheckFailed(f"expected step 2 to be named as the first without a finite gradient, got {failed}")
    if not all(torch.equal(one, other) for one, other in zip(before, step.model.parameters(), strict=True)):
        raise CheckFailed(
            "expected the weights to stay as they were before a gradient that is not finite, they changed"
        )
    return "a NaN in the image sets the flag on the device, its step is named, and no weight changes from then on"


def _deterministic(device: torch.device) -> str:
    with deterministic(True):
        one, other = (train_steps(device, "fp32", steps=6) for _ in range(2))
    if one != other:
        raise CheckFailed(f"expected two runs of the same seed to be equal bit for bit, got losses {one} and {other}")
    return f"two runs of {len(one)} steps gave the same losses bit for bit, the last one {one[-1]!r}"


def _memory(device: torch.device) -> str:
    lines, ratios = [], []
    for size, batch in (((64, 64, 64), 2), ((96, 96, 96), 2)):
        config = replace(small_config(device), model=plain_unet((32, 64, 128, 256)))
        config = config.with_values({"sub_volume": size, "batch_size": batch, "precision": "bf16", "loss": "dice_ce"})
        estimated = trace_training_step(config, IN_CHANNELS, CLASSES, "cuda").step_bytes
        memory = PeakMemory(device)
        step = TrainingStep(
            build_model(config.model, IN_CHANNELS, CLASSES).to(device), build_loss(config.loss), config.optim, "bf16"
        )
        image, label = make_batch(device, size, batch)
        for number in range(3):
            step([(image, label)], 0.01, number)
        torch.cuda.synchronize(device)
        allocated, reserved = torch.cuda.max_memory_allocated(device), memory.read_mb() or 0.0
        ratios.append(allocated / estimated)
        lines.append(
            f"{size[0]}^3 x {batch}: estimated {estimated / 1e6:.0f} MB, allocated {allocated / 1e6:.0f}, "
            f"reserved {reserved:.0f}"
        )
        del step, image, label
    if not all(0.6 < ratio < 1.4 for ratio in ratios):
        raise CheckFailed(f"expected the estimate within 40 % of what was allocated: {'; '.join(lines)}")
    return "; ".join(lines)


# --- data -------------------------------------------------------------------------------------------------------------


def _resident_and_streamed(device: torch.device) -> str:
    size = SIZES[defaults_of(device)]
    subjects, locations = make_subjects(size), [PatchLocation(n % 2, (n, n + 1, 2)) for n in range(6)]
    with tempfile.TemporaryDirectory() as folder:
        resident, streamed = ResidentSubjects(subjects, device), StreamedSubjects(subjects, device, Path(folder))
        try:
            for one, other in zip(resident.crop(locations, size), streamed.crop(locations, size), strict=True):
                if not torch.equal(one, other) or one.device.type != device.type:
                    raise CheckFailed("expected streamed sub-volumes equal to resident ones on the device, they differ")
        finally:
            streamed.close()
            resident.close()
    return f"{len(locations)} sub-volumes streamed from disk equal those of subjects on the device"


def _augmentation(device: torch.device) -> str:
    size, subjects = (48, 48, 48), make_subjects((48, 48, 48))
    augment = preset("thorough").augment
    augmenter = Augmenter(augment, size)
    locations = [PatchLocation(n % 2, (n, n, n)) for n in range(8)]
    params = augmenter.draw(locations, IN_CHANNELS, torch.Generator().manual_seed(1))
    on_cpu = ResidentSubjects(subjects, torch.device("cpu")).crop(params.locations, params.region)
    image, label = augmenter.apply(*on_cpu, params)
    image_there, label_there = augmenter.apply(on_cpu[0].to(device), on_cpu[1].to(device), params)
    scale = float(image.std())
    differences = (image - image_there.cpu()).abs().flatten() / scale
    worst, typical = float(differences.quantile(0.999)), float(differences.median())
    same = float((label == label_there.cpu()).float().mean())
    if worst > 0.05 or same < 0.995:
        raise CheckFailed(
            f"expected augmentation as on the CPU: 99.9 % of intensities within 5 % of their spread, got {worst:.1%}; "
            f"99.5 % of labels equal, got {same:.2%}"
        )
    return (
        f"8 sub-volumes as on the CPU: intensities differ by {typical:.1e} of their spread (median), {worst:.1e} "
        f"(99.9 %); {same:.3%} of the labels are equal"
    )


# --- inference, resume, several devices -------------------------------------------------------------------------------


def _inference(device: torch.device) -> str:
    size = SIZES[defaults_of(device)]
    network = build_model(plain_unet((8, 16, 32)), IN_CHANNELS, CLASSES).eval()
    image = make_batch(torch.device("cpu"), tuple(n + 8 for n in size), 1)[0][0]  # type: ignore[arg-type]
    reference = predict_logits(network, image, InferenceOptions("tiles", size))
    network.to(device)
    said = []
    for precision in dict.fromkeys(("fp32", resolve_precision("auto", device))):
        logits = predict_logits(network, image.to(device), InferenceOptions("tiles", size, precision=precision)).cpu()
        equal = float((logits.argmax(0) == reference.argmax(0)).float().mean())
        if not torch.isfinite(logits).all() or equal < (0.999 if precision == "fp32" else 0.97):
            raise CheckFailed(
                f"expected the segmentation of the CPU in {precision}, {equal:.2%} of the voxels are equal"
            )
        said.append(f"{precision} {equal:.3%}")
    whole = predict_logits(network, image.to(device), InferenceOptions("whole", size, mirror=True))
    if whole.shape != reference.shape or not torch.isfinite(whole).all():
        raise CheckFailed(
            f"expected finite logits of shape {tuple(reference.shape)} in one pass, got {tuple(whole.shape)}"
        )
    return f"voxels with the label of the CPU in tiles: {', '.join(said)}; one mirrored pass over the volume is finite"


def _resume(device: torch.device) -> str:
    """A run of two epochs, and one that is stopped after the first and resumed."""
    with deterministic(True), tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        fit(make_task(whole, device), lambda event: None)
        calls = iter(range(1, 10**6))
        fit(make_task(parts, device), lambda event: None, should_stop=lambda: next(calls) >= 4)
        fit(make_task(parts, device), lambda event: None, resume=load(parts / LAST, training_state=True))
        one, other = (load(path / LAST, training_state=True) for path in (whole, parts))
        if one.metadata.progress["step"] != other.metadata.progress["step"]:
            raise CheckFailed("expected as many steps with and without a stop")
        differing = [name for name in one.model if not torch.equal(one.model[name], other.model[name])]
    if differing:
        raise CheckFailed(f"expected the weights of a run that was never stopped, {len(differing)} tensors differ")
    return f"stopped after 4 of {one.metadata.progress['step']} steps and resumed: every weight equal bit for bit"


def _two_processes(device: torch.device) -> str:
    words = ("--standalone", "--nproc-per-node=2", "-m", "core.bench.gpu_checks", "worker", device.type)
    done = run_limited(module_command("torch.distributed.run", *words), PROCESSES_S)
    if done is None:
        raise CheckFailed(f"expected two processes to end within {PROCESSES_S:.0f} s, they were killed")
    found = next((line for line in done.stdout.splitlines() if line.startswith("{")), "")
    if done.returncode or not found:
        raise CheckFailed(f"expected two processes to end well, got {done.returncode}: {done.stderr.strip()[-300:]}")
    two, one, backend = (json.loads(found)[name] for name in ("two", "one", "backend"))
    expect_close(two, one, 0.02, "the gradient's norm of two processes and of one with both")
    return f"{backend}: gradient of two processes, norm {two:.5f}; of one process with both {one:.5f}"


def _worker(device_name: str) -> None:
    """A process of two: its half of a batch."""
    with init_process_group(torch.device(device_name)) as (context, device):
        torch.manual_seed(0)
        network = build_model(plain_unet((8, 16)), IN_CHANNELS, CLASSES).to(device)
        image, label = make_batch(device, (16, 16, 16), 2)
        loss = build_loss(DICE_CE)
        rank = context.rank
        wrapped = context.wrap_model(network)
        loss(wrapped(image[rank : rank + 1]), label[rank : rank + 1]).backward()
        two = gradient_norm(network)
        network.zero_grad(set_to_none=True)
        losses = [loss(network(image[n : n + 1]), label[n : n + 1]) for n in range(2)]
        torch.stack(losses).mean().backward()
        backend = "gloo" if device.type == "cpu" else "NCCL"
        if context.is_main:
            sys.stdout.write(json.dumps({"two": two, "one": gradient_norm(network), "backend": backend}) + "\n")


CHECKS = {
    "step-fp32": Check(_steps_in("fp32"), "training steps in fp32"),
    "step-bf16": Check(_steps_in("bf16"), "training steps in bf16", gpus=1),
    "step-fp16": Check(_steps_in("fp16"), "training steps in fp16 with a gradient scaler", gpus=1),
    "graph": Check(_accelerated("graph"), "a step as a captured CUDA graph", gpus=1),
    "compile": Check(_accelerated("compile"), "a step with torch.compile", 120.0, gpus=1),
    "compiled-graph": Check(_accelerated("compiled_graph"), "a compiled step in a CUDA graph", 120.0, gpus=1),
    "auto": Check(_accelerated("auto"), "the automatic choice of the launch", gpus=1),
    "streaming": Check(_resident_and_streamed, "sub-volumes resident on the device and streamed from disk"),
    "augmentation": Check(_augmentation, "augmentation on the device and on the CPU", gpus=1),
    "non-finite": Check(_non_finite, "a loss that is not finite"),
    "deterministic": Check(_deterministic, "deterministic training"),
    "memory": Check(_memory, "memory of a step against its estimate", gpus=1),
    "inference": Check(_inference, "inference of a whole volume"),
    "resume": Check(_resume, "a run that is stopped and resumed"),
    "two-devices": Check(_two_processes, "two processes on two devices with NCCL", 90.0, gpus=2),
}


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        _worker(sys.argv[2])
    else:
        sys.stdout.write(json.dumps(run_check(sys.argv[1], sys.argv[2])) + "\n")
