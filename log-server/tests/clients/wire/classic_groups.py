"""JoinGroup, SyncGroup, Heartbeat and LeaveGroup: every version, every refusal, and groups of two.

Whoever waits does so on a connection of its own (`Client`), so a case can send, go on, and look for the answer later.
"""

import re
import socket

from . import codec
from .connection import SECONDS_MAX, Wire
from .offsets import commit, group, row, subscription

RANGE = [{"Name": "range", "Metadata": subscription(["read"])}]
UNKNOWN, NOBODY = "nobody", ""
# Of an id that nobody was named after yet.
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Client:
    """A member's connection to one group. Ids are shown as the names that the case gave their owners."""

    names = {}

    def __init__(self, w, name, instance=None, version=None):
        self.wire, self.group, self.instance, self.version = w, name, instance, version
        self.member, self.generation, self.waits = NOBODY, -1, None

    def another(self, instance=None, version=None):
        """A client of the same group with a connection of its own."""
        wire = Wire.__new__(Wire)
        wire.__dict__.update(self.wire.__dict__)
        wire.socket = None
        return Client(wire, self.group, instance, version or self.version)

    def show(self, answer):
        """An answer with names instead of ids, and members in their order."""
        if isinstance(answer, dict):
            answer = {key: self.show(part) for key, part in answer.items()}
            if isinstance(answer.get("Members"), list):
                answer["Members"].sort(key=str)
            return answer
        if isinstance(answer, list):
            return [self.show(part) for part in answer]
        return self.names.get(answer, UUID.sub("…", answer)) if isinstance(answer, str) else answer

    def call(self, name, answer):
        """Gives a member id its name."""
        if isinstance(answer, dict) and answer.get("MemberId"):
            self.member = answer["MemberId"]
            self.names.setdefault(self.member, name)
            self.generation = answer.get("GenerationId", self.generation)
        return self.show(self.wire.comparable(answer))

    def fields(self, api, version, more):
        if api == "LeaveGroup":
            return {"GroupId": self.group, **({"MemberId": self.member} if version < 3 else {})} | more
        fields = {"GroupId": self.group, "MemberId": self.member}
        if api == "JoinGroup":
            fields |= {"SessionTimeoutMs": 30_000, "RebalanceTimeoutMs": 60_000, "ProtocolType": "consumer", "Protocols": RANGE}
        else:
            fields["GenerationId"] = self.generation
        if api == "SyncGroup" and version >= 5:
            fields |= {"ProtocolType": "consumer", "ProtocolName": "range"}
        if self.instance and version >= {"JoinGroup": 5}.get(api, 3):
            fields["GroupInstanceId"] = self.instance
        return fields | more

    def send(self, api, version, **more):
        self.wire.correlation += 1
        fields = self.fields(api, version, more)
        self.wire.send(codec.encode_request(api, version, fields, self.wire.correlation))
        self.waits = api, version

    def receive(self, name=None):
        api, version = self.waits
        try:
            _, answer = codec.decode_response(api, version, self.wire.read_frame())
        except (ConnectionError, ValueError, socket.timeout) as failure:
            self.wire.close()
            return "closed" if isinstance(failure, ConnectionError) else type(failure).__name__
        return self.call(name, answer) if name else self.show(self.wire.comparable(answer))

    def is_waiting(self):
        """Whether no answer came although the broker had time for one."""
        self.wire.socket.settimeout(0.3)
        try:
            return not self.wire.socket.recv(1, socket.MSG_PEEK)
        except socket.timeout:
            return True
        finally:
            self.wire.socket.settimeout(SECONDS_MAX)

    def ask(self, api, version, name=None, **more):
        self.send(api, version, **more)
        return self.receive(name)

    def join(self, name, version=9, **more):
        """Joins, with the id that it is given first where that is the way."""
        answer = self.ask("JoinGroup", version, name, **more)
        if isinstance(answer, dict) and answer["ErrorCode"] == 79:
            answer = self.ask("JoinGroup", version, name, **more)
        return answer

    def sync(self, version=5, **given):
        rows = [{"MemberId": member, "Assignment": part} for member, part in given.pop("to", {}).items()]
        return self.ask("SyncGroup", version, Assignments=rows, **given)

    def beat(self, version=4, **more):
        return self.ask("Heartbeat", version, **more)

    def leave(self, version=5, *who, **more):
        if version < 3:
            self.send("LeaveGroup", version, **more)
        else:
            mine = {"MemberId": self.member, "GroupInstanceId": self.instance}
            self.send("LeaveGroup", version, **{"Members": list(who) or [mine], **more})
        return self.receive()


