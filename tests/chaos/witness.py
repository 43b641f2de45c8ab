"""Sees agents live and die: each holds a connection, so no log can lie about two attempts at the same time."""

import selectors
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Life:
    """One agent process; times are `time.time()`."""

    order_id: str
    phase: str
    attempt: str
    kind: str
    started_at: float
    ended_at: float | None = None


@dataclass
class _Guest:
    connection: socket.socket
    words: bytes = b""
    life: Life | None = None


@dataclass
class Witness:
    """Use as a context manager; `address` is for the agents."""

    lives: list[Life] = field(default_factory=list)
    overlaps: list[tuple[Life, Life]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._guests: dict[socket.socket, _Guest] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join(5)
        for guest in list(self._guests.values()):
            guest.connection.close()
        self._listener.close()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    @property
    def started(self) -> int:
        with self._lock:
            return len(self.lives)

    def alive(self) -> list[Life]:
        with self._lock:
            return [life for life in self.lives if life.ended_at is None]

    def kinds(self) -> Counter[str]:
        with self._lock:
            return Counter(life.kind for life in self.lives)

    def _run(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.2):
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    self._guests[connection] = _Guest(connection)
                    self._selector.register(connection, selectors.EVENT_READ)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._hear(self._guests[key.fileobj])

    def _hear(self, guest: _Guest) -> None:
        try:
            data = guest.connection.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._gone(guest)
            return
        guest.words += data
        if guest.life is None and guest.words.endswith(b"\n"):
            self._begin(guest)
            guest.connection.sendall(b"k")

    def _begin(self, guest: _Guest) -> None:
        order_id, phase, attempt, kind = guest.words.decode().split()
        for other in list(self._guests.values()):  # an end that is known to the kernel, but was not read yet
            if other.life is not None and other.life.order_id == order_id and _has_ended(other.connection):
                self._gone(other)
        guest.life = Life(order_id, phase, attempt, kind, time.time())
        with self._lock:
            self.overlaps += [
                (life, guest.life)
                for life in self.lives
                if life.order_id == order_id and life.ended_at is None
            ]
            self.lives.append(guest.life)

    def _gone(self, guest: _Guest) -> None:
        if self._guests.pop(guest.connection, None) is None:
            return
        self._selector.unregister(guest.connection)
        guest.connection.close()
        if guest.life is not None:
            guest.life.ended_at = time.time()


def _has_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
