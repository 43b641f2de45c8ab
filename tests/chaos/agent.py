"""The agent of the chaos runs: the rehearsal agent under a witness, and now and then a bad one.

Called as `agent.py HOST:PORT SEED FAULTS /path/rehearsal.py …` with Claude Code's arguments after it. It holds a
connection to the witness for as long as it lives, so that the kernel itself says when it ended. Whether this
attempt of this step misbehaves, and how, follows from the seed alone. Standard library only: it runs in sandboxes.
"""

import hashlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time

BAD = ("hang", "hang_deaf", "daemon", "killed", "no_result", "truncated", "linger", "reported_error")


def behaviour(seed: str, faults: float, order: str, phase: str, attempt: str) -> str:
    """Empty for an honest run; the same for the same words."""
    digest = hashlib.sha256("/".join((seed, order, phase, attempt)).encode()).digest()
    if int.from_bytes(digest[:4], "big") / 2**32 >= faults:
        return ""
    return BAD[digest[4] % len(BAD)]


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)


def misbehave(kind: str) -> None:
    """Returns where the honest work is to follow."""
    if kind == "hang_deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind in ("hang", "hang_deaf"):
        say(type="system", subtype="init", session_id="chaos", model="chaos", tools=[])
        time.sleep(600)
    if kind == "daemon":  # keeps standard output open, in a session of its own
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    if kind == "killed":
        say(type="system", subtype="init", session_id="chaos", model="chaos", tools=[])
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "no_result":
        sys.exit(0)
    if kind == "truncated":
        sys.stdout.write('{"type": "result", "subtype": "succ')
        sys.stdout.flush()
        os._exit(0)


def main() -> int:
    address, seed, faults, rehearsal, *rest = sys.argv[1:]
    order, phase = os.environ["WORKORDERS_AGENT_WORK_ORDER_ID"], os.environ["WORKORDERS_PHASE"]
    attempt = os.environ["WORKORDERS_ATTEMPT"]
    kind = behaviour(seed, float(faults), order, phase, attempt)
    host, _, port = address.partition(":")
    witness = socket.create_connection((host, int(port)), timeout=20)
    witness.sendall(f"{order} {phase} {attempt} {kind or 'honest'}\n".encode())
    witness.recv(1)  # written down
    misbehave(kind)
    sys.argv = [rehearsal, *rest]
    try:
        code = runpy.run_path(rehearsal, run_name="rehearsal")["main"]()
    finally:
        if kind == "linger":  # after an honest result it does not exit
            sys.stdout.flush()
            time.sleep(600)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
