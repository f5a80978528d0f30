"""A receiver of webhooks. Usage: VIDTR_WEBHOOK_SECRET=whsec_... python webhook_receiver.py [PORT]

The operator hands out the secret (`vidtr keys webhook-secret OWNER`). Needs `pip install standardwebhooks`.
In production a proxy with TLS stands in front, because the service sends to `https` addresses only.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

MAX_BYTES = 64 * 1024


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what the service signed, 401 to everything else."""

    webhook: Webhook
    seen: set[str] = set()  # noqa: RUF012 - shared by all requests; a real receiver keeps the ids in its database

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if not 0 < length <= MAX_BYTES:
            self.answer(413)
            return
        try:
            # Checks the signature, and that the timestamp is not minutes old.
            message = self.webhook.verify(self.rfile.read(length), {k.lower(): v for k, v in self.headers.items()})
        except WebhookVerificationError:
            self.answer(401)
            return
        # Delivery is at least once: all tries of a message have the same id.
        if (message_id := self.headers["webhook-id"]) not in self.seen:
            self.seen.add(message_id)
            print(message["type"], message["data"]["id"], flush=True)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing: the messages themselves are printed."""


def main(port: int = 9000) -> None:
    Receiver.webhook = Webhook(os.environ["VIDTR_WEBHOOK_SECRET"])
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
