"""Starts and stops the brokers that the outside tests talk to: ours, and a real Apache Kafka from its jars.

Both are context managers with the same face: `bootstrap`, `data_dir`, `pid`, `kill()`, `stop()`, `start()`.
As a command, `brokers.py kafka|stratalog [--data-dir DIR]` serves in the foreground until it is interrupted, and with
`--run COMMAND…` as long as the command runs, which finds the address in STRATALOG_TEST_BOOTSTRAP.

A broker that is stopped must end as it should: with the right exit code, and without a panic in its log. The log of one that
did not, or of a run that failed, is kept.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
START_SECONDS_MAX = 90
PANIC = b"panicked at"


class Missing(Exception):
    """A tool is not on this machine and cannot be brought; the message says which."""


def free_ports(count):
    """Ports that were free a moment ago; the sockets are open together, so that all differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Broker:
    """What both brokers share: a data directory, a process, a log file."""

    name = "broker"
    # What the process ends with when it is stopped in order.
    exit_codes = {0}

    def __init__(self, data_dir=None, settings=None):
        self.owns_data = data_dir is None
        self.data_dir = pathlib.Path(data_dir or tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.settings = settings or {}
        self.process = None
        self.was_killed = False
        self.bootstrap = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, failure, _):
        went_well = kind is None or (kind is SystemExit and not failure.code)
        try:
            self.stop()
        except BaseException:
            went_well = False
            raise
        finally:
            if not went_well:
                print(f"{self.name}: the log is kept: {self.log_path}", file=sys.stderr, flush=True)
            if self.owns_data:
                shutil.rmtree(self.data_dir, ignore_errors=True)
                for beside in (".log", ".ready") if went_well else (".ready",):
                    self.data_dir.with_name(self.data_dir.name + beside).unlink(missing_ok=True)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log_path(self):
        return self.data_dir.parent / (self.data_dir.name + ".log")

    def spawn(self, command, **more):
        self.was_killed = False
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more
            )

    def wait_until(self, ready):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if ready():
                return
            time.sleep(0.02)
        ended = self.process.poll()
        self.kill()
        how = f"not ready within {START_SECONDS_MAX} s" if ended is None else f"ended with {ended}"
        raise RuntimeError(f"{self.name} {how}:\n{self.log_tail()}")

    def log_tail(self):
        return self.log_path.read_text(errors="replace")[-4000:]

    def kill(self):
        self.was_killed = True
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self):
        """Stops it in order. It fails when the broker had ended by itself, ends wrongly, or panicked while it ran."""
        if not self.process:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
                raise RuntimeError(f"{self.name} does not stop:\n{self.log_tail()}") from None
        elif not self.was_killed:
            raise RuntimeError(f"{self.name} had ended with {self.process.returncode}:\n{self.log_tail()}")
        if not self.was_killed and self.process.returncode not in self.exit_codes:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.log_tail()}")
        self.check_log()

    def check_log(self):
        log = self.log_path.read_bytes()
        at = log.find(PANIC)
        if 0 <= at:
            around = log[max(0, at - 300):at + 3000].decode(errors="replace")
            raise RuntimeError(f"{self.name} panicked:\n{around}")


class Stratalog(Broker):
    """Our server. The binary is STRATALOG_BIN, or the newest build under target/."""

    name = "stratalog"

    def __init__(self, data_dir=None, settings=None, binary=None, arguments=()):
        super().__init__(data_dir, settings)
        self.binary = pathlib.Path(binary or self.binary_in_use())
        self.arguments = list(arguments)
        self.http = None

    @staticmethod
    def binary_in_use():
        if os.environ.get("STRATALOG_BIN"):
            return pathlib.Path(os.environ["STRATALOG_BIN"])
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        built = [target / profile / "stratalog" for profile in ("debug", "release")]
        built = [path for path in built if path.exists()]
        if not built:
            raise RuntimeError("no stratalog binary: run `cargo build` first, or set STRATALOG_BIN")
        return max(built, key=lambda path: path.stat().st_mtime)

    def start(self):
        port = self.bootstrap.rsplit(":", 1)[1] if self.bootstrap else "0"
        ready_file = self.data_dir.parent / (self.data_dir.name + ".ready")
        ready_file.unlink(missing_ok=True)
        command = [self.binary, "serve", "--data-dir", self.data_dir, "--kafka-listen", f"127.0.0.1:{port}",
                   "--http-listen", "127.0.0.1:0", "--ready-file", ready_file, *self.arguments]
        # A variable of the tests is no setting of the server, which refuses names that it does not know.
        env = {name: value for name, value in os.environ.items() if not name.startswith("STRATALOG_")}
        env.update((f"STRATALOG_{name.replace('.', '_').replace('-', '_').upper()}", value)
                   for name, value in self.settings.items())
        self.spawn([str(part) for part in command], env=env)
        self.wait_until(lambda: ready_file.exists() and ready_file.read_text().endswith("\n"))
        ready = json.loads(ready_file.read_text())
        self.bootstrap, self.http = ready["kafka"], ready.get("http")


