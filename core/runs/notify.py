"""Messages when a run ends, for people who do not watch it: a webhook and e-mail, set by environment variables.

=============================  ========================================================================================
``SEGMENTARIUM_WEBHOOK``       address to which the end is posted as JSON; Slack and Mattermost show its ``text``
``SEGMENTARIUM_MAIL_TO``       e-mail addresses, separated by commas
``SEGMENTARIUM_SMTP``          mail server: ``smtp://HOST``, ``smtp://USER:PASSWORD@HOST:587`` (STARTTLS), ``smtps://...``
``SEGMENTARIUM_MAIL_FROM``     sender; by default the first address of ``SEGMENTARIUM_MAIL_TO``
=============================  ========================================================================================
"""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import urllib.request
from email.message import EmailMessage
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from core.errors import RunError
from core.formatting import format_duration, format_score
from core.runs.catalog import RunSummary

WEBHOOK, MAIL_TO, MAIL_FROM = "SEGMENTARIUM_WEBHOOK", "SEGMENTARIUM_MAIL_TO", "SEGMENTARIUM_MAIL_FROM"
SMTP = "SEGMENTARIUM_SMTP"
TIMEOUT_S = 15


def describe_end(run: RunSummary) -> str:
    """How a run ended, in a line: ``finished after 5 min, mean Dice 0.902 on held-out whole volumes``."""
    state, best = run.state, run.state.score
    parts = [f"{state.state} after {format_duration(state.elapsed_s)}"]
    if best is not None and best.mean_dice is not None:
        parts.append(
            f"mean Dice {format_score(best.mean_dice)}" + (f" on {best.measured_on}" if best.measured_on else "")
        )
    text = ", ".join(parts)
    return f"{text}: {state.message}" if state.message else text


def notify(run: RunSummary) -> list[str]:
    """Send the messages that are set for the end of a run; returns what could not be sent, as notes for the log."""
    notes = []
    for variable, send in ((WEBHOOK, _post), (MAIL_TO, _mail)):
        if setting := os.environ.get(variable, "").strip():
            try:
                send(setting, run)
            except (OSError, ValueError, HTTPException, smtplib.SMTPException, RunError) as error:
                notes.append(f"note: no message about the end of the run: {variable}: {error}")
    return notes


def _post(address: str, run: RunSummary) -> None:
    if urlsplit(address).scheme not in ("http", "https"):
        raise RunError("expected an address that begins with http:// or https://")
    best = run.state.score
    content = {
        "text": f"{run.name}: {describe_end(run)}",
        "run": run.id,
        "name": run.name,
        "state": run.state.state,
        "message": run.state.message,
        "epoch": run.state.epoch,
        "elapsed_s": run.state.elapsed_s,
        "mean_dice": best.mean_dice if best else None,
        "measured_on": best.measured_on if best else None,
    }
    body = json.dumps(content, allow_nan=False).encode()
    request = urllib.request.Request(address, body, {"content-type": "application/json"})
    urllib.request.urlopen(request, timeout=TIMEOUT_S).close()


def _mail(addresses: str, run: RunSummary) -> None:
    server = urlsplit(os.environ.get(SMTP, "").strip())
    if server.scheme not in ("smtp", "smtps") or not server.hostname:
        raise RunError(f"expected the mail server in {SMTP}, as smtp://HOST or smtps://USER:PASSWORD@HOST")
    to = [address.strip() for address in addresses.split(",") if address.strip()]
    message = EmailMessage()
    message["Subject"] = f"{run.name}: {run.state.state}"
    message["From"] = os.environ.get(MAIL_FROM, "").strip() or to[0]
    message["To"] = ", ".join(to)
    message.set_content(f"{run.name}: {describe_end(run)}\n\nRun {run.id}\n{run.folder}\n")
    tls = ssl.create_default_context()
    connection = (
        smtplib.SMTP_SSL(server.hostname, server.port or 0, timeout=TIMEOUT_S, context=tls)
        if server.scheme == "smtps"
        else smtplib.SMTP(server.hostname, server.port or 0, timeout=TIMEOUT_S)
    )
    with connection:
        if server.username:
            if server.scheme == "smtp":
                connection.starttls(context=tls)
            connection.login(unquote(server.username), unquote(server.password or ""))
        connection.send_message(message)
