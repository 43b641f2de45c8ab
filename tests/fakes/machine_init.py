"""Process 1 of a stand-in machine: starts what it is told, reaps everything, says how it ended.

Run by `tests.fakes.machine` inside bubblewrap, with a socket as descriptor given as its argument. Plain Python without
the standard `site`, so that a machine is up in a few hundredths of a second.
"""

import array
import json
import os
import select
import signal
import socket
import sys

MAX_MESSAGE = 256 * 1024


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    names: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([channel.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            reap(channel, names)
        if channel.fileno() in ready and not serve(channel, names):
            return


def serve(channel: socket.socket, names: dict[int, int]) -> bool:
    data, ancillary, _flags, _address = channel.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(3 * 4))
    if not data:
        return False
    descriptors = array.array("i")
    for _level, _kind, content in ancillary:
        descriptors.frombytes(content)
    asked = json.loads(data)
    pid = os.fork()
    if pid == 0:
        become(channel, asked, list(descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    names[pid] = asked["number"]
    channel.send(json.dumps({"number": asked["number"], "pid": pid}).encode())
    return True


def become(channel: socket.socket, asked: dict, descriptors: list[int]) -> None:  # type: ignore[type-arg]  # JSON
    try:
        channel.close()
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(3, 64)
        os.chdir(asked["cwd"])
        os.execvpe(asked["argv"][0], asked["argv"], asked["env"])
    except OSError as error:
        os.write(2, f"{asked['argv'][0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def reap(channel: socket.socket, names: dict[int, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in names:
            code = os.waitstatus_to_exitcode(status)
            channel.send(json.dumps({"number": names.pop(pid), "exit": code}).encode())


main()
