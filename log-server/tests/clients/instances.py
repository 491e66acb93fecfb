"""Processes that stand for one another: an instance is killed and replaced, or paused, replaced, and comes back as a zombie."""

import collections
import json
import signal
import subprocess

LEAVING_SECONDS_MAX = 120
# As a program ends that was told to: by itself, as a JVM does, or before it knew what to do then.
IN_ORDER = (0, 128 + signal.SIGTERM, -signal.SIGTERM)


class Instance:
    """A place for one process after the other, each with files of its own; `command` makes the arguments of the n-th."""

    def __init__(self, name, command, directory, may_end_with=()):
        self.name, self.command, self.directory = name, command, directory
        self.may_end_with = may_end_with
        self.count = 0
        self.process = None
        self.paused, self.zombies = [], []
        # How processes ended that were not told to.
        self.ends = collections.Counter()
        self.start()

    @property
    def files(self):
        return self.directory / f"{self.name}.{self.count}"

    def start(self):
        self.count += 1
        command = [str(part) for part in self.command(self.count)]
        with open(f"{self.files}.jsonl", "wb") as events, open(f"{self.files}.log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=events, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def replace(self):
        self.kill()
        self.start()

    def pause_and_replace(self):
        """The next one takes its place while it is not dead."""
        self.process.send_signal(signal.SIGSTOP)
        self.paused.append(self.process)
        self.start()

    def resume(self):
        """Whoever was paused comes back, and does not know that another has its place."""
        for process in self.paused:
            process.send_signal(signal.SIGCONT)
        self.zombies += self.paused
        self.paused = []

    def revive(self):
        """Starts it again when it ended by itself in a way that is allowed; fails when the way is another."""
        for zombie in [zombie for zombie in self.zombies if zombie.poll() is not None]:
            self.zombies.remove(zombie)
            self.ends[self.checked(zombie.returncode)] += 1
        if self.process.poll() is not None:
            self.ends[self.checked(self.process.returncode)] += 1
            self.start()

    def checked(self, code):
        if code not in self.may_end_with:
            raise RuntimeError(f"{self.name} ended with {code}: {self.files}.log")
        return code

    def leave(self):
        """It ends in order, as it is told to."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LEAVING_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
                raise RuntimeError(f"{self.name} does not end: {self.files}.log") from None
        if self.process.returncode not in IN_ORDER:
            self.checked(self.process.returncode)

    def kill_all(self):
        for process in (self.process, *self.paused, *self.zombies):
            process.kill()
            process.wait()

    def events(self):
        """What all processes of this place have said; the last line of one that was killed may be torn."""
        for path in sorted(self.directory.glob(f"{self.name}.*.jsonl")):
            whole = path.read_bytes().rpartition(b"\n")[0]
            yield from map(json.loads, whole.splitlines())