def client(w, name, **more):
    Client.names = {}
    return Client(w, group(w, name), **more)


def join_group(w):
    for version in range(10):
        one = client(w, f"join{version}")
        yield f"v{version} without an id", one.ask("JoinGroup", version, "one")
        if version >= 4:
            yield f"v{version} with it", one.ask("JoinGroup", version, "one")
        yield f"v{version} again, before the sync", one.ask("JoinGroup", version, "one")
        yield f"v{version} sync", one.sync(to={one.member: b"all"})
        yield f"v{version} again", one.ask("JoinGroup", version, "one")
        one.leave()


def join_group_refusals(w):
    for version in (0, 4, 6, 7, 9):
        one = client(w, f"refusals{version}")

        def say(label, asker=one, version=version, **more):
            return f"v{version} {label}", asker.ask("JoinGroup", version, **more)

        yield say("no group", GroupId="")
        yield say("short session", SessionTimeoutMs=5_999)
        yield say("long session", SessionTimeoutMs=1_800_001)
        yield say("short session in no group", GroupId="", SessionTimeoutMs=1)
        yield say("unknown group", MemberId=UNKNOWN)
        yield say("no protocols", Protocols=[])
        yield say("no protocol type", ProtocolType="")
        one.join("one", version)
        other = one.another()
        yield say("unknown member", other, MemberId=UNKNOWN)
        yield say("another type", other, ProtocolType="connect")
        yield say("another protocol", other, Protocols=[{"Name": "sticky", "Metadata": b""}])
        yield say("no protocols beside others", other, Protocols=[])
        yield say("another type, with an id", one, ProtocolType="connect")
        yield say("a static id that nobody has", one, **({"GroupInstanceId": "x"} if version >= 5 else {}))
        one.leave()
        other.wire.close()


def sync_group(w):
    for version in range(6):
        one = client(w, f"sync{version}")
        one.join("one")

        def say(label, version=version, one=one, **more):
            return f"v{version} {label}", one.sync(version, **more)

        yield say("no group", GroupId="")
        yield say("unknown group", GroupId=w.prefix + "unknown")
        yield say("unknown member", MemberId=UNKNOWN)
        yield say("the generation before", GenerationId=0)
        yield say("no generation", GenerationId=-1)
        if version >= 5:
            yield say("another type", ProtocolType="connect")
            yield say("another protocol", ProtocolName="sticky")
            yield say("no type", ProtocolType=None)
            yield say("no protocol", ProtocolName=None)
        if version >= 3:
            yield say("a static id that nobody has", GroupInstanceId="x")
        yield say("the leader's", to={one.member: b"all", UNKNOWN: b"none"})
        yield say("again")
        yield say("again, with something else", to={one.member: b"other"})
        one.leave()
        yield say("of an empty group")


def heartbeat(w):
    for version in range(5):
        one = client(w, f"beat{version}")
        one.join("one")

        def say(label, version=version, one=one, **more):
            return f"v{version} {label}", one.beat(version, **more)

        yield say("before the sync")
        one.sync(to={one.member: b"all"})
        yield say("stable")
        yield say("no group", GroupId="")
        yield say("unknown group", GroupId=w.prefix + "unknown")
        yield say("unknown member", MemberId=UNKNOWN)
        yield say("no member", MemberId="")
        yield say("the generation before", GenerationId=0)
        yield say("the generation to come", GenerationId=2)
        if version >= 3:
            yield say("a static id that nobody has", GroupInstanceId="x")
        one.leave()
        yield say("gone")


