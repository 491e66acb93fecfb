"""What a history of transactional clients must not show: a checker in the manner of Jepsen's workload for Kafka.

A history is a list of events, each a dictionary. Events of one process are in its order; `at` is a clock that all processes
share, in nanoseconds. A place is `[topic, partition]`; a value is written once in a whole history.

| event | fields | means |
|---|---|---|
| `write` | `value`, `place`, `unit` | is about to send; `unit` is its transaction, or its own when it has none |
| `acked` | `value`, `place`, `offset` | the broker has told where the record is |
| `commit` | `unit` | is about to ask for the end of the transaction |
| `end` | `unit`, `outcome` | `ok`: committed; `fail`: surely not; `info`: nobody knows |
| `assign` | `positions` | the reader goes on there: `[[place, offset or None], …]`; it reads nothing else |
| `poll` | `records` | `[[place, offset, value], …]`, read as committed |
| `final` | `records` | everything that can be read as committed when all is over |

A unit without an `end` is as one whose outcome nobody knows; if its commit was never asked for, it surely has none.

| anomaly | what is wrong |
|---|---|
| `lost` | a record of a committed unit is not there in the end |
| `doubled` | a record is there twice |
| `aborted-read` | somebody read a record of a unit that was not committed |
| `early-read` | somebody read a record before its commit was asked for |
| `torn` | a part of a unit is there in the end and another is not |
| `two-values` | two records were seen at one offset |
| `misplaced` | a record nobody wrote, or in another place than where it was sent |
| `poll-back` | a reader got an offset that is not above the one before, without an `assign` |
| `poll-skip` | a reader passed over a record that is there in the end |
| `poll-strange` | a reader got a partition that it does not have |
| `send-back` | of two records that a process sent to one place in this order, the second has the smaller offset |
"""

from bisect import bisect_left
from collections import defaultdict

KINDS = ("lost", "doubled", "aborted-read", "early-read", "torn", "two-values", "misplaced", "poll-back", "poll-skip",
         "poll-strange", "send-back")


def place_of(pair):
    return (pair[0], pair[1])


class Units:
    """What was sent, in which unit, and how that ended."""

    def __init__(self, history):
        self.of_value = {}
        self.place = {}
        self.values = defaultdict(list)
        self.asked = {}
        self.outcome = {}
        for event in history:
            kind = event["event"]
            if kind == "write":
                value, unit = event["value"], event["unit"]
                self.of_value[value] = unit
                self.place[value] = place_of(event["place"])
                self.values[unit].append(value)
            elif kind == "commit":
                self.asked.setdefault(event["unit"], event["at"])
            elif kind == "end":
                self.outcome[event["unit"]] = event["outcome"]

    def is_committed(self, unit):
        return self.outcome.get(unit) == "ok"

    def cannot_be_committed(self, unit):
        return self.outcome.get(unit, "info") == "fail" or (self.outcome.get(unit) != "ok" and unit not in self.asked)


class Findings:
    def __init__(self):
        self.found = []

    def add(self, kind, text):
        assert kind in KINDS, kind
        self.found.append((kind, text))


def anomalies(history):
    """All anomalies of a history: `[(kind, text), …]`."""
    history = list(history)
    units, findings = Units(history), Findings()
    final = [(place_of(place), offset, value) for event in history if event["event"] == "final"
             for place, offset, value in event["records"]]
    check_final(final, units, findings)
    check_offsets(history, final, findings)
    check_reads(history, final, units, findings)
    check_polls(history, final, findings)
    check_sends(history, findings)
    return findings.found


def check_final(final, units, findings):
    there = defaultdict(list)
    for place, offset, value in final:
        there[value].append((place, offset))
    for value, places in there.items():
        if 1 < len(places):
            findings.add("doubled", f"{value} is at {places}")
    for unit, values in units.values.items():
        present = [value for value in values if value in there]
        absent = [value for value in values if value not in there]
        if units.is_committed(unit):
            for value in absent:
                findings.add("lost", f"{value} of {unit}, which was committed, is not in {units.place[value]}")
        elif present and absent and not units.cannot_be_committed(unit):
            findings.add("torn", f"of {unit} {present} are there, and {absent} are not")


