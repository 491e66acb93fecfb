"""ListGroups, DescribeGroups and DeleteGroups, at every version and in every state that a classic group can be in; the settings of
groups, and ListConfigResources."""

from .offsets import commit, group, join, leave, row, subscription, sync

GROUP = 32
# Of a topic that has the same name in every run.
SUBSCRIPTION = subscription(["read"])


def make(w):
    """A simple group, one that lost its member, one that has one, one of another kind, and one between join and sync."""
    topic = w.topic("read", 1)
    names = {name: group(w, name) for name in ("simple", "empty", "stable", "connect", "joining")}
    commit(w, 8, names["simple"], [(topic, [row(0, 1)])])
    member, generation = join(w, names["empty"], metadata=SUBSCRIPTION)
    sync(w, names["empty"], member, generation)
    leave(w, names["empty"], member)
    members = {}
    for name, kind in (("stable", "consumer"), ("connect", "connect")):
        member, generation = join(w, names[name], protocol_type=kind, metadata=SUBSCRIPTION)
        sync(w, names[name], member, generation, b"assigned")
        members[name] = member
    members["joining"], _ = join(w, names["joining"], metadata=SUBSCRIPTION)
    return topic, names, members


def part(answer, names):
    """The groups of this run, in order; others may have left some."""
    if not isinstance(answer, dict):
        return answer
    groups = [each for each in answer["Groups"] if each["GroupId"] in names]
    return {**answer, "Groups": sorted(groups, key=lambda each: each["GroupId"])}


def list_groups(w):
    _, names, members = make(w)

    def say(version, **more):
        return part(w.say("ListGroups", version, **more), names)

    for version in range(6):
        yield f"v{version}", say(version)
    for states in (["Stable"], ["stable"], ["Empty", "Stable"], ["CompletingRebalance"], ["PreparingRebalance"], ["Dead"],
                   ["nonsense"], ["Assigning"], [""]):
        yield f"states {states}", say(4, StatesFilter=states)
    for types in (["classic"], ["Classic"], ["consumer"], ["classic", "consumer"], ["share"], ["streams"], ["nonsense"], [""]):
        yield f"types {types}", say(5, TypesFilter=types)
    yield "both", say(5, StatesFilter=["Stable"], TypesFilter=["classic"])
    yield "both, in vain", say(5, StatesFilter=["Stable"], TypesFilter=["consumer"])
    for name, member in members.items():
        leave(w, names[name], member)


def describe_groups(w):
    _, names, members = make(w)

    def say(version, *groups, **more):
        answer = w.say("DescribeGroups", version, Groups=list(groups), **more)
        if isinstance(answer, dict):
            for each in answer["Groups"]:
                for member in each["Members"]:
                    known = [name for name, member_id in members.items() if member_id == member["MemberId"]]
                    member["MemberId"] = f"the member of {known[0]}" if known else member["MemberId"]
            answer["Groups"].sort(key=lambda each: each["GroupId"])
        return answer

    for version in range(7):
        yield f"v{version}", say(version, *names.values(), w.prefix + "unknown")
    yield "none", say(6)
    yield "twice", say(5, names["simple"], names["simple"])
    for version in (3, 5, 6):
        yield f"operations v{version}", say(version, names["simple"], w.prefix + "unknown", IncludeAuthorizedOperations=True)
    static = group(w, "static")
    members["static"], generation = join(w, static, metadata=SUBSCRIPTION, GroupInstanceId="i")
    sync(w, static, members["static"], generation, GroupInstanceId="i")
    yield "a static member v3", say(3, static)
    yield "a static member", say(6, static)
    names["static"] = static
    for name in ("stable", "connect", "joining"):
        leave(w, names[name], members[name])
    yield "after they left", say(6, *names.values())
    w.ask("LeaveGroup", 3, GroupId=static, Members=[{"MemberId": members["static"], "GroupInstanceId": "i"}])


def delete_groups(w):
    topic, names, members = make(w)

    def say(version, *groups):
        answer = w.say("DeleteGroups", version, GroupsNames=list(groups))
        if isinstance(answer, dict):
            answer["Results"].sort(key=lambda each: each["GroupId"])
        return answer

    # The group without a name may have been left by somebody.
    say(2, "")
    for version in range(3):
        yield f"v{version}", say(version, names["stable"], names["joining"], w.prefix + "unknown", "")
    yield "empty ones", say(2, names["simple"], names["empty"])
    yield "again", say(2, names["simple"], names["empty"])
    yield "none", say(2)
    yield "what was committed", w.say("OffsetFetch", 7, GroupId=names["simple"], Topics=None)
    yield "described", w.say("DescribeGroups", 6, Groups=[names["empty"]])
    commit(w, 8, names["simple"], [(topic, [row(0, 1)])])
    yield "twice", say(2, names["simple"], names["simple"])
    for name in ("stable", "connect", "joining"):
        leave(w, names[name], members[name])