def leave_group(w):
    for version in range(6):
        one = client(w, f"leave{version}")
        one.join("one")
        yield f"v{version} no group", one.leave(version, GroupId="")
        yield f"v{version} unknown group", one.leave(version, GroupId=w.prefix + "unknown")
        if version < 3:
            yield f"v{version} unknown member", one.leave(version, MemberId=UNKNOWN)
        else:
            yield f"v{version} nobody", one.leave(version, Members=[])
            yield f"v{version} strangers", one.leave(
                version, {"MemberId": UNKNOWN}, {"MemberId": "", "GroupInstanceId": "x"}, {"MemberId": ""},
                {"MemberId": one.member, "GroupInstanceId": "x"})
        yield f"v{version} the last", one.leave(version)
        yield f"v{version} again", one.leave(version)
        if version >= 4:
            pending = one.another()
            yield f"v{version} an id", pending.ask("JoinGroup", version, "pending")
            yield f"v{version} given back", pending.leave(version)
            yield f"v{version} used afterwards", pending.ask("JoinGroup", version)
            pending.wire.close()


def two_members(w):
    topic = w.topic("read", 2)
    one = client(w, "two")
    one.join("one")
    yield "the first has all", one.sync(to={one.member: b"01"})
    other = one.another()
    yield "an id for the second", other.ask("JoinGroup", 9, "other")
    other.send("JoinGroup", 9)
    yield "the second waits", other.is_waiting()
    yield "heartbeat meanwhile", one.beat()
    yield "sync meanwhile", one.sync()
    yield "commit meanwhile", commit(w, 8, one.group, [(topic, [row(0, 1)])], MemberId=one.member,
                                     GenerationIdOrMemberEpoch=one.generation)
    yield "a stranger's commit", commit(w, 8, one.group, [(topic, [row(0, 2)])])
    yield "the first joins", one.ask("JoinGroup", 9, "one")
    yield "the second hears", other.receive("other")
    other.send("SyncGroup", 5, Assignments=[])
    yield "the second waits for the first", other.is_waiting()
    yield "heartbeat between", one.beat()
    yield "commit between", commit(w, 8, one.group, [(topic, [row(0, 3)])], MemberId=one.member,
                                   GenerationIdOrMemberEpoch=one.generation)
    yield "the leader gives", one.sync(to={one.member: b"0", other.member: b"1"})
    yield "the second is given", other.receive()
    yield "the second joins unchanged", other.ask("JoinGroup", 9, "other")
    yield "and syncs", other.sync()
    yield "a commit of the generation before", commit(w, 8, one.group, [(topic, [row(0, 4)])], MemberId=one.member,
                                                      GenerationIdOrMemberEpoch=one.generation - 1)
    other.send("JoinGroup", 9, Protocols=[*RANGE, {"Name": "sticky", "Metadata": b"x"}])
    yield "the second joins changed, and waits", other.is_waiting()
    yield "the first learns of it", one.beat()
    yield "and leaves", one.leave()
    yield "the second leads", other.receive("other")
    yield "and has all", other.sync(to={other.member: b"01"})
    yield "a leader's join is a rebalance", other.ask("JoinGroup", 9, "other", Protocols=[{"Name": "sticky", "Metadata": b"x"}])
    yield "with other protocols than before", other.sync(ProtocolName="range")
    yield "by its name", other.sync(ProtocolName="sticky", to={other.member: b"01"})
    other.send("JoinGroup", 9)
    yield "protocols that fit nobody", other.receive()
    yield "still a member", other.beat()
    other.leave()
    other.wire.close()


def votes(w):
    def liked(*names):
        return [{"Name": name, "Metadata": name.encode()} for name in names]

    one = client(w, "votes")
    yield "alone", one.join("one", Protocols=liked("a", "b", "c"))
    others = [one.another(), one.another()]
    for number, (each, liking) in enumerate(zip(others, (("b", "a"), ("c", "b", "a")))):
        each.ask("JoinGroup", 9, f"other {number}", Protocols=liked(*liking))
        each.send("JoinGroup", 9, Protocols=liked(*liking))
        yield f"other {number} waits", each.is_waiting()
    answer = one.ask("JoinGroup", 9, "one", Protocols=liked("a", "b", "c"))
    # One vote for each of two that all speak: which of them wins is a table's order in Kafka.
    yield "the members", sorted(each["MemberId"] for each in answer["Members"])
    yield "the protocol is one of", answer["ProtocolName"] in ("a", "b")
    for number, each in enumerate(others):
        told = each.receive(f"other {number}")
        yield f"other {number} is told the same", told["ProtocolName"] == answer["ProtocolName"]
    for each in (one, *others):
        each.leave()
        each.wire.close()


