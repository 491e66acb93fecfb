"""Compacted topics: what is left after compaction, record by record, and Kafka's dump tool on it.

    compaction.py                    our server: compacted, killed, filled and compacted again
    compaction.py --broker kafka     the same with a real Kafka: is what must be left what Kafka leaves?

The same records go into the same topics at either broker, with each codec, and the offset, key and value of every record
that is left must be those that `python/compacted.py` computes. The last line is a digest of all of them: the same at both.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import brokers
import dump
import toolbox

HERE = pathlib.Path(__file__).resolve().parent
# Gaps are what compaction is about.
GAP = re.compile(r"(stderr: error: )?(Non-consecutive offsets in |\s+-?\d+ is followed by \d+$)")
# Looks for dirty logs all the time.
SETTINGS = {"log.cleaner.backoff.ms": "200"}


def compact(bootstrap, phase):
    done = subprocess.run([toolbox.python(), HERE / "python/compacted.py", bootstrap, str(phase)],
                          capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise RuntimeError(f"phase {phase}: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def complaints_about(directory, left):
    """What the dump tool says of the segments, gaps aside, and of how many records are in them."""
    found = dump.partitions(directory)
    files = [file for partition in found for suffix in ("log", "index", "timeindex", "snapshot")
             for file in sorted(partition.glob(f"*.{suffix}"))]
    dumped = dump.run_tool(files, "--deep-iteration", "--print-data-log")
    complaints = dump.complaints_in([line for line in dumped if not GAP.match(line)])
    complaints += dump.count(dumped, {topic: count for topic, (count, _) in left.items()})
    sane = dump.run_tool([file for file in files if file.suffix.endswith("index")], "--index-sanity-check")
    complaints += dump.complaints_in(sane)
    aside = [file.name for partition in found for file in partition.iterdir() if file.suffix in (".cleaned", ".swap")]
    return complaints + [f"left behind: {name}" for name in aside]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("stratalog", "kafka"), default="stratalog")
    arguments = parser.parse_args()
    kind = {"stratalog": brokers.Stratalog, "kafka": brokers.Kafka}[arguments.broker]
    directory = pathlib.Path(tempfile.mkdtemp(prefix="compaction-test-"))
    digest = hashlib.sha256()
    failed = 0
    try:
        broker = kind(directory / "data", SETTINGS)
        broker.start()
        try:
            for phase in (1, 2, 3):
                left = compact(broker.bootstrap, phase)
                digest.update(json.dumps(left).encode())
                print(f"compaction, phase {phase}: ok, {sum(count for count, _ in left.values())} records are left", flush=True)
                if phase == 1:
                    broker.kill()
                    broker.start()
            broker.stop()
            complaints = complaints_about(broker.data_dir, left)
        finally:
            broker.kill()
        print(f"compaction, dump: {'ok' if not complaints else 'FAILED'}")
        print("\n".join(f"  {line[:300]}" for line in complaints[:40]), end="\n" if complaints else "")
        failed += bool(complaints)
        print(f"digest {digest.hexdigest()[:16]}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    toolbox.run(main)
