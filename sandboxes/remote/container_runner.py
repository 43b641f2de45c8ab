"""Runs inside a Dagger container, as the one program of an exec: does what the worker asks over a socket.

A script of its own that nothing here imports; it is brought into the container as text. As root it starts commands as
the account 1000, which can then not reach it. When the socket closes, for whatever reason, everything ends.
"""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import IO

ACCOUNT = 1000
CHUNK = 65536


class Runner:
    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.lock = threading.Lock()

    def serve(self) -> None:
        self.say(hello=os.getpid())
        with self.channel.makefile("rb") as asked:
            for line in asked:
                threading.Thread(target=self.run, args=(json.loads(line),), daemon=True).start()

    def say(self, **message: object) -> None:
        with self.lock, contextlib.suppress(OSError):
            self.channel.sendall(json.dumps(message).encode() + b"\n")

    def run(self, asked: dict) -> None:  # type: ignore[type-arg]  # JSON
        number = asked["number"]
        account = ACCOUNT if os.getuid() == 0 else None
        try:
            # inside the container, where the worker's word is what there is to run and PATH is the image's
            child = subprocess.Popen(  # nosec B603 B607  # see above
                ["bash", "-c", asked["script"], "bash", *asked["arguments"]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
                user=account,
                group=account,
                extra_groups=None if account is None else [],
            )
        except OSError as error:
            self.say(number=number, stream="stderr", data=encoded(str(error).encode()))
            self.say(number=number, code=127)
            return
        streams = [
            threading.Thread(target=self.copy, args=(number, name, getattr(child, name)), daemon=True)
            for name in ("stdout", "stderr")
        ]
        for stream in streams:
            stream.start()
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            if asked["stdin"]:
                child.stdin.write(base64.b64decode(asked["stdin"]))
            child.stdin.close()
        for stream in streams:
            stream.join()
        self.say(number=number, code=child.wait())

    def copy(self, number: int, name: str, stream: IO[bytes]) -> None:
        while chunk := os.read(stream.fileno(), CHUNK):
            self.say(number=number, stream=name, data=encoded(chunk))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> None:
    root, path = sys.argv[1], sys.argv[2]
    if os.getuid() == 0:
        os.makedirs(root, exist_ok=True)  # noqa: PTH103  # a folder of the container, by its plain path
        os.chown(root, ACCOUNT, ACCOUNT)
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(path)
    try:
        Runner(channel).serve()
    finally:
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)
        os._exit(0)


if __name__ == "__main__":
    main()
