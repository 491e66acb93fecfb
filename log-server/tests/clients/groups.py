"""Members of a group through every client library: they come, leave, are killed, and the broker is restarted and killed.

    groups.py                          our server against the stored transcripts
    groups.py --broker kafka           a real Kafka: are they still true?
    groups.py --broker kafka --store   stores them anew
    groups.py --clients java,confluent

All libraries play at the same time, each with a group and a topic of its own, and meet where the broker goes down. Records
are produced all the while. Every change is waited for by asking the broker and hearing the members. Compared are the
number of partitions that each member had one after the other, and how the settled group looks from outside. Whatever
the transcript: no partition has two owners, no record is skipped, none comes again once a commit behind it was
acknowledged, and committed offsets never go back.
"""

import argparse
import json
import os
import pathlib
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time

import confluent_kafka
import confluent_kafka.admin

import brokers
import toolbox
from differences import Known
from group_members import Members
from transcripts import compare
from wire.connection import Wire

HERE = pathlib.Path(__file__).resolve().parent
STORED = HERE / "golden/groups"
PARTITIONS = 6
SETTLE_SECONDS_MAX = 60
LOADING = (14, 15, 16)
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
}


def python_member(program):
    return lambda: [toolbox.python(), HERE / f"python/{program}.py"]


def java_member():
    return toolbox.java("GroupMember", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def kcat_member():
    toolbox.kcat()
    return [toolbox.python(), HERE / "python/group_kcat.py"]


# How a member is started, and by which protocol it joins.
CLIENTS = {
    "java": (java_member, "classic"),
    "java-consumer": (java_member, "consumer"),
    "confluent": (python_member("group_confluent"), "classic"),
    "confluent-consumer": (python_member("group_confluent"), "consumer"),
    "franz-go": (lambda: toolbox.go("group-franz"), "classic"),
    "franz-go-consumer": (lambda: toolbox.go("group-franz"), "consumer"),
    "sarama": (lambda: toolbox.go("group-sarama"), "classic"),
    "kafkajs": (lambda: toolbox.node("group_kafkajs.js"), "classic"),
    "aiokafka": (python_member("group_aio"), "classic"),
    "kafka-python": (python_member("group_kafkapython"), "classic"),
    "kcat": (kcat_member, "classic"),
}


class Source:
    """Produces into all partitions of a topic until it is stopped, over restarts of the broker, each record once."""

    def __init__(self, bootstrap, topic):
        self.topic = topic
        self.ends = [0] * PARTITIONS
        self.stopping = threading.Event()
        self.producer = confluent_kafka.Producer({
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5,
            "log_level": 0, "message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 500})
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        # The pace of the load, not a wait for anything.
        while not self.stopping.wait(0.1):
            if len(self.producer) < 1000:
                for partition in range(PARTITIONS):
                    self.producer.produce(self.topic, b"value", partition=partition, on_delivery=self.on_delivery)
            self.producer.poll(0)

    def on_delivery(self, error, message):
        if error is None:
            self.ends[message.partition()] = max(self.ends[message.partition()], message.offset() + 1)

    def stop(self):
        self.stopping.set()
        self.thread.join()
        if self.producer.flush(60):
            raise RuntimeError("records were not delivered")
        return self.ends


class Unsettled(Exception):
    """The group did not come to the state that the script waits for."""


class Play:
    """The script for one library."""

    def __init__(self, client, command, bootstrap, pause, logs):
        self.client, self.pause = client, pause
        _, self.protocol = CLIENTS[client]
        self.group = self.topic = f"g{secrets.token_hex(4)}.{client}"
        self.steps = []
        self.states = []
        self.unlisted = 0.0
        self.wire = Wire(bootstrap, "")
        self.wire.topic(self.topic, PARTITIONS)
        self.low = [0] * PARTITIONS
        self.members = Members(command, bootstrap, self.group, self.topic, self.protocol, logs / f"{client}.log",
                               signal.SIGUSR1 if client == "kcat" else signal.SIGKILL)
        self.source = Source(bootstrap, self.topic)

    def run(self):
        members = self.members
        members.start("A")
        self.settled("first joins", A=6)
        members.start("B")
        self.settled("second joins", A=3, B=3)
        members.leave("B")
        self.until(lambda: members.ended("B"), "B to end")
        self.settled("second leaves", A=6)
        members.start("C")
        self.settled("third joins", A=3, C=3)
        members.kill("C")
        self.note("third is killed", {"members": len(self.look()["members"])})
        self.settled("its session ends", A=6)
        members.start("D")
        self.settled("fourth joins", A=3, D=3)
        for way in ("restart", "kill"):
            self.until(self.everything_moves(), "every partition to go on")
            self.pause(way)
            self.until(self.everything_moves(), f"every partition to go on after the {way}")
            self.settled(f"after the broker's {way}", is_compared=False, A=3, D=3)
        ends = self.source.stop()
        self.until(lambda: self.committed() == ends, "everything to be committed")
        for name in ("A", "D"):
            members.leave(name)
            self.until(lambda: members.ended(name), f"{name} to end")
        self.until(lambda: self.look()["state"] == "Empty", "the group to be empty")
        self.note("all leave", {key: self.look()[key] for key in ("type", "state", "members")})
        skipped = members.skipped(ends)
        if self.client == "kcat":
            # It stores an offset before it prints the record, and prints nothing more once it was told to end: whoever
            # goes may take one record of each partition along. The other clients commit what their program has seen.
            skipped = [one for one in skipped if one not in members.in_hand()]
        self.note("records", {"skipped": len(skipped), "wrong": members.wrong,
                              "committed": self.committed() == ends, "some": 0 < min(ends)})

    def close(self):
        self.members.close()
        self.source.stopping.set()
        self.wire.close()

    # -- steps

    def note(self, step, result):
        self.steps.append({"step": step, "result": result})

    def settled(self, step, is_compared=True, **own):
        """Waits until the members own so many partitions and the group says the same; notes how it came and what it is."""
        def is_settled():
            group = self.look()
            is_as_wanted = group["state"] == "Stable" and group["members"] == sorted(own.values())
            return is_as_wanted and self.members.own() == own
        self.until(is_settled, f"{step}: {own}")
        group = {**self.look(), "own": own}
        sizes = self.members.sizes()
        self.note(step, {**group, "sizes": sizes} if is_compared else group)

    def until(self, holds, what):
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while not holds():
            if deadline < time.monotonic():
                raise Unsettled(f"waited for {what}; members own {self.members.own()}, sizes {self.members.sizes()}, "
                                f"the group is {self.look()}, committed {self.committed()}, log ends {self.source.ends}")
            with self.members.changed:
                self.members.changed.wait(0.02)

    def everything_moves(self):
        """A question that is true once every partition's committed offset has passed where its log ends now."""
        target = list(self.source.ends)
        return lambda: all(target[each] < at for each, at in enumerate(self.committed()))

    # -- what the broker says

    def ask(self, api, version, **fields):
        """Until the broker answers: it may be on its way back, or load its groups."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            try:
                return self.wire.ask(api, version, **fields)
            except (OSError, ValueError):
                if deadline < time.monotonic():
                    raise
                time.sleep(0.02)

    def list_groups(self):
        """All groups; after a start it waits until the last of them is loaded."""
        answer = self.ask("ListGroups", 5)
        began = time.monotonic()
        while answer["ErrorCode"] in LOADING and time.monotonic() < began + SETTLE_SECONDS_MAX:
            time.sleep(0.02)
            answer = self.ask("ListGroups", 5)
            self.unlisted = max(self.unlisted, time.monotonic() - began)
        return answer["Groups"]

    def look(self):
        """The group as an administrator sees it: members by the number of their partitions."""
        kinds = [one["GroupType"] for one in self.list_groups() if one["GroupId"] == self.group]
        kind = kinds[0] if kinds else "none"
        if self.protocol == "consumer":
            [group] = self.ask("ConsumerGroupDescribe", 1, GroupIds=[self.group])["Groups"]
            members = sorted(sum(len(topic["Partitions"]) for topic in one["Assignment"]["TopicPartitions"])
                             for one in group["Members"])
            found = {"assignor": group["AssignorName"]}
        else:
            [group] = self.ask("DescribeGroups", 6, Groups=[self.group])["Groups"]
            members = sorted(len(assigned(one["MemberAssignment"])) for one in group["Members"])
            found = {"assignor": group["ProtocolData"], "protocol": group["ProtocolType"]}
        if not self.states or self.states[-1] != group["GroupState"]:
            self.states.append(group["GroupState"])
        return {**found, "type": kind, "state": group["GroupState"], "error": group["ErrorCode"], "members": members}

    def committed(self):
        """Committed offsets by partition, 0 where there is none; they never go back."""
        with self.members.changed:
            acknowledged = [self.members.covered.get(each, 0) for each in range(PARTITIONS)]
        asked = [{"Name": self.topic, "PartitionIndexes": list(range(PARTITIONS))}]
        group = {"GroupId": self.group, "MemberId": None, "MemberEpoch": -1, "Topics": asked}
        [answer] = self.ask("OffsetFetch", 9, Groups=[group], RequireStable=False)["Groups"]
        if answer["ErrorCode"] or any(one["ErrorCode"] for topic in answer["Topics"] for one in topic["Partitions"]):
            return self.low
        offsets = list(self.low)
        for one in answer["Topics"][0]["Partitions"] if answer["Topics"] else ():
            offsets[one["PartitionIndex"]] = max(0, one["CommittedOffset"])
        if any(now < before for now, before in zip(offsets, map(max, self.low, acknowledged))):
            self.members.wrong.append(f"committed offsets are {offsets}, after {self.low} was read and "
                                      f"{acknowledged} acknowledged")
        self.low = offsets
        return offsets


def assigned(data):
    """The partitions of a classic member's assignment: version, topics with their partitions, user data."""
    partitions = []
    if data:
        at, count = 6, int.from_bytes(data[2:6], "big")
        for _ in range(count):
            at += 2 + int.from_bytes(data[at:at + 2], "big")
            length = int.from_bytes(data[at:at + 4], "big")
            partitions += [int.from_bytes(data[at + 4 + 4 * i:at + 8 + 4 * i], "big") for i in range(length)]
            at += 4 + 4 * length
    return partitions


class Meeting:
    """Where all plays that go on meet; the last to come carries out what they met for."""

    def __init__(self, count):
        self.count, self.waiting, self.round = count, 0, 0
        self.changed = threading.Condition()
        self.work = None

    def meet(self, work):
        with self.changed:
            self.waiting, self.work = self.waiting + 1, work
            before = self.round
            self.go_on_if_all_are_here()
            self.changed.wait_for(lambda: self.round != before)

    def drop_out(self):
        with self.changed:
            self.count -= 1
            self.go_on_if_all_are_here()

    def go_on_if_all_are_here(self):
        if self.waiting and self.waiting == self.count:
            try:
                self.work()
            finally:
                self.waiting, self.round = 0, self.round + 1
                self.changed.notify_all()


def play(client, command, broker, meeting, logs, outcomes):
    ways = {"restart": (broker.stop, broker.start), "kill": (broker.kill, broker.start)}

    def carry_out(way):
        for part in ways[way]:
            part()

    began, script, failure = time.monotonic(), None, ""
    try:
        script = Play(client, command, broker.bootstrap, lambda way: meeting.meet(lambda: carry_out(way)), logs)
        script.run()
    except Exception as error:  # Any failure of one library must not end the others.
        failure = f"{type(error).__name__}: {error}"
    finally:
        meeting.drop_out()
        if script:
            script.close()
    outcomes[client] = ("played", failure, script.steps if script else [], (time.monotonic() - began, script))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("stratalog", "kafka"), default="stratalog")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="comma-separated names")
    parser.add_argument("--store", action="store_true", help="store the transcripts instead of comparing")
    parser.add_argument("--show", action="store_true", help="print the transcripts")
    arguments = parser.parse_args()
    if arguments.store and arguments.broker != "kafka":
        parser.error("--store keeps what a real Kafka answers: say --broker kafka, too")
    names = arguments.clients.split(",")
    kind = {"stratalog": brokers.Stratalog, "kafka": brokers.Kafka}[arguments.broker]
    logs = pathlib.Path(tempfile.mkdtemp(prefix="groups-"))
    outcomes, commands = {}, {}
    for name in names:
        try:
            commands[name] = CLIENTS[name][0]()
        except toolbox.Missing as missing:
            outcomes[name] = ("skipped", str(missing), [], None)
    with kind(settings=SETTINGS) as broker:
        meeting = Meeting(len(commands))
        threads = [threading.Thread(target=play, args=[name, command, broker, meeting, logs, outcomes])
                   for name, command in commands.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    code = judge(arguments, names, outcomes, logs)
    if code == 0:
        shutil.rmtree(logs)
    return code


def judge(arguments, names, outcomes, logs):
    known = Known(HERE / "known-differences.json", "groups")
    passed, failed, skipped = 0, 0, 0
    for client in names:
        how, failure, steps, more = outcomes[client]
        if how == "skipped":
            skipped += 1
            print(f"{client:19} SKIPPED: {failure}")
            continue
        stored = STORED / f"{client}.jsonl"
        if arguments.store and not failure:
            STORED.mkdir(exist_ok=True)
            stored.write_text("".join(json.dumps(step, sort_keys=True) + "\n" for step in steps))
        expected = [json.loads(line) for line in stored.read_text().splitlines()] if stored.exists() else []
        complaints = compare(client, expected, steps, known) if expected else ["  there is no transcript of a real Kafka"]
        if failure:
            log = logs / f"{client}.log"
            said = log.read_text(errors="replace")[-1500:] if log.exists() else ""
            complaints.append(f"  did not come to the end: {failure}\n{said}")
        seconds, script = more
        tail = ""
        if script:
            tail = (f", {sum(map(len, script.members.delivered.values()))} records, {script.members.again} of them again, "
                    f"{script.members.refused} commits refused, {script.unlisted:.1f} s without a list, states {' '.join(script.states)}")
        print(f"{client:19} {'ok' if not complaints else 'FAILED'}  {seconds:.1f} s{tail}")
        print("\n".join(complaints), end="\n" if complaints else "")
        if arguments.show:
            print("\n".join(json.dumps(step) for step in steps))
        passed, failed = passed + (not complaints), failed + bool(complaints)
    is_ours_in_full = arguments.broker == "stratalog" and names == list(CLIENTS) and not skipped
    failed += bool(known.report(is_ours_in_full))
    print(f"groups: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or (skipped and os.environ.get("CI") == "true") else 0


if __name__ == "__main__":
    toolbox.run(main)
