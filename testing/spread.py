"""One address in front of several API processes: connections take turns, as behind a load balancer."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading


class Spread:
    """A TCP relay from `port` of this machine to each of `targets` in turn."""

    def __init__(self, targets: list[int]) -> None:
        self._targets = itertools.cycle(targets)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        # Closing alone would leave the thread in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", next(self._targets)))
            except OSError:
                near.close()
                continue
            pumps = [threading.Thread(target=_pump, args=ends, daemon=True) for ends in ((near, far), (far, near))]
            for pump in pumps:
                pump.start()
            threading.Thread(target=_close, args=(pumps, near, far), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _close(pumps: list[threading.Thread], *ends: socket.socket) -> None:
    for pump in pumps:
        pump.join()
    for end in ends:
        end.close()
