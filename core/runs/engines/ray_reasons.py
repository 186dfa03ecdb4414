"""Explanations of the states of Ray's jobs, in a sentence each with what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

RESUME = "resume it"
UNKNOWN = f"Ray does not know its job: its head was restarted, or the job was deleted; {RESUME}"
STOPPED = f"its job was stopped in Ray; {RESUME}"
SUCCEEDED = f"its job ended, but the run did not report how; look at its log, or {RESUME}"
EXPIRED = "Ray gave up waiting for what it asks for (RAY_JOB_START_TIMEOUT_SECONDS); it is submitted again"

_UNSTARTED = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
_BY_TYPE = {
    "RUNTIME_ENV_SETUP_FAILURE": "Ray could not set up its environment; look at the output of the job",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": "no node may run it: look at `gpus`, `cpus`, `memory_gib` and `resources`",
    "JOB_SUPERVISOR_ACTOR_DIED": f"its node died, or Ray lost it; {RESUME}",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": "Ray could not start it; look at the output of the job",
}
_NOT_STARTED = re.compile(r"Failed to start supervisor actor [^:]*: (.*?)\. Full traceback", re.DOTALL)
_MEMORY = "out of memory, as Ray says: set `memory_gib` in engines.toml, or try a smaller --sub-volume"
_OF_MEMORY = re.compile(r"out of memory|OutOfMemory|low on memory|\bOOM\b", re.IGNORECASE)
_OF_NODE = re.compile(r"node (died|failed|has died)|actor died", re.IGNORECASE)
_KILLED = (-9, 137)


def gave_up_waiting(error_type: str, message: str) -> bool:
    """Whether Ray ended a job because it waited for too long."""
    return error_type == _UNSTARTED or (not error_type and "failed to start within" in message)


def explain_failure(error_type: str, message: str, status: int | None, limited: bool = False) -> str:
    """How a job failed, and what to do.

    Parameters
    ----------
    error_type : str. Ray's kind of the failure; empty in earlier versions of Ray.
    message : str. Its message.
    status : int or None. Exit status of the job; negative for a signal.
    limited : bool. Whether the job has a time limit, at which it is killed if it has not ended.
    """
    if status in _KILLED:
        why = "its time limit (`time`) was reached, or the memory of its node was full"
        if not limited:
            why = "perhaps because the memory of its node was full"
        return f"its job was killed (SIGKILL){':' if limited else ','} {why}; {RESUME}"
    if status is not None:
        return _exit_reason(status, message)
    if _OF_MEMORY.search(message):
        return _MEMORY
    if error_type in _BY_TYPE:
        return _BY_TYPE[error_type]
    if refused := _NOT_STARTED.search(message):
        why = " ".join(refused[1].split())[:300]
        return f"Ray refuses what it asks for: {why}; look at `gpus`, `cpus`, `memory_gib` and `resources`"
    if _OF_NODE.search(message):
        return _BY_TYPE["JOB_SUPERVISOR_ACTOR_DIED"]
    return f"its job failed: {' '.join(message.split())[:300] or 'Ray does not say why'}; {RESUME}"


def _exit_reason(status: int, message: str) -> str:
    """What a job wrote last before it failed."""
    lines = [line.strip() for line in message.splitlines()[1:] if line.strip()]
    last = lines[-1][:300] if lines and not lines[-1].startswith("Running entrypoint") else ""
    return f"its job ended with status {status}: {last}" if last else f"its job ended with status {status}; {RESUME}"


def explain_waiting(wanted: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """Why a job waits.

    Parameters
    ----------
    wanted : mapping. Amount of each resource that it asks for, by name.
    nodes : sequence of mapping. All resources of each living node.
    """
    asked = ", ".join(_amount(name, amount) for name, amount in wanted.items())
    if nodes and not any(fits(wanted, node) for node in nodes):
        most = {name: max(_amount_on(node, name) for node in nodes) for name in wanted}
        lacking = ", ".join(_amount(name, most[name]) for name, amount in wanted.items() if most[name] < amount)
        found = f"the most that one has is {lacking}" if lacking else "none has all of it"
        return f"no node has {asked}: {found}; lower what it asks for, or wait until such a node joins"
    return f"it waits for {asked}" if asked else "Ray has not started it yet"


def fits(wanted: Mapping[str, float], node: Mapping[str, float]) -> bool:
    """Whether a node without other jobs has what a job asks for."""
    return all(_amount_on(node, name) >= amount for name, amount in wanted.items())


def _amount_on(node: Mapping[str, float], name: str) -> float:
    """Amount of a resource on a node; the dashboard writes ``fast_disk`` as ``fastDisk``."""
    first, *others = name.split("_")
    return node.get(name, node.get(first + "".join(part.title() for part in others), 0.0))


def _amount(name: str, amount: float) -> str:
    """An amount of a resource in words."""
    if name == "memory":
        return f"{amount / 1024**3:.3g} GiB of memory"
    word = {"GPU": "GPU", "CPU": "processor"}.get(name)
    return f"{amount:g} {word}{'' if amount == 1 else 's'}" if word else f"{amount:g} {name}"
