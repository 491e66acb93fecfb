"""The list of differences from a real Kafka that are known and have a reason, and how a value is taken apart.

`known-differences.json` has one list per kind of test. An entry's `where` is a list of shell patterns over
`subject:step:path`; `reason` says why ours answers otherwise. A pattern that explains nothing any more fails a full run,
so that the list stays true.
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
        self.count = 0
        self.unseen = {pattern for entry in self.entries for pattern in entry["where"]}

    def explains(self, where):
        patterns = [pattern for entry in self.entries for pattern in entry["where"] if fnmatch.fnmatchcase(where, pattern)]
        self.unseen.difference_update(patterns)
        self.count += bool(patterns)
        return bool(patterns)

    def report(self, is_full_run):
        """Prints what was seen; the number of patterns that a full run did not need."""
        print(f"known differences seen: {self.count}")
        if not is_full_run:
            return 0
        for pattern in sorted(self.unseen):
            print(f"  no longer a difference, take it out of known-differences.json: {pattern}")
        return len(self.unseen)
