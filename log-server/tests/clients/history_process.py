"""One client of a history (`histories.py`) as processes, one after the other, and how each of them ended.

Whoever starts, replaces or ends one is told when the client's library had ended it. A client that ended in any other way has failed, and
no history goes on without somebody hearing of it.
"""

import pathlib
import signal
import subprocess
import sys
import time

PROGRAM = pathlib.Path(__file__).resolve().parent / "python/history_client.py"
CALM_SECONDS_MAX = 120
# What librdkafka does to its process: a call that does not return (the client's own alarm), memory that it damaged. To the broker
# that is a client that was killed.
ENDS_BY_LIBRARY = {-signal.SIGALRM: "client hung", -signal.SIGABRT: "client aborted", -signal.SIGSEGV: "client crashed"}


class Client:
    """Its processes: each has a name and a file of its own."""

    def __init__(self, role, number, bootstrap, prefix, seed, directory, program=PROGRAM):
        self.role, self.name, self.count = role, f"{role}{number}", 0
        self.arguments = [bootstrap, prefix, str(seed)]
        self.directory = directory
        self.program = program
        self.process = None
        self.is_over = False
        self.start()

    def start(self):
        self.count += 1
        name = f"{self.name}.{self.count}"
        command = [sys.executable, self.program, self.role, name, *self.arguments]
        with open(self.directory / f"{name}.jsonl", "wb") as events, open(self.directory / f"{name}.log", "ab") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=events,
                                            stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ended_by_library(self):
        """How its library ended it; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        if code not in ENDS_BY_LIBRARY:
            raise RuntimeError(f"{self.name} ended with {code}: {self.directory}")
        return ENDS_BY_LIBRARY[code]

    def revive(self):
        """Starts it again when its library ended it before it was to end, and says how; None when it runs."""
        how = None if self.is_over else self.ended_by_library()
        if how:
            self.start()
        return how

    def replace(self):
        """Kills it, and starts it again. Says how its library had ended it before, if it had."""
        how = self.ended_by_library()
        self.kill()
        self.start()
        return how

    def pause(self, seconds):
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        """In order, and for good. Says how its library ended it, if it did, be it in the last moment."""
        self.is_over = True
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(CALM_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGUSR1)
                time.sleep(1)
                self.kill()
                raise RuntimeError(f"{self.name} does not end: {self.directory}") from None
        # One that was just started may not know yet what to do when it is told to end.
        if self.process.returncode in (0, -signal.SIGTERM):
            return None
        return self.ended_by_library()
