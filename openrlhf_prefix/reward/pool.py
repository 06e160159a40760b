"""N persistent worker processes and one hard deadline; it knows nothing of what they compute.

A worker is any command that prints a line once it is ready, then answers each line of JSON on its stdin with one on
its stdout. The parent owns the clock: the deadline starts when a request goes to a ready worker, neither while it
queues nor while a worker still imports, and a late worker is killed, since nothing less stops C code. One process more
than may work at once is kept warm, so a kill costs its own request only and the next one is served at once.

Workers are started by exec, not fork (Ray, CUDA and threads do not survive a fork), in a session of their own, so that
Ctrl-C reaches the parent alone.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


class WorkerLost(Exception):
    """The worker gave no answer; `reason` is "timeout" (it was late and got killed) or "crash" (it died)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WorkerPool:
    """At most `size` requests at once, each with `timeout` seconds. Processes start at the first call."""

    def __init__(
        self, command: list[str], size: int, timeout: float, advice: str = "", start_timeout: float = 120.0
    ) -> None:
        self._command, self._size, self._timeout = command, size, timeout
        self._advice, self._start_timeout = advice, start_timeout
        self._turns = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()  # guards the three below
        self._workers: set[_Worker] = set()
        self._idle: deque[_Worker] = deque()  # the right end is the warm end
        self._closed = False

    def call(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Reply of a worker. Callable from many threads at once.

        A reply with a true "retire" is passed on and its worker replaced.

        Raises:
            WorkerLost: the worker was late or died; a fresh one takes its place.
            RuntimeError: a worker cannot start, or the pool is closed.
        """
        line = json.dumps(request).encode() + b"\n"
        with self._turns:  # queueing happens here, before any clock runs
            worker, healthy = self._take(), False
            try:
                worker.wait_ready(self._start_timeout, self._advice)
                reply = worker.ask(line, self._timeout)
                healthy = not reply.get("retire")
                return reply
            finally:  # after an interrupt, too, it is replaced: its late reply must not answer the next request
                self._give_back(worker, healthy)

    def pids(self) -> list[int]:
        """Process ids of the living workers."""
        with self._lock:
            return sorted(worker.process.pid for worker in self._workers)

    def close(self) -> None:
        """Kill every worker. A call that is still waiting for one raises WorkerLost or RuntimeError."""
        with self._lock:
            self._closed = True
            workers, idle = list(self._workers), list(self._idle)
            self._workers.clear()
            self._idle.clear()
        for worker in workers:
            worker.process.kill()  # a busy one is reaped, and its pipes closed, by the thread that waits for it
        for worker in idle:
            worker.kill()

    def _take(self) -> "_Worker":
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker pool is closed")
            while True:
                self._refill()
                worker = self._idle.pop()
                if not worker.died_idle():
                    return worker
                self._workers.discard(worker)
                worker.kill()  # long dead: this closes its pipes

    def _give_back(self, worker: "_Worker", healthy: bool) -> None:
        with self._lock:
            if healthy and not self._closed:
                self._idle.append(worker)
                return
            self._workers.discard(worker)
            if not self._closed:
                self._refill()
        worker.kill()

    def _refill(self) -> None:
        while len(self._workers) < self._size + 1:
            worker = _Worker(self._command)
            self._workers.add(worker)
            self._idle.appendleft(worker)  # last in line: it imports while the others serve


class _Worker:
    """One process and its pipes. Used by one thread at a time."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._ready = False
        self._stderr = tempfile.TemporaryFile()  # a pipe would need a reader, or it blocks the worker when full
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # it imports what we can import
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=env,
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self._poll = select.poll()  # not select.select, which refuses descriptors above 1023
        self._poll.register(self._stdout.fileno(), select.POLLIN)

    def wait_ready(self, seconds: float, advice: str) -> None:
        if self._ready:
            return
        try:
            self._read_line(seconds)
        except WorkerLost as lost:
            self._stderr.seek(0)
            tail = self._stderr.read()[-2000:].decode(errors="replace")
            command = " ".join(self._command)
            raise RuntimeError(f"worker did not start ({lost.reason}): {command}\n{tail}\n{advice}") from None
        self._ready = True

    def ask(self, line: bytes, seconds: float) -> dict[str, Any]:
        try:
            self._stdin.write(line)
            self._stdin.flush()
            return json.loads(self._read_line(seconds))
        except (OSError, ValueError):  # the pipe broke, or what came back is no JSON
            raise WorkerLost("crash") from None

    def died_idle(self) -> bool:
        """Killed from outside between two requests; one that never got ready is left to wait_ready, which says why."""
        return self._ready and self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self._stdin, self._stdout, self._stderr):
            with suppress(OSError):
                stream.close()

    def _read_line(self, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            # A reply that is there is taken even past the deadline: then it was this thread that was late.
            if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise WorkerLost("timeout")
            chunk = os.read(self._stdout.fileno(), 65536)
            if not chunk:
                raise WorkerLost("crash")
            line += chunk
        return line
