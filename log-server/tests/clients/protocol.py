"""Sends edge-case requests and compares every answer with that of a real Kafka.

    protocol.py                          our server, started for the run, against the stored answers
    protocol.py --broker kafka           a real Kafka against the stored answers: are they still true?
    protocol.py --broker kafka --store   stores a real Kafka's answers anew
    protocol.py --bootstrap HOST:PORT    any broker that runs already; with --broker kafka, a real one
    protocol.py --cases idempotence,fetch_sessions --show   prints those answers

Runs in the environment of the Python clients, whose kafka-python brings the message schemas (`toolbox.py`).
A difference passes only if `known-differences.json` names it with a reason.
"""

import argparse
import collections
import json
import pathlib
import secrets
import sys
import traceback

import brokers
import toolbox
from differences import Known, flatten
from wire import (classic_groups, configs_and_cluster, consumer_groups, fetching, groups, offsets, producing, telemetry,
                  topics, versions_and_connection)
from wire.connection import Wire

HERE = pathlib.Path(__file__).resolve().parent
STORED = HERE / "golden/protocol.json"
CASES = {case.__name__: case for module in (versions_and_connection, topics, producing, fetching, configs_and_cluster,
                                                 offsets, groups, classic_groups, consumer_groups, telemetry)
         for case in module.CASES}


class KafkaThatTakesMetrics(brokers.Kafka):
    """A real Kafka with a plugin for clients' own metrics, without which it does not serve them."""

    def __init__(self):
        super().__init__(settings={"metric.reporters": "TakesClientMetrics"})
        self.plugins = [toolbox.classes("TakesClientMetrics", brokers.class_path("broker"))]


def play(case, bootstrap, is_patient, waits):
    """The labelled answers of one case. A case that breaks off says where, which is a difference of its own."""
    wire = Wire(bootstrap, f"w{secrets.token_hex(4)}.", is_patient, waits)
    answers = {}
    try:
        for label, answer in case(wire):
            answers[label] = answer
    except Exception as failure:  # pylint: disable=broad-exception-caught
        place = traceback.extract_tb(failure.__traceback__)[-1]
        answers["broke off"] = f"{type(failure).__name__}: {failure} ({pathlib.Path(place.filename).name}:{place.lineno})"
    finally:
        wire.close()
    return answers


def compare(name, expected, got, known):
    complaints = []
    for label in [*expected, *(label for label in got if label not in expected)]:
        before, after = flatten(expected.get(label, "no such answer")), flatten(got.get(label, "no such answer"))
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path) and not known.explains(f"{name}:{label}:{path}"):
                complaints.append(f"  {name}:{label}:{path}: Kafka {before.get(path)}, here {after.get(path)}")
    return complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("stratalog", "kafka"), default="stratalog")
    parser.add_argument("--bootstrap", help="a running broker instead of one started for this run")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated names")
    parser.add_argument("--store", action="store_true", help="store the answers instead of comparing")
    parser.add_argument("--show", action="store_true", help="print the answers")
    arguments = parser.parse_args()
    if arguments.store and arguments.broker != "kafka":
        parser.error("--store keeps what a real Kafka answers: say --broker kafka, too")
    if arguments.bootstrap:
        return run(arguments, arguments.bootstrap)
    kind = {"stratalog": brokers.Stratalog, "kafka": KafkaThatTakesMetrics}[arguments.broker]
    with kind() as broker:
        return run(arguments, broker.bootstrap)


def run(arguments, bootstrap):
    known = Known(HERE / "known-differences.json", "protocol")
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    passed, failed, waits = 0, 0, collections.Counter()
    is_patient = arguments.broker == "kafka"
    for name in arguments.cases.split(","):
        answers = json.loads(json.dumps(play(CASES[name], bootstrap, is_patient, waits)))
        if arguments.show:
            print(json.dumps(answers, indent=1))
        if arguments.store:
            stored[name] = answers
        complaints = compare(name, stored.get(name, {}), answers, known)
        print(f"{name:32} {'ok' if not complaints else 'FAILED'}  {len(answers)} answers", flush=True)
        print("\n".join(complaints), end="\n" if complaints else "", flush=True)
        passed, failed = passed + (not complaints), failed + bool(complaints)
    if arguments.store:
        STORED.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
    print(f"answers that were not there at once: {dict(waits) or 'none'}")
    is_ours_in_full = arguments.broker == "stratalog" and not arguments.bootstrap and arguments.cases == ",".join(CASES)
    failed += bool(known.report(is_ours_in_full))
    print(f"protocol: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    toolbox.run(main)
