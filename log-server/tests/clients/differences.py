"""The list of differences from a real Kafka that are known and have a reason, and how a value is taken apart.

`known-differences.json` has one list per kind of test. An entry's `where` is a shell pattern over `subject:step:path`;
`reason` says why ours answers otherwise. An entry that explains nothing any more should be taken out.
"""

import fnmatch
import json


def flatten(value, path=""):
    """Leaves of a JSON value by their path, so that a difference can be named by one line."""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and value:
        parts = enumerate(value)
    else:
        return {path: json.dumps(value)}
    leaves = {}
    for name, part in parts:
        leaves.update(flatten(part, f"{path}/{name}" if path else str(name)))
    return leaves


class Known:
    def __init__(self, path, kind):
        self.entries = json.loads(path.read_text()).get(kind, [])
        for entry in self.entries:
            if not entry.get("reason"):
                raise ValueError(f"{path}: {entry['where']} has no reason")
        self.seen = {}

    def explains(self, where):
        for entry in self.entries:
            if fnmatch.fnmatchcase(where, entry["where"]):
                self.seen[entry["where"]] = self.seen.get(entry["where"], 0) + 1
                return True
        return False

    def seen_count(self):
        return sum(self.seen.values())
