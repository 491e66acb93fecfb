"""Plays the scenario through every client library and compares the transcripts with those of a real Kafka.

    transcripts.py                          our server, started for the run, against the stored transcripts
    transcripts.py --broker kafka           a real Kafka against the stored transcripts: are they still true?
    transcripts.py --broker kafka --store   stores a real Kafka's transcripts anew
    transcripts.py --bootstrap HOST:PORT    any broker that runs already

A difference passes only if `known-differences.json` names it with a reason. The last line counts the clients.
"""

import argparse
import json
import os
import pathlib
import secrets
import subprocess
import sys
import time

import brokers
import toolbox
from differences import Known, flatten

HERE = pathlib.Path(__file__).resolve().parent
STORED = HERE / "golden"
SECONDS_MAX = 240


def play(client, bootstrap):
    """The transcript of one client: a list of steps, and what it said on stderr if it failed."""
    command, more = toolbox.CLIENTS[client]
    prefix = f"t{secrets.token_hex(4)}"
    arguments = [str(part) for part in [*command(), bootstrap, prefix, *more]]
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=SECONDS_MAX, check=False)
        out, failure = done.stdout, done.stderr if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        out, failure = (late.stdout or b"").decode(), f"did not finish within {SECONDS_MAX} s"
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")], failure


def by_name(steps):
    """Steps under names that are unique: the step, what tells it from its like, and a count where even that repeats."""
    named = {}
    for step in steps:
        labels = [str(step[key]) for key in sorted(step) if key not in ("step", "result", "error", "unsupported")]
        name = base = " ".join([step["step"], *labels])
        count = 1
        while name in named:
            count += 1
            name = f"{base} #{count}"
        named[name] = {key: step[key] for key in ("result", "error", "unsupported") if key in step}
    return named


def compare(client, expected, got, known):
    """Lines that say where the transcripts differ without a known reason."""
    complaints = []
    expected, got = by_name(expected), by_name(got)
    for name in [*expected, *(name for name in got if name not in expected)]:
        before, after = flatten(expected.get(name, "no such step")), flatten(got.get(name, "no such step"))
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path):
                where = f"{client}:{name}:{path}"
                if not known.explains(where):
                    complaints.append(f"  {where}: Kafka {before.get(path)}, here {after.get(path)}")
    return complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("stratalog", "kafka"), default="stratalog")
    parser.add_argument("--bootstrap", help="a running broker instead of one started for this run")
    parser.add_argument("--clients", default=",".join(toolbox.CLIENTS), help="comma-separated names")
    parser.add_argument("--store", action="store_true", help="store the transcripts instead of comparing")
    arguments = parser.parse_args()
    if arguments.store and arguments.broker != "kafka":
        parser.error("--store keeps what a real Kafka answers: say --broker kafka, too")
    if arguments.bootstrap:
        return run(arguments, arguments.bootstrap)
    kind = {"stratalog": brokers.Stratalog, "kafka": brokers.Kafka}[arguments.broker]
    with kind() as broker:
        return run(arguments, broker.bootstrap)


def run(arguments, bootstrap):
    known = Known(HERE / "known-differences.json", "transcripts")
    passed, failed, skipped = 0, 0, 0
    for client in arguments.clients.split(","):
        began = time.monotonic()
        try:
            steps, failure = play(client, bootstrap)
        except toolbox.Missing as missing:
            skipped += 1
            print(f"{client:13} SKIPPED: {missing}", flush=True)
            continue
        stored = STORED / f"{client}.jsonl"
        if arguments.store and not failure:
            stored.write_text("".join(json.dumps(step, sort_keys=True) + "\n" for step in steps))
        expected = [json.loads(line) for line in stored.read_text().splitlines()] if stored.exists() else []
        complaints = compare(client, expected, steps, known)
        if failure:
            complaints.append("  the program failed: " + failure.strip()[-1500:])
        seconds = time.monotonic() - began
        print(f"{client:13} {'ok' if not complaints else 'FAILED'}  {len(steps)} steps, {seconds:.1f} s", flush=True)
        print("\n".join(complaints), end="\n" if complaints else "", flush=True)
        passed, failed = passed + (not complaints), failed + bool(complaints)
    is_ours = arguments.broker == "stratalog" and not arguments.bootstrap
    is_ours_in_full = is_ours and arguments.clients == ",".join(toolbox.CLIENTS) and not skipped
    failed += bool(known.report(is_ours_in_full))
    print(f"transcripts: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or (skipped and os.environ.get("CI") == "true") else 0


if __name__ == "__main__":
    toolbox.run(main)
