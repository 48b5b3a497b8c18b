"""Connections between the processes of a run: one that ends, fails or freezes ends the others in bounded time.

Every process has a socket to the first one, over which both send a byte every second. The system closes the sockets of a process
that ends; one that is frozen sends nothing.
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import torch

from experiments.config.errors import TesseraError

BEAT, DONE, FAILED = 0, 255, 254  # messages of one byte; any other is the number of a signal
INTERVAL = 1.0  # seconds between two beats
SILENCE = 30  # beats without an answer after which a process is lost: its own, so that a run suspended as a whole is not
GRACE = 5.0  # seconds for the main thread to end with its own message


class Peers:
    """The other processes of a run, watched by a thread. Every process must create it at the same time."""

    def __init__(self, address: str, on_loss: Callable[[str, bool], int]) -> None:
        """
        Args:
            address: host of the first process.
            on_loss: called in the thread when a process is lost, with a sentence and whether this process reports it to the user;
                returns the exit status of this process.
        """
        self.rank = torch.distributed.get_rank()
        self.on_loss = on_loss
        self._ending, self._done = threading.Event(), threading.Event()
        server = socket.create_server(("", 0)) if self.rank == 0 else None
        here = (socket.gethostname(), os.getpid(), server.getsockname()[1] if server else 0)
        self.places: list[tuple[str, int, int]] = [here] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(self.places, here)
        self._sockets: dict[socket.socket, int] = {}
        if server:
            with server:
                for _ in self.places[1:]:
                    connection = server.accept()[0]
                    self._sockets[connection] = int.from_bytes(connection.recv(4))
        else:
            connection = socket.create_connection((address, self.places[0][2]))
            connection.sendall(self.rank.to_bytes(4))
            self._sockets[connection] = 0
        self._silent = dict.fromkeys(self._sockets, 0)
        threading.Thread(target=self._watch, name="peers", daemon=True).start()

    def send(self, message: int) -> None:
        """Send a signal's number or another message to all connected processes."""
        for connection in list(self._sockets):
            with suppress(OSError):
                connection.sendall(bytes([message]))

    def leave(self) -> None:
        """End the connections after a training that ended well."""
        self.send(DONE)
        self._done.set()

    def fail(self, error: BaseException) -> None:
        """End the others, because this process ends by `error`; an error that a lost process caused is not shown."""
        if not isinstance(error, TesseraError | SystemExit | KeyboardInterrupt):
            time.sleep(GRACE)  # the thread ends this process, if another was lost
        self._ending.set()
        self.send(FAILED)

    def _watch(self) -> None:
        next_beat = time.monotonic()
        while self._sockets and not self._done.is_set():
            ready = select.select(list(self._sockets), [], [], max(0.0, next_beat - time.monotonic()))[0]
            for connection in ready:
                self._receive(connection)
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + INTERVAL
                self._beat()

    def _receive(self, connection: socket.socket) -> None:
        self._silent[connection] = 0
        try:
            messages = connection.recv(256)
        except OSError:
            messages = b""
        if not messages:
            self._lose(connection, "ended unexpectedly")
        for message in messages:
            if message == DONE:
                self._sockets.pop(connection, None)
            elif message == FAILED:
                self._lose(connection, "failed")
            elif message != BEAT:
                os.kill(os.getpid(), message)  # its handler runs in the main thread

    def _beat(self) -> None:
        self.send(BEAT)
        for connection in list(self._sockets):
            self._silent[connection] += 1
            if self._silent[connection] > SILENCE:
                self._lose(connection, f"has not answered for {SILENCE * INTERVAL:.0f} seconds")

    def _lose(self, connection: socket.socket, event: str) -> None:
        """End this process, unless its main thread is ending it."""
        lost = self._sockets.pop(connection)
        host, pid, _ = self.places[lost]
        if self._done.is_set():
            return
        if self._ending.wait(GRACE if event == "failed" else 0):
            time.sleep(SILENCE * INTERVAL)  # for its message and its files
            os._exit(1)
        sentence = f"process {lost} of the run ({pid} on {host}) {event}"
        self.send(FAILED)
        if event != "failed" and host == self.places[self.rank][0]:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)  # a frozen process ends in no other way
        status = self.on_loss(sentence, self.rank == 0 or (lost == 0 and self.rank == 1 and event != "failed"))
        sys.stderr.flush()
        os._exit(status)
