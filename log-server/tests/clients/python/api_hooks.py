"""What schemathesis needs to know about the API beyond its OpenAPI document; api.py says how it is started.

The document's examples name topics and groups: they are made before the first request, and again when a request took them away.
Requests that would wait or have no end are bounded, and requests about a lease get one to be about. What was asked and answered is
written to the file named by API_TALLY.
"""

import collections
import json
import os
import urllib.error
import urllib.request

import schemathesis

TOPICS = {"orders": {"partitions": 3}, "prices": {"partitions": 1, "configs": {"cleanup.policy": "compact"}}}
GROUPS = ("billing", "workers")
# Whoever makes ten thousand partitions tests the disk.
PARTITIONS_MAX = 6
WAIT_MS_MAX = 20
LEASE_OPERATIONS = ("acknowledgeLease", "extendLease", "releaseLease")
# A socket cannot be had by requests (`log-server/tests/http/socket.rs` speaks WebSocket), and clients come over Kafka's protocol
# (`client_metrics.py` has some).
NEVER_SUCCEED = {"GET /v1/topics/{topic}/socket", "GET /v1/clients/{client}"}


class Broker:
    """The broker that is asked, seen without schemathesis."""

    def __init__(self, url):
        self.url = url

    def ask(self, method, path, document=None):
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.url}/v1/{path}", body, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            problem = json.loads(error.read())
            if problem["code"] != "topic_exists":
                raise RuntimeError(f"{method} {path}: {problem}") from error
            return None

    def fill(self):
        """Makes what the examples name, as far as it is not there."""
        for name, more in TOPICS.items():
            if self.ask("POST", "topics", {"name": name, **more}):
                values = [{"key": f"key-{n}", "value": {"n": n}} for n in range(20)]
                self.ask("POST", f"topics/{name}/records", {"records": values})
        for group in GROUPS:
            self.ask("POST", f"groups/{group}/offsets", {"to": "earliest", "topics": [{"topic": "orders"}]})

    def lease(self):
        """The token of a lease that holds. Leases that hold are ended first, by setting the group's offsets."""
        self.fill()
        return self.ask("POST", "groups/workers/leases?topics=orders&limit=1&wait_ms=5000")["token"]


def broker_of(case):
    return Broker(case.operation.base_url.rstrip("/"))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """`default` describes every status: only those that an operation names are expected of it here."""
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            del operation["responses"]["default"]


@schemathesis.hook
def after_load_schema(context, schema):
    Broker(schema.get_base_url().rstrip("/")).fill()


@schemathesis.hook
def before_call(context, case, kwargs):
    query, body = case.query or {}, case.body
    name = case.operation.definition.raw["operationId"]
    if is_between(WAIT_MS_MAX, query.get("wait_ms"), 60_000):
        query["wait_ms"] = WAIT_MS_MAX
    if name == "follow" and "until" not in query:
        # What has no end cannot be looked at as a whole.
        case.query = {**query, "until": "end"}
    for field in ("partitions", "count"):
        if isinstance(body, dict) and is_between(PARTITIONS_MAX, body.get(field), 2**31 - 1):
            body[field] = PARTITIONS_MAX
    if name in LEASE_OPERATIONS and has_luck(case):
        case.path_parameters.update(group="workers", token=broker_of(case).lease())


def is_between(least, number, most):
    return isinstance(number, int) and not isinstance(number, bool) and least < number <= most


def has_luck(case):
    """Half of all cases, and always the same."""
    return len(str(case.path_parameters.get("group"))) % 2 == 1 or case.path_parameters.get("group") == "billing"


@schemathesis.hook
def after_call(context, case, response):
    if case.method.upper() == "DELETE" and response.status_code == 204:
        broker_of(case).fill()


@schemathesis.check
class EveryOperationSucceeds:
    """An operation of which nothing but refusals was seen was not tested. Also keeps the tally."""

    def __init__(self):
        self.seen = collections.defaultdict(collections.Counter)

    def after_response(self, context, response, case):
        self.seen[case.operation.label][str(response.status_code)] += 1

    def after_run(self, context):
        with open(os.environ["API_TALLY"], "w") as tally:
            json.dump(self.seen, tally)
        failed = {label for label, statuses in self.seen.items() if not any(status.startswith("2") for status in statuses)}
        if failed - NEVER_SUCCEED:
            raise AssertionError("never seen to succeed: " + ", ".join(sorted(failed - NEVER_SUCCEED)))