class Kafka(Broker):
    """A real Apache Kafka: one combined KRaft node, settings as near to its defaults as one node allows."""

    name = "kafka"
    # Directories with classes of plugins.
    plugins = ()
    # A JVM ends so when it is told to.
    exit_codes = {0, 143}

    def start(self):
        if self.bootstrap is None:
            port, controller_port = free_ports(2)
            self.bootstrap = f"127.0.0.1:{port}"
            self.write_settings(port, controller_port)
        java = ["java", f"-Dlog4j2.configurationFile={HERE / 'kafka/log4j2.properties'}", "-cp",
                ":".join([*map(str, self.plugins), class_path("broker")])]
        properties = str(self.data_dir / "server.properties")
        if not (self.data_dir / "logs/meta.properties").exists():
            cluster_id = "c3RyYXRhbG9nLXRlc3RzIQ"
            format_storage = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", properties]
            subprocess.run(java + format_storage, check=True, capture_output=True)
        heap = os.environ.get("KAFKA_HEAP", "512m")
        self.spawn(java[:1] + [f"-Xmx{heap}", "-Dkafka.level=warn"] + java[1:] + ["kafka.Kafka", properties])
        self.wait_until(self.serves)

    def serves(self):
        """Whether it names itself in its metadata: it accepts a little before it has registered with its controller."""
        host, port = self.bootstrap.rsplit(":", 1)
        request = struct.pack(">hhihi", 3, 0, 1, -1, 0)  # Metadata 0 about all topics, without a client id.
        try:
            with socket.create_connection((host, int(port)), 5) as probe:
                probe.sendall(struct.pack(">i", len(request)) + request)
                with probe.makefile("rb") as answer:
                    _, _, nodes = struct.unpack(">iii", answer.read(12))
        except (OSError, struct.error):
            return False
        return 0 < nodes

    def write_settings(self, port, controller_port):
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.data_dir / "logs"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **self.settings,
        }
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.data_dir / "server.properties").write_text(lines)


def class_path(profile):
    done = subprocess.run([HERE / "kafka/jars.sh", profile], capture_output=True, text=True, check=False)
    if done.returncode or not shutil.which("java"):
        raise Missing(f"Kafka's jars cannot be had, or there is no Java:\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def run_kafka_tool(*arguments):
    """Runs a class of Kafka's own tools; returns the finished process with its output as text."""
    command = ["java", f"-Dlog4j2.configurationFile={HERE / 'kafka/log4j2.properties'}", "-cp", class_path("broker")]
    return subprocess.run(command + [str(one) for one in arguments], capture_output=True, text=True, check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("broker", choices=("kafka", "stratalog"))
    parser.add_argument("--data-dir", help="kept afterwards; without it, a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a broker setting")
    parser.add_argument("--run", metavar="COMMAND…", help="everything behind it is the command")
    own, run = sys.argv[1:], []
    if "--run" in own:
        own, run = own[:own.index("--run")], own[own.index("--run") + 1:]
    arguments = parser.parse_args(own)
    kind = {"kafka": Kafka, "stratalog": Stratalog}[arguments.broker]
    broker = kind(arguments.data_dir, dict(pair.split("=", 1) for pair in arguments.set))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with broker:
        print(broker.bootstrap, flush=True)
        if run:
            env = {**os.environ, "STRATALOG_TEST_BOOTSTRAP": broker.bootstrap}
            sys.exit(subprocess.run(run, env=env, check=False).returncode)
        try:
            broker.process.wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