def group_configs(w):
    def describe(name, keys=None, version=4, **more):
        answer = w.say("DescribeConfigs", version, Resources=[
            {"ResourceType": GROUP, "ResourceName": name, "ConfigurationKeys": keys}], **more)
        return answer

    def alter(name, *changes):
        answer = w.say("IncrementalAlterConfigs", 1, Resources=[{"ResourceType": GROUP, "ResourceName": name, "Configs": [
            {"Name": key, "ConfigOperation": operation, "Value": value} for key, operation, value in changes]}])
        w.pause()
        return answer

    name = w.prefix + "configured"
    for version in (1, 4):
        yield f"defaults v{version}", describe(name, version=version)
    yield "synonyms", describe(name, ["consumer.session.timeout.ms"], IncludeSynonyms=True, IncludeDocumentation=True)
    yield "set", alter(name, ("consumer.session.timeout.ms", 0, "50000"), ("consumer.heartbeat.interval.ms", 0, "6000"))
    yield "are set", describe(name, IncludeSynonyms=True)
    yield "unknown key", alter(name, ("no.such.key", 0, "1"))
    yield "not a number", alter(name, ("consumer.session.timeout.ms", 0, "x"))
    for value in ("44999", "45000", "60000", "60001", "0", "-1"):
        yield f"session timeout {value}", alter(name, ("consumer.session.timeout.ms", 0, value))
    for value in ("4999", "5000", "15000", "15001"):
        yield f"heartbeat interval {value}", alter(name, ("consumer.heartbeat.interval.ms", 0, value))
    yield "heartbeat above session", alter(w.prefix + "other", ("consumer.session.timeout.ms", 0, "45000"),
                                           ("consumer.heartbeat.interval.ms", 0, "46000"))
    yield "append", alter(name, ("consumer.session.timeout.ms", 2, "50000"))
    yield "unset one", alter(name, ("consumer.session.timeout.ms", 1, None))
    yield "is unset", describe(name, ["consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"], IncludeSynonyms=True)
    yield "empty name", alter("", ("consumer.session.timeout.ms", 0, "50000"))
    yield "describe the empty name", describe("", ["consumer.session.timeout.ms"])
    yield "share", alter(w.prefix + "share", ("share.session.timeout.ms", 0, "50000"))
    yield "AlterConfigs", w.say("AlterConfigs", 2, Resources=[{"ResourceType": GROUP, "ResourceName": name, "Configs": [
        {"Name": "consumer.session.timeout.ms", "Value": "50000"}]}])
    yield "only validated", w.say("IncrementalAlterConfigs", 1, ValidateOnly=True, Resources=[
        {"ResourceType": GROUP, "ResourceName": w.prefix + "validated", "Configs": [
            {"Name": "consumer.session.timeout.ms", "ConfigOperation": 0, "Value": "50000"}]}])
    w.pause()
    yield "was only validated", describe(w.prefix + "validated", ["consumer.session.timeout.ms"])


def list_config_resources(w):
    name = w.prefix + "configured"
    w.topic("resource", 1)
    w.ask("IncrementalAlterConfigs", 1, Resources=[{"ResourceType": GROUP, "ResourceName": name, "Configs": [
        {"Name": "consumer.session.timeout.ms", "ConfigOperation": 0, "Value": "50000"}]}])
    w.pause()

    def say(version, **more):
        answer = w.say("ListConfigResources", version, **more)
        if not isinstance(answer, dict):
            return answer
        resources = answer["ConfigResources"]
        if isinstance(resources, dict):
            resources = [{"ResourceName": key, **value} for key, value in resources.items()]
        wanted = [each for each in resources if each["ResourceName"] in ("configured", "resource")]
        types = sorted({each.get("ResourceType", "none") for each in resources}, key=str)
        return {**answer, "ConfigResources": sorted(wanted, key=lambda each: each["ResourceName"]), "types": types}

    yield "v0", say(0)
    yield "all", say(1, ResourceTypes=[])
    for kind in (2, 4, 8, 16, 32, 1, 0, 3, 99):
        yield f"type {kind}", say(1, ResourceTypes=[kind])
    yield "two types", say(1, ResourceTypes=[GROUP, 2])


CASES = (list_groups, describe_groups, delete_groups, group_configs, list_config_resources)
