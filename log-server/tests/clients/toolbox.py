"""Brings what each client program needs, once, under target/clients, and says how to start it.

Nothing is installed outside that directory except kcat, which comes from the distribution's packages.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import brokers

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("STRATALOG_TEST_CACHE", HERE.parents[2] / "target/clients"))


Missing = brokers.Missing
# The lock of an environment for api.py alone.
SCHEMATHESIS = "schemathesis.txt"
# What .ci/test takes for a skip, which is a failure with CI=true.
SKIPPED = 77


def run(main):
    """Ends the process as `main` says; loudly as skipped when a tool is missing."""
    try:
        sys.exit(main())
    except Missing as missing:
        print(f"!! SKIPPED: {missing}", file=sys.stderr, flush=True)
        sys.exit(SKIPPED)


def quietly(command, **more):
    """Runs a step of setting up; its output is shown only when it fails."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **more)
    if done.returncode:
        raise Missing(f"`{' '.join(map(str, command))}` failed:\n{done.stdout[-3000:]}")
    return done.stdout


def need(program):
    found = shutil.which(program)
    if not found:
        raise Missing(f"`{program}` is not installed")
    return found


def once(name, inputs, make):
    """A directory of the cache named after what it is made from; made aside and renamed, so never half there."""
    digest = hashlib.sha256(b"".join(pathlib.Path(path).read_bytes() for path in inputs)).hexdigest()[:12]
    directory = CACHE / f"{name}-{digest}"
    if not directory.exists():
        aside = CACHE / f"{name}-{digest}.making-{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        make(aside)
        try:
            aside.rename(directory)
        except OSError:
            # Another run was quicker, and made the same.
            if not directory.exists():
                raise
            shutil.rmtree(aside)
    return directory


def python(lock="requirements.txt"):
    """The interpreter of an environment with the locked Python libraries."""
    lock = HERE / "python" / lock
    # Scripts of an environment carry its path, so it is made in place and marked when complete.
    directory = CACHE / f"venv-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (directory / ".complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        quietly([sys.executable, "-m", "venv", directory])
        quietly([directory / "bin/pip", "install", "-q", "--disable-pip-version-check", "-r", lock])
        (directory / ".complete").touch()
    return directory / "bin/python"


def jars(profile):
    need("java")
    need("mvn")
    return brokers.class_path(profile)


def jvm(class_path, *options):
    return ["java", *options, f"-Dlog4j2.configurationFile={HERE / 'kafka/log4j2.properties'}", "-cp", class_path]


def classes(program, class_path):
    """The directory with a program's classes."""
    source = HERE / f"java/{program}.java"
    return once("java", [source, HERE / "kafka/pom.xml"],
                lambda where: quietly([need("javac"), "-Xlint:all", "-Werror", "-cp", class_path, "-d", where, source]))


def java(program="Scenario", *options, profile="clients"):
    class_path = jars(profile)
    return [*jvm(f"{classes(program, class_path)}:{class_path}", *options), program]


def go(program):
    sources = sorted((HERE / "go").rglob("*.go")) + [HERE / "go/go.mod", HERE / "go/go.sum"]
    built = once("go", sources, lambda where: quietly([need("go"), "build", "-o", f"{where}/", "./franz", "./sarama",
                                                       "./group-franz", "./group-sarama"],
                                                      cwd=HERE / "go"))
    return [built / program]


def node_modules():
    """The folder with the locked packages of npm."""
    lock = HERE / "node/package-lock.json"

    def install(where):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "node" / name, where)
        quietly([need("npm"), "ci", "--silent", "--no-audit", "--no-fund"], cwd=where)

    return once("node", [lock], install) / "node_modules"


def node(program="kafkajs.js"):
    return ["env", f"NODE_PATH={node_modules()}", "KAFKAJS_NO_PARTITIONER_WARNING=1", need("node"), HERE / "node" / program]


def kcat():
    if not shutil.which("kcat"):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise Missing("`kcat` is not installed")
        quietly(["apt-get", "update", "-q"])
        quietly(["apt-get", "install", "-y", "-q", "--no-install-recommends", "kcat"])
    return need("kcat")


def kcat_script():
    kcat()
    return [python(), HERE / "python/kcat.py"]


# What each client program is called and how it is started; BOOTSTRAP and PREFIX follow, then `more`.
CLIENTS = {
    "kcat": (kcat_script, []),
    "confluent": (lambda: [python(), HERE / "python/confluent.py"], []),
    "kafka-python": (lambda: [python(), HERE / "python/kafkapython.py"], []),
    "aiokafka": (lambda: [python(), HERE / "python/aio.py"], []),
    "java": (java, []),
    "franz-go": (lambda: go("franz"), []),
    "sarama": (lambda: go("sarama"), []),
    "sarama-4.3": (lambda: go("sarama"), ["4.3.0"]),
    "kafkajs": (node, []),
}


def main():
    """Sets up everything, or the named clients, so that a later run needs no network; `--python` prints the interpreter."""
    if sys.argv[1:] == ["--python"]:
        print(python())
        return
    for name in sys.argv[1:] or CLIENTS:
        CLIENTS[name][0]()
        print(f"{name}: ready")
    if not sys.argv[1:]:
        python(SCHEMATHESIS)
        print("schemathesis: ready")


if __name__ == "__main__":
    run(main)