def static_members(w):
    topic = w.topic("read", 1)
    for version in range(5, 10):
        one = client(w, f"static{version}", instance="i", version=version)
        yield f"v{version} joins", one.ask("JoinGroup", version, "old")
        old = one.member
        yield f"v{version} syncs", one.sync(to={old: b"all"})
        one.member = NOBODY
        yield f"v{version} comes back", one.ask("JoinGroup", version, "new")
        yield f"v{version} has what it had", one.sync()
        yield f"v{version} the old heartbeat", one.beat(MemberId=old)
        yield f"v{version} the old sync", one.sync(MemberId=old)
        yield f"v{version} the old join", one.ask("JoinGroup", version, MemberId=old)
        yield f"v{version} the old leave", one.leave(5, {"MemberId": old, "GroupInstanceId": "i"})
        yield f"v{version} the old commit", commit(w, 8, one.group, [(topic, [row(0, 1)])], MemberId=old,
                                                   GenerationIdOrMemberEpoch=one.generation, GroupInstanceId="i")
        yield f"v{version} the new commit", commit(w, 8, one.group, [(topic, [row(0, 1)])], MemberId=one.member,
                                                   GenerationIdOrMemberEpoch=one.generation, GroupInstanceId="i")
        yield f"v{version} joins again", one.ask("JoinGroup", version, "new")
        yield f"v{version} and syncs", one.sync(to={one.member: b"all"})
        yield f"v{version} is put out", one.leave(5, {"MemberId": "", "GroupInstanceId": "i"})
        yield f"v{version} is out", one.beat()


def static_members_wait(w):
    one = client(w, "waiting")
    one.join("one")
    one.sync(to={one.member: b"all"})
    old, new = one.another(instance="i"), one.another(instance="i")
    old.send("JoinGroup", 9)
    yield "a static member waits", old.is_waiting()
    new.send("JoinGroup", 9)
    yield "it is fenced by the next", {**old.receive("old"), "MemberId": "its own"}
    yield "who waits in its place", new.is_waiting()
    yield "the leader joins", one.ask("JoinGroup", 9, "one")
    yield "the static one hears", new.receive("new")
    new.send("SyncGroup", 5, Assignments=[])
    old.send("JoinGroup", 9)
    yield "fenced while it syncs", new.receive()
    yield "its successor waits", old.is_waiting()
    yield "the leader rebalances", one.beat()
    yield "the leader joins again", one.ask("JoinGroup", 9, "one")
    yield "the successor hears", old.receive("old again")
    one.sync(to={one.member: b"0", old.member: b"1"})
    yield "a static follower syncs", old.sync()
    new.member = NOBODY
    yield "and comes back", new.ask("JoinGroup", 9, "new again")
    yield "with what it had", new.sync()
    yield "the leader was not disturbed", one.beat()
    yield "both leave", one.leave(5, {"MemberId": one.member}, {"MemberId": "", "GroupInstanceId": "i"})
    for each in (old, new):
        each.wire.close()


def other_types(w):
    one = client(w, "connect")
    more = {"ProtocolType": "connect", "Protocols": [{"Name": "sessioned", "Metadata": b"\0\x01"}]}
    yield "joins", one.join("one", **more)
    yield "syncs", one.sync(ProtocolType="connect", ProtocolName="sessioned", to={one.member: b"task"})
    yield "consumers are another type", one.another().ask("JoinGroup", 9)
    yield "leaves", one.leave()
    yield "an empty group takes any type", one.another().join("consumer")
    topic = w.topic("read", 1)
    simple = client(w, "simple")
    commit(w, 8, simple.group, [(topic, [row(0, 1)])])
    yield "a group that only committed is joined", simple.join("first")
    yield "and garbage is no subscription", simple.ask("JoinGroup", 9, "first", Protocols=[{"Name": "range", "Metadata": b"\x7f"}])
    yield "which harms nobody", simple.sync(to={simple.member: b"all"})
    simple.leave()


CASES = (join_group, join_group_refusals, sync_group, heartbeat, leave_group, two_members, votes, static_members,
         static_members_wait, other_types)
