"""Explanations of Slurm's job states, reasons to wait and refused requests, in a sentence each with what to do."""

from __future__ import annotations

RESUME = "resume it"

WAITING = {
    "None": "Slurm has not looked at it yet",
    "Priority": "jobs of higher priority are before it",
    "Resources": "it waits for free nodes, GPUs or memory",
    "BeginTime": "Slurm starts it again in a moment, after its node was lost or it was preempted",
    "Dependency": "it waits for another job",
    "JobHeldUser": "it is held: release it with scontrol release",
    "JobHeldAdmin": "an administrator holds it: ask why",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition takes no jobs now",
    "PartitionTimeLimit": "its time limit is above that of the partition: lower `time`",
    "PartitionNodeLimit": "it asks for more nodes than the partition gives: lower `nodes`",
    "BadConstraints": "no node has what it asks for: look at `constraint`, `gpus` and `memory`",
    "ReqNodeNotAvail": "a node that it needs is not available, or reserved",
    "Reservation": "it waits for a reservation",
    "Cleaning": "it is being started again",
}
ENDED = {
    "TIMEOUT": f"out of time: its time limit was reached; raise `time`, or {RESUME}",
    "DEADLINE": f"out of time: its deadline was reached; {RESUME}",
    "PREEMPTED": f"preempted by a job of higher priority; {RESUME}",
    "NODE_FAIL": f"its node failed; {RESUME}",
    "BOOT_FAIL": f"its node could not be started; {RESUME}",
    "OUT_OF_MEMORY": "out of memory, as Slurm says: raise `memory` in engines.toml, or try a smaller --sub-volume",
    "CANCELLED": f"its job was cancelled in Slurm; {RESUME}",
    "REVOKED": f"another cluster took its job; {RESUME}",
    "COMPLETED": f"its job ended, but the run did not report how; look at its log, or {RESUME}",
}
_FAILURES = {
    "JobLaunchFailure": "Slurm could not start it on its node; look at the output of the job",
    "NonZeroExitCode": "its job ended with an error; look at the output of the job",
    "OutOfMemory": "out of memory, as Slurm says: raise `memory` in engines.toml, or try a smaller --sub-volume",
}
UNKNOWN = f"Slurm does not know its job, or no longer; {RESUME}"
_REFUSED = {
    "invalid partition": "there is no such partition; `sinfo` lists them: change `partition`",
    "invalid account": "there is no such account, or it may not use the partition: change `account`",
    "invalid qos": "there is no such QOS, or it may not be used: look at `extra`",
    "node configuration is not available": "no node has what it asks for: lower `gpus`, `cpus`, `memory` or `nodes`",
    "invalid --time": "the time limit is not understood: write `time` as HH:MM:SS",
    "time limit": "the time limit is not allowed there: lower `time`",
    "more processors": "it asks for more processors than there are: lower `cpus` or `nodes`",
    "node count": "it asks for more nodes than there are: lower `nodes`",
    "invalid generic resource": "the cluster has no such GPUs: change `gpus`, or leave it empty",
    "invalid feature": "no node has that feature: change `constraint`",
    "unable to contact": "its controller does not answer: try again later, or ask its administrator",
    "communication": "its controller does not answer: try again later, or ask its administrator",
    "connection refused": "its controller does not answer: try again later, or ask its administrator",
    "job violates accounting": "a limit of the account is reached: wait for other jobs to end",
    "timed out": "its controller does not answer: try again later, or ask its administrator",
    "standby mode": "its controller does not answer: try again later, or ask its administrator",
    "temporarily unable": "its controller is busy: try again later",
    "authentication": "this machine is not allowed to talk to it: is munge running, with the key of the cluster?",
}
_UNANSWERED = (
    "unable to contact",
    "communication",
    "connection refused",
    "timed out",
    "standby mode",
    "temporarily unable",
)
_UNSENT = ("connect failure", "connection refused", "standby mode", "temporarily unable")


def is_unanswered(output: str) -> bool:
    """Whether a client that failed says that the controller did not answer: its request may have been taken."""
    return any(words in output.lower() for words in _UNANSWERED)


def is_unsent(output: str) -> bool:
    """Whether a client that failed says that the controller did not get its request, or takes none now."""
    return any(words in output.lower() for words in _UNSENT)


def explain_waiting(reason: str) -> str:
    """Why a job waits."""
    if reason in WAITING:
        return WAITING[reason]
    if reason.startswith(("QOS", "Assoc", "Max")):
        return f"a limit of the account or QOS is reached ({reason}): it starts when other jobs have ended"
    known = next((text for name, text in WAITING.items() if reason.startswith(name)), "")
    return known or f"Slurm says: {reason}"


def explain_end(state: str, reason: str) -> str:
    """How a job ended, and what to do."""
    if state == "FAILED":
        if reason.startswith("RaisedSignal"):
            return f"its job was killed by signal {reason.partition(':')[2]}; {RESUME}"
        return _FAILURES.get(reason, f"its job failed ({reason}); look at the output of the job")
    return ENDED.get(state.split()[0] if state else "", f"its job ended as {state}; {RESUME}")


def explain_refusal(program: str, output: str) -> str:
    """Why Slurm refused a request, or did not answer.

    Parameters
    ----------
    program : str. The client that was asked ("sbatch").
    output : str. Its standard error.
    """
    said = " ".join(line.removeprefix(f"{program}: error:").strip() for line in output.splitlines()) or "nothing"
    known = next((text for words, text in _REFUSED.items() if words in output.lower()), "")
    return f"{known} ({program}: {said[:300]})" if known else f"{program} failed: {said[:300]}"
