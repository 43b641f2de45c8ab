"""Runs the bundle script in a place, once where all was committed, twice where something was left: look, decide, take.

The same for every backend; how a script is run there and how its output gets out is the backend's.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandboxes.base import SandboxSpec
from sandboxes.errors import CheckoutLost, CommitsMalformed, PushTooLarge, SandboxError
from sandboxes.sweep.bundle_script import BRANCH_AT, LOOK_AGAIN, LOST, MALFORMED, NOTHING_TO_BUNDLE, TAKE
from sandboxes.sweep.rules import Decision, Exported, LeftOut, SweepLimits, decide, shown
from sandboxes.sweep.survey import read_survey

SURVEY_BYTES = 16 * 1024 * 1024
_REFUSED = "Refused: "
_SWEPT = "Swept: "
_PREFIX = re.compile(r"^(?:fatal|error): ")


@dataclass(frozen=True)
class ScriptRun:
    """How the script ended; `reason` says in words why, where that is no exit code of its own. `too_long`: cut off."""

    code: int
    stderr: str
    reason: str = ""
    too_long: bool = False


def export(
    run: Callable[[Sequence[str], bytes], ScriptRun],
    destination: Path,
    *,
    spec: SandboxSpec,
    limit_bytes: int,
    leftovers_message: str,
) -> Exported:
    """`run` gives the script its arguments and standard input and puts its output at `destination`.

    Raises `CommitsMalformed`, `CheckoutLost` and `SandboxError`.
    """
    names = (spec.git_branch_name, spec.start_sha, leftovers_message)
    ran = run((*names, "", ""), b"")
    decision = Decision("", (), ())
    if leftovers_message and ran.code == LOOK_AGAIN and not ran.too_long:
        survey = read_survey(_read(destination))
        limits = SweepLimits(file_bytes=spec.leftover_file_bytes)
        decision = decide(survey, start=spec.start_sha, limits=limits)
        paths = b"".join(os.fsencode(path) + b"\0" for path in decision.paths)
        ran = run((*names, TAKE, decision.tip), paths)
    lines = ran.stderr.splitlines()
    refused = [
        LeftOut("refused", shown(line[len(_REFUSED) :])) for line in lines if line.startswith(_REFUSED)
    ]
    swept = any(line.startswith(_SWEPT) for line in lines)
    left_out = (*decision.left_out, *refused)
    if LOST in lines:
        raise CheckoutLost("The agent removed the checkout's git folder, and its commits with it.")
    if damage := _last(lines, MALFORMED):
        reason = shown(_PREFIX.sub("", damage))
        raise CommitsMalformed(
            f"The new commits cannot be read, for an object they need is missing or damaged ({reason})."
        )
    if NOTHING_TO_BUNDLE.decode() in ran.stderr:
        return Exported(False, decision.settled, left_out=left_out, branch_at=_last(lines, BRANCH_AT))
    if ran.too_long:
        raise PushTooLarge(f"The agent's commits are over {limit_bytes} bytes in all.")
    if ran.code or ran.reason:
        heard = "\n".join(line for line in lines if not line.startswith((BRANCH_AT, _REFUSED, _SWEPT)))
        said = ran.reason or heard.strip()[-500:] or f"exit code {ran.code}"
        raise SandboxError(f"The commits could not be brought out of the sandbox: {said}")
    return Exported(True, decision.settled, swept, left_out)


def _last(lines: Sequence[str], mark: str) -> str:
    """What stands behind a mark of the script's; '' where it said no such thing."""
    found = [line[len(mark) :].strip() for line in lines if line.startswith(mark)]
    return found[-1] if found else ""


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SURVEY_BYTES)
