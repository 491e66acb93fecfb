"""Metrics that real clients push of themselves (KIP-714): `client_metrics.py [--clients java,confluent]`.

A subscription made by Kafka's own tool asks all clients for everything. Then a producer and a consumer of each library work (`java/MeasuredClients.java`,
`python/measured_clients.py`), and must be seen over HTTP with what they measured, and as gone when they ended.
"""

import argparse
import json
import subprocess
import time
import urllib.request

import brokers
import toolbox

SECONDS_MAX = 90
TOPIC = "measured"
INTERVAL_MS = 500


def java():
    return toolbox.java("MeasuredClients", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def confluent():
    return [toolbox.python(), toolbox.HERE / "python/measured_clients.py"]


# How a library is started, what it calls itself, and what each of its clients must have measured: a metric and the least it must be.
CLIENTS = {
    "java": (java, "apache-kafka-java", {
        "producer": {"org.apache.kafka.producer.record.send.total": 1, "org.apache.kafka.producer.connection.count": 1},
        "consumer": {"org.apache.kafka.consumer.fetch.manager.records.consumed.total": 1,
                     "org.apache.kafka.consumer.fetch.manager.records.lag.max": 0},
    }),
    "confluent": (confluent, "confluent-kafka-python", {
        "producer": {"org.apache.kafka.producer.request.latency.max": 0},
        # What was counted since the push before: mostly nothing.
        "consumer": {"org.apache.kafka.consumer.connection.creation.total": 0},
    }),
}


class Run:
    def __init__(self, broker):
        self.broker = broker

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.broker.http}/v1/{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def until(self, what, look):
        """What `look` finds, which is nothing at first."""
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            found = look()
            if found:
                return found
            if deadline < time.monotonic():
                raise RuntimeError(f"{what}: not seen within {SECONDS_MAX} s; there are {json.dumps(self.get('clients'), indent=1)}")
            time.sleep(0.1)

    def measured(self, name, software, wanted):
        """The client of that name, once it has pushed what is wanted of it."""
        for client in self.get(f"clients?search={name}")["clients"]:
            # Over HTTP one client has all its metrics.
            client = self.get(f"clients/{client['client_instance_id']}")
            values = {metric["name"]: metric["value"] for metric in client["metrics"]}
            if client["software"] == software and all(least <= (values.get(metric) if values.get(metric) is not None else -1)
                                                      for metric, least in wanted.items()):
                return client
        return None

    def play(self, library):
        command, software, wanted = CLIENTS[library]
        command = [*map(str, command()), self.broker.bootstrap, TOPIC, library]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                said = process.stdout.readline().strip()
                ids = []
                for kind, metrics in wanted.items():
                    client = self.until(f"{library}-{kind}", lambda name=f"{library}-{kind}", metrics=metrics:
                                        self.measured(name, software, metrics))
                    print(f"  {client['client_id']}: {client['software']} {client['software_version']}, {client['series']} series, "
                          f"{client['left_out']} left out, labels {client['labels']}", flush=True)
                    if client["left_out"] or client["requested"] != ["*"] or client["interval_ms"] != INTERVAL_MS:
                        raise RuntimeError(f"{client}")
                    ids.append(client["client_instance_id"])
                if library == "java" and said != ids[0]:
                    raise RuntimeError(f"the producer has the id {said}, and the broker shows {ids[0]}")
                process.stdin.write("\n")
                process.stdin.close()
                if process.wait(SECONDS_MAX):
                    raise RuntimeError(f"{library} ended with {process.returncode}")
            finally:
                process.kill()
        for one in ids:
            self.until(f"the end of {one}", lambda one=one: not self.get(f"clients/{one}")["connected"])


def subscribe(bootstrap):
    done = brokers.run_kafka_tool("org.apache.kafka.tools.ClientMetricsCommand", "--bootstrap-server", bootstrap, "--alter",
                                  "--name", "everything", "--metrics", "*", "--interval", INTERVAL_MS)
    if done.returncode:
        raise RuntimeError(f"kafka-client-metrics: {done.stdout}{done.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default=",".join(CLIENTS), help="comma-separated names")
    passed = failed = 0
    with brokers.Stratalog() as broker:
        run = Run(broker)
        subscribe(broker.bootstrap)
        with urllib.request.urlopen(urllib.request.Request(f"http://{broker.http}/v1/topics", json.dumps(
                {"name": TOPIC}).encode(), {"content-type": "application/json"}, method="POST"), timeout=30):
            pass
        for library in parser.parse_args().clients.split(","):
            print(library, flush=True)
            try:
                run.play(library)
                passed += 1
            except RuntimeError as failure:
                failed += 1
                print(f"FAILED {library}: {failure}", flush=True)
    print(f"telemetry: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    toolbox.run(main)
