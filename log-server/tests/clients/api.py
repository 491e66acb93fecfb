"""The HTTP API as its OpenAPI document describes it, asked by schemathesis: examples, boundaries, random requests and sequences
of them, valid and invalid ones, of every operation.

    api.py                                 our server, the newest build under target/
    api.py --max-examples 300 --seed 7     for longer, with other requests
    api.py --bootstrap URL                 a broker that runs, to which topics, groups and records are added
    api.py --document FILE                 another document than the broker's own

Every answer must have a status that its operation names (`default` does not count), the type and the shape that the document gives
it, and be no error of the server; what the document rules out must be refused; and every operation must be seen to succeed. The same
seed asks the same. The last line counts operations.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import xml.etree.ElementTree

import brokers
import toolbox

HERE = pathlib.Path(__file__).resolve().parent
SECONDS_MAX = 3600


def run(arguments, url, directory):
    """How schemathesis ends, how often each operation was answered with what, and the operations that failed."""
    tally, report = directory / "tally.json", directory / "report.xml"
    command = [toolbox.python(toolbox.SCHEMATHESIS).with_name("schemathesis"), "--config-file", HERE / "api.toml", "run",
               arguments.document or f"{url}/openapi.json", "--url", url, "--seed", arguments.seed,
               "--max-examples", arguments.max_examples, "--report-junit-path", report, *arguments.more]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "python/api_hooks.py"), "API_TALLY": str(tally)}
    done = subprocess.run([str(part) for part in command], env=environment, cwd=directory, stdin=subprocess.DEVNULL,
                          timeout=SECONDS_MAX, check=False)
    seen = json.loads(tally.read_text()) if tally.exists() else {}
    cases = xml.etree.ElementTree.parse(report).iter("testcase") if report.exists() else ()
    return done.returncode, seen, {case.get("name") for case in cases if len(case)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", metavar="URL", help="the HTTP port of a broker that runs")
    parser.add_argument("--document", metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-examples", type=int, default=10, help="random requests of each operation")
    arguments, arguments.more = parser.parse_known_args()
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="api-")))
        if arguments.bootstrap:
            url = arguments.bootstrap.rstrip("/")
        else:
            url = f"http://{stack.enter_context(brokers.Stratalog()).http}"
        code, seen, failed = run(arguments, url, directory)
    for operation, statuses in sorted(seen.items()):
        shown = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
        print(f"{'FAIL' if operation in failed else 'ok':5} {operation}: {shown}")
    print(f"{sum(sum(statuses.values()) for statuses in seen.values())} answers were looked at")
    failures = len(failed) or int(code != 0)
    print(f"api: {max(0, len(seen) - failures)} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    toolbox.run(main)
