"""Members of one group, each a process of some client library, and what they tell of what happens to them.

All members of a group write into one pipe, so their lines come in the order in which things happened. From these lines
follows whether a partition ever had two owners, whether a record came again that a commit had already covered, and
whether one was skipped.
"""

import json
import os
import signal
import subprocess
import threading


class Member:
    def __init__(self, command, log, pipe):
        self.owned = []
        self.sizes = []
        self.last = {}
        self.alive = True
        self.leaves = False
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=log)

    def change(self, partitions):
        self.owned = partitions
        if len(partitions) != (self.sizes[-1] if self.sizes else 0):
            self.sizes.append(len(partitions))
        if self.sizes[-2:-1] == [0] and self.sizes[-3:-2] == self.sizes[-1:]:
            # A rebalance that changed nothing: a member that was late by a heartbeat causes one more, on any broker.
            del self.sizes[-2:]


class Members:
    """The members of one group by their names. `command` starts one and takes five arguments more."""

    def __init__(self, command, bootstrap, group, topic, protocol, log_path, kill_signal=signal.SIGKILL):
        self.kill_signal = kill_signal
        self.command, self.arguments, self.protocol = command, [bootstrap, group, topic], protocol
        self.by_name = {}
        self.changed = threading.Condition()
        self.delivered = {}
        self.covered = {}
        self.again = 0
        self.refused = 0
        self.wrong = []
        self.log = open(log_path, "ab")
        read, self.pipe = os.pipe()
        self.reader = threading.Thread(target=self.read, args=[read], daemon=True)
        self.reader.start()

    # -- what a script does

    def start(self, name):
        command = [str(part) for part in [*self.command, *self.arguments, name, self.protocol]]
        with self.changed:
            self.by_name[name] = Member(command, self.log, self.pipe)

    def leave(self, name):
        """Orderly: the program closes its consumer and ends."""
        with self.changed:
            self.by_name[name].leaves = True
            self.note_frontier(name)
        self.by_name[name].process.terminate()

    def kill(self, name):
        """Nobody hears of it until the session times out."""
        member = self.by_name[name]
        member.process.send_signal(self.kill_signal)
        member.process.wait()
        with self.changed:
            self.note_frontier(name)
            # What it has said so far is in the pipe; its partitions are free when the broker says so.
            member.alive, member.owned = False, []

    def close(self):
        for member in self.by_name.values():
            if member.process.poll() is None:
                member.process.kill()
            member.process.wait()
        os.close(self.pipe)
        self.reader.join()
        self.log.close()

    # -- what shows

    def sizes(self):
        """How many partitions each had, one after the other, since this was asked before."""
        with self.changed:
            shown = {}
            for name, member in sorted(self.by_name.items()):
                if member.sizes[1 if member.sizes[:1] == [0] else 0:]:
                    shown[name] = " ".join(map(str, member.sizes))
                member.sizes = member.sizes[-1:] if member.alive else []
            return shown

    def own(self):
        with self.changed:
            return {name: len(member.owned) for name, member in self.by_name.items()
                    if member.alive and not member.leaves}

    def ended(self, name):
        return self.by_name[name].process.poll() is not None

    def skipped(self, ends):
        """Offsets before the ends that no member ever got."""
        with self.changed:
            return [(partition, offset) for partition, end in enumerate(ends) for offset in range(end)
                    if offset not in self.delivered.get(partition, ())]

    def note_frontier(self, name):
        """A member that goes may have told of nothing yet: its records follow those that others told of."""
        member = self.by_name[name]
        for partition in member.owned:
            member.last.setdefault(partition, max(self.delivered.get(partition, ()), default=-1))

    def in_hand(self):
        """For each member that went, and each partition it read: the record behind the last one that it told of."""
        with self.changed:
            return {(partition, offset + 1) for member in self.by_name.values() if member.leaves or not member.alive
                    for partition, offset in member.last.items()}

    # -- what they say

    def read(self, pipe):
        with os.fdopen(pipe) as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                with self.changed:
                    self.hear(event)
                    self.changed.notify_all()

    def hear(self, event):
        member = self.by_name[event["member"]]
        what = event["event"]
        if what == "owned" and member.alive:
            member.change(event["partitions"])
            for other_name, other in self.by_name.items():
                both = set(other.owned) & set(member.owned)
                if other is not member and both:
                    self.wrong.append(f"{event['member']} and {other_name} both own {sorted(both)}")
        elif what == "records":
            for partition, offset in event["records"]:
                seen = self.delivered.setdefault(partition, set())
                self.again += offset in seen
                if offset < self.covered.get(partition, 0):
                    self.wrong.append(f"{event['member']} got {partition}@{offset} again, a commit of "
                                      f"{self.covered[partition]} was acknowledged")
                seen.add(offset)
                member.last[partition] = offset
        elif what == "committed":
            for partition, offset in event["offsets"]:
                self.covered[partition] = max(offset, self.covered.get(partition, 0))
        elif what == "refused":
            self.refused += 1
