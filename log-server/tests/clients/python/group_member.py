"""What the Python members of a group share: the line about each event, and the order to leave.

`PROGRAM BOOTSTRAP GROUP TOPIC NAME PROTOCOL` is one member. It prints one JSON object per line, each with one system
call, so that the lines of several members in one pipe are in the order in which things happened. SIGTERM makes it leave
its group and end.
"""

import json
import os
import signal
import sys

BOOTSTRAP, GROUP, TOPIC, NAME, PROTOCOL = (sys.argv[1:] + [""] * 5)[:5]
SESSION_MS = 6000
HEARTBEAT_MS = 500


class Leave:
    """True once somebody asked for it."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_):
        self.asked = True

    def __bool__(self):
        return self.asked


class Owned:
    """The partitions that are this member's; each change is told."""

    def __init__(self):
        self.partitions = set()

    def add(self, partitions):
        self.partitions |= set(partitions)
        self.tell()

    def remove(self, partitions):
        self.partitions -= set(partitions)
        self.tell()

    def set(self, partitions):
        self.partitions = set(partitions)
        self.tell()

    def tell(self):
        say("owned", partitions=sorted(self.partitions))


def say(event, **more):
    os.write(1, (json.dumps({"member": NAME, "event": event, **more}) + "\n").encode())


def delivered(records):
    """Tells of records as [partition, offset], a few per line; what must be committed after them, by partition."""
    records = list(records)
    for at in range(0, len(records), 100):
        say("records", records=records[at:at + 100])
    ends = {}
    for partition, offset in records:
        ends[partition] = offset + 1
    return ends


def committed(offsets):
    say("committed", offsets=sorted(offsets.items()))