def check_offsets(history, final, findings):
    """One offset has one record, whoever says so. Offsets of records that were not acknowledged may be given anew."""
    seen = {}

    def note(place, offset, value, who):
        before = seen.setdefault((place, offset), (value, who))
        if before[0] != value:
            findings.add("two-values", f"{place}@{offset} is {before[0]} ({before[1]}) and {value} ({who})")

    for place, offset, value in final:
        note(place, offset, value, "in the end")
    for event in history:
        if event["event"] == "acked":
            note(place_of(event["place"]), event["offset"], event["value"], f"acknowledged to {event['process']}")
        elif event["event"] == "poll":
            for place, offset, value in event["records"]:
                note(place_of(place), offset, value, f"read by {event['process']}")


def check_reads(history, final, units, findings):
    def check(place, offset, value, who, at):
        unit = units.of_value.get(value)
        if unit is None or units.place[value] != place:
            findings.add("misplaced", f"{who} got {value} at {place}@{offset}, sent to {units.place.get(value)}")
        elif units.cannot_be_committed(unit):
            outcome = units.outcome.get(unit, "never ended")
            findings.add("aborted-read", f"{who} got {value} at {place}@{offset}; {unit}: {outcome}")
        elif at is not None and unit in units.asked and at < units.asked[unit]:
            early = (units.asked[unit] - at) / 1e6
            findings.add("early-read", f"{who} got {value} at {place}@{offset} {early:.3f} ms before {unit} was to commit")

    for event in history:
        if event["event"] == "poll":
            for place, offset, value in event["records"]:
                check(place_of(place), offset, value, event["process"], event["at"])
    for place, offset, value in final:
        check(place, offset, value, "the last reader", None)


def check_polls(history, final, findings):
    """Each reader goes forward and passes over nothing, from one `assign` to the next."""
    there = defaultdict(list)
    for place, offset, _ in final:
        there[place].append(offset)
    for offsets in there.values():
        offsets.sort()
    positions = defaultdict(dict)
    for event in history:
        process = event.get("process")
        if event["event"] == "assign":
            positions[process] = {place_of(place): offset for place, offset in event["positions"]}
        elif event["event"] == "poll":
            mine = positions[process]
            for pair, offset, value in event["records"]:
                place = place_of(pair)
                if place not in mine:
                    findings.add("poll-strange", f"{process} got {value} at {place}@{offset}, which it does not read")
                    continue
                expected = mine[place]
                if expected is not None and offset < expected:
                    findings.add("poll-back", f"{process} got {place}@{offset} when it was at {expected}")
                elif expected is not None:
                    skipped = between(there[place], expected, offset)
                    if skipped:
                        findings.add("poll-skip", f"{process} went from {expected} to {offset} of {place}, over {skipped[:5]}")
                mine[place] = offset + 1


def between(offsets, start, end):
    return offsets[bisect_left(offsets, start):bisect_left(offsets, end)]


def check_sends(history, findings):
    """A process's records in one place have the order in which it sent them."""
    order, at = defaultdict(list), {}
    for event in history:
        if event["event"] == "write":
            order[(event["process"], place_of(event["place"]))].append(event["value"])
        elif event["event"] == "acked":
            at[event["value"]] = event["offset"]
    for (process, place), values in order.items():
        highest = None
        for value in values:
            if value not in at:
                continue
            if highest is not None and at[value] < at[highest]:
                findings.add("send-back", f"{process} sent {highest} before {value} to {place}: {at[highest]}, {at[value]}")
            else:
                highest = value


def transformed(history, inputs, outputs, origin):
    """Anomalies of a loop that makes one output of each input: which is missing, doubled, or out of its partition's order.

    `origin` gives the input's value from an output's, or `None` if that is no output of the loop.
    """
    final = [(place_of(place), offset, value) for event in history if event["event"] == "final"
             for place, offset, value in event["records"]]
    found = []
    wanted = {value: (place, offset) for place, offset, value in final if place[0] == inputs}
    made = defaultdict(list)
    last = {}
    for place, offset, value in sorted(final):
        source = origin(value) if place[0] == outputs else None
        if source is None:
            continue
        made[source].append((place, offset))
        if source not in wanted:
            found.append(("output-strange", f"{value} at {place}@{offset} has no input"))
            continue
        input_place, input_offset = wanted[source]
        if input_offset < last.get((place, input_place), -1):
            found.append(("output-back", f"{value} at {place}@{offset} comes behind a later input of {input_place}"))
        last[(place, input_place)] = input_offset
    for source, places in made.items():
        if 1 < len(places):
            found.append(("output-doubled", f"{source} was transformed to {places}"))
    found += [("output-lost", f"{source} at {where} was never transformed") for source, where in wanted.items()
              if source not in made]
    return found
