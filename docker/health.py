"""`health.py PORT`: status 0 where `GET /health/live` at this machine's PORT answers 200.

It runs every few seconds in every container, so it imports next to nothing.
"""

import socket
import sys

TIMEOUT_S = 8.0


def main() -> int:
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), TIMEOUT_S) as connection:
            connection.sendall(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
            status = connection.recv(64).split(b" ")
    except OSError:
        return 1
    return 0 if status[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
