"""Kafka's own log dump tool reads our data directory and must find nothing to complain about.

    dump.py                    our server: filled, stopped in order; killed under load, recovered, stopped in order
    dump.py --broker kafka     the same with a real Kafka: does this check accept what Kafka writes?

Checks every `.log` (deep iteration, data printed, checksums), `.index`, `.timeindex`, `.txnindex` and `.snapshot`
file, that every segment with records has its indexes, that the dumped records are as many as were sent, and that
markers and aborted transactions are among what was read. Topics that name a codec have no batch of another.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import brokers
import toolbox

HERE = pathlib.Path(__file__).resolve().parent
TOOL = "org.apache.kafka.tools.DumpLogSegments"
# What the tool prints when it does not like what it reads; it ends well all the same.
COMPLAINTS = re.compile(
    r"mismatch|isvalid: false|corrupt|invalid|non-?consecutive|out of order|exception|error|could not|not found|"
    r"failed|unexpected|found \d+ invalid bytes", re.IGNORECASE)
# Payload lines hold our own data, and the tool's words above may be part of it.
HARMLESS = re.compile(r"isvalid: true|^Dumping |errorCode: NONE")
FILES_PER_RUN = 400


def fill(bootstrap, *more):
    done = subprocess.run([toolbox.python(), HERE / "python/fill_for_dump.py", bootstrap, *more],
                          capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"filling failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def partitions(directory):
    """The partitions of the tests' topics, wherever below the data directory they lie."""
    return sorted(path for path in directory.rglob("dump-*") if path.is_dir() and re.search(r"-\d+$", path.name))


def run_tool(files, *arguments):
    out = []
    for at in range(0, len(files), FILES_PER_RUN):
        names = ",".join(str(file) for file in files[at:at + FILES_PER_RUN])
        done = brokers.run_kafka_tool(TOOL, *arguments, "--files", names)
        out += done.stdout.splitlines() + [f"stderr: error: {line}" for line in done.stderr.splitlines() if line.strip()]
        if done.returncode:
            out.append(f"error: the tool ended with {done.returncode}")
    return out


def complaints_in(lines):
    wrong = [line for line in lines if COMPLAINTS.search(line) and not HARMLESS.search(line)]
    return [line for line, following in zip(wrong, [*wrong[1:], ""]) if not starts_its_segment(line, following)]


def starts_its_segment(line, following):
    """Deep iteration takes every file for the first of its log, so it misses offset 0 in all but one. The pair of lines
    in which it says so counts only if the segment does not begin with its own base offset."""
    for one, two in ((line, following), ("", line)):
        offsets = re.search(r"-1 is followed by (\d+)$", two)
        named = re.search(r"Non-consecutive offsets in .*/(\d+)\.log$", one)
        if offsets and (not one or (named and int(named[1]) == int(offsets[1]))):
            return True
    return False


def check(directory, sent):
    """All complaints about the data directory of a stopped server."""
    complaints = []
    found = partitions(directory)
    if len(found) < 2 * len(sent):
        return [f"only {len(found)} partition directories under {directory}"]
    logs = [file for partition in found for file in sorted(partition.glob("*.log"))]
    for log in (log for log in logs if log.stat().st_size):
        for suffix in (".index", ".timeindex"):
            if not log.with_suffix(suffix).exists():
                complaints.append(f"{log.name} of {log.parent.name} has no {suffix}")
    indexes = [file for partition in found for suffix in ("index", "timeindex", "txnindex")
               for file in sorted(partition.glob(f"*.{suffix}"))]
    snapshots = [file for partition in found for file in sorted(partition.glob("*.snapshot"))]
    dumped = run_tool(logs + indexes + snapshots, "--deep-iteration", "--print-data-log")
    complaints += complaints_in(dumped)
    complaints += count(dumped, sent)
    complaints += wrong_codecs(dumped)
    sane = run_tool([file for file in indexes if file.suffix != ".txnindex"], "--index-sanity-check")
    complaints += complaints_in(sane)
    passed = sum("passed sanity check" in line for line in sane)
    entries = sum(line.startswith("offset: ") and " position: " in line for line in dumped)
    times = sum(line.startswith("timestamp: ") and " offset: " in line for line in dumped)
    producers = sum(line.startswith("producerId: ") for line in dumped)
    aborted = sum(line.startswith("version: ") and " firstOffset: " in line for line in dumped)
    markers = sum(is_marker(line) for line in dumped)
    for what, number in (("offset index", entries), ("time index", times), ("producer snapshot", producers),
                         ("transaction index", aborted), ("control batch", markers)):
        if number == 0:
            complaints.append(f"no {what} holds an entry at all")
    print(f"  {len(logs)} segments, {len(indexes)} indexes ({passed} sane, {entries} offsets, {times} times), "
          f"{len(snapshots)} snapshots of {producers} producers, {markers} markers, {aborted} aborted transactions", flush=True)
    return complaints


