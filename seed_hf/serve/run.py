"""Runs the application on uvicorn, until it is told to stop."""

import signal
from collections.abc import Callable
from contextlib import contextmanager

import uvicorn

from .gate import Gate


class Server(uvicorn.Server):
    """A server that finishes what it is working on when it is told to stop, and then ends as if nothing were wrong."""

    @contextmanager
    def capture_signals(self):
        """Listens to SIGTERM and SIGINT; a second one ends the server at once."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig, frame):
        """Refuses new requests from now on."""
        self.force_exit = self.should_exit
        self.config.app.desk.is_draining = self.should_exit = True


def serve(app: Gate, on_start: Callable[[str], None], host: str = "127.0.0.1", port: int = 8000):
    """
    Serves until SIGTERM or SIGINT.

    Args:
        app ([`Gate`]): What [`~seed_hf.serve.app.build_app`] makes.
        on_start (`Callable`): Called with the URL of the server.
        host (`str`, defaults to `"127.0.0.1"`): Address to listen at.
        port (`int`, defaults to 8000): Port, or 0 for a free one.
    """
    seconds = int(app.settings.max_seconds) + 1
    config = uvicorn.Config(
        app, host, port, log_level="warning", timeout_graceful_shutdown=seconds, server_header=False, lifespan="on"
    )
    socket = config.bind_socket()
    address = f"[{host}]" if ":" in host else host
    on_start(f"http://{address}:{socket.getsockname()[1]}/v1")
    Server(config).run(sockets=[socket])


__all__ = ["Server", "serve"]
