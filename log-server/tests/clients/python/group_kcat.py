"""A member of a group through kcat's balanced consumer (`kcat -G`), which stores and commits offsets by itself.

SIGUSR1 kills kcat with SIGKILL; what it has printed before is still told, because it may be committed.
"""

import re
import signal
import subprocess
import sys
import threading

from group_member import BOOTSTRAP, GROUP, HEARTBEAT_MS, SESSION_MS, TOPIC, Owned, say

owned = Owned()
settings = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": HEARTBEAT_MS, "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50, "auto.commit.interval.ms": 100, "reconnect.backoff.max.ms": 500}
command = ["kcat", "-b", BOOTSTRAP, "-G", GROUP, "-u", "-E", "-f", r"%p %o\n"]
for name, value in settings.items():
    command += ["-X", f"{name}={value}"]
# kcat ends with this program, however that ends.
command = ["setpriv", "--pdeathsig", "KILL", *command, TOPIC]
kcat = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
signal.signal(signal.SIGTERM, lambda *_: kcat.terminate())
signal.signal(signal.SIGUSR1, lambda *_: kcat.kill())


def read_rebalances():
    """`% Group G rebalanced (memberid M): assigned: TOPIC [0], TOPIC [1]`, or `revoked:`."""
    for line in kcat.stderr:
        found = re.search(r"rebalanced .*?: (assigned|revoked): (.*)", line)
        if not found:
            sys.stderr.write(line)
            continue
        partitions = [int(number) for number in re.findall(r"\[(\d+)\]", found[2])]
        (owned.add if found[1] == "assigned" else owned.remove)(partitions)


rebalances = threading.Thread(target=read_rebalances)
rebalances.start()
for line in kcat.stdout:
    partition, offset = map(int, line.split())
    say("records", records=[[partition, offset]])
rebalances.join()
sys.exit(kcat.wait())