def is_marker(line):
    return line.startswith("| offset:") and " endTxnMarker: " in line


def count(dumped, sent):
    """The records that the tool printed, topic by topic, against what was acknowledged."""
    topic, records, batches = None, {}, 0
    for line in dumped:
        if line.startswith("Dumping "):
            topic = pathlib.Path(line.removeprefix("Dumping ").strip()).parent.name.rsplit("-", 1)[0]
        elif line.startswith("| offset:") and not is_marker(line):
            records[topic] = records.get(topic, 0) + 1
        elif line.startswith("baseOffset:"):
            batches += 1
    print(f"  {batches} batches, {sum(records.values())} records", flush=True)
    wrong = []
    for name, number in sent.items():
        # A deleted record stays in its segment until the whole segment may go.
        exact = name != "dump-deleted"
        if records.get(name, 0) != number if exact else number < records.get(name, 0):
            wrong.append(f"{name}: {number} records sent, {records.get(name, 0)} dumped")
    return wrong


def wrong_codecs(dumped):
    """Batches of a topic that names its codec, in another one."""
    topic, batches, wrong = None, 0, []
    for line in dumped:
        if line.startswith("Dumping "):
            topic = pathlib.Path(line.removeprefix("Dumping ").strip()).parent.name.rsplit("-", 1)[0]
        elif line.startswith("baseOffset:") and topic.startswith("dump-to-"):
            batches += 1
            codec = re.search(r"compresscodec: (\w+)", line)[1].lower()
            if codec != topic.removeprefix("dump-to-"):
                wrong.append(f"{topic} has a batch in {codec}")
    print(f"  {batches} batches in their topics' codecs", flush=True)
    return wrong[:10] if batches else ["no topic names its codec"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("stratalog", "kafka"), default="stratalog")
    arguments = parser.parse_args()
    more = ["without-small-index"] if arguments.broker == "kafka" else []
    kind = {"stratalog": brokers.Stratalog, "kafka": brokers.Kafka}[arguments.broker]
    directory = pathlib.Path(tempfile.mkdtemp(prefix="dump-test-"))
    passed, failed = 0, 0
    try:
        broker = kind(directory / "data")
        broker.start()
        try:
            sent = fill(broker.bootstrap, *more)
            broker.stop()
            steps = [("after an orderly stop", check(broker.data_dir, sent))]
            broker.start()
            sent = add(sent, fill(broker.bootstrap, "again", *more))
            broker.kill()
            broker.start()
            broker.stop()
            steps.append(("after a kill, recovery and an orderly stop", check(broker.data_dir, sent)))
        finally:
            broker.kill()
        for name, complaints in steps:
            print(f"dump {name}: {'ok' if not complaints else 'FAILED'}")
            print("\n".join(f"  {line[:300]}" for line in complaints[:40]), end="\n" if complaints else "")
            passed, failed = passed + (not complaints), failed + bool(complaints)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"dump: {passed} passed, {failed} failed")
    return 1 if failed else 0


def add(first, second):
    return {topic: number + second[topic] for topic, number in first.items()}


if __name__ == "__main__":
    toolbox.run(main)
