"""The checker of histories on histories with one mistake each, and on ones that look wrong and are not."""

import unittest

from anomalies import KINDS, anomalies, transformed

P0, P1 = ["t", 0], ["t", 1]


class History:
    """Events with a clock; `w` is a writer, `r` a reader."""

    def __init__(self):
        self.events, self.now = [], 0

    def add(self, event, process, **fields):
        self.now += 10
        self.events.append({"event": event, "process": process, "at": self.now, **fields})
        return self

    def unit(self, unit, records, outcome="ok", asks=True, process="w"):
        """A transaction with records `(value, place, offset or None)`; `outcome` None: it is never heard of again."""
        for value, place, _ in records:
            self.add("write", process, value=value, place=place, unit=unit)
        for value, place, offset in records:
            if offset is not None:
                self.add("acked", process, value=value, place=place, offset=offset)
        if asks:
            self.add("commit", process, unit=unit)
        if outcome:
            self.add("end", process, unit=unit, outcome=outcome)
        return self

    def assign(self, *positions, process="r"):
        return self.add("assign", process, positions=list(positions))

    def poll(self, *records, process="r"):
        return self.add("poll", process, records=list(records))

    def final(self, *records):
        return self.add("final", "last", records=list(records))

    def kinds(self):
        return sorted({kind for kind, _ in anomalies(self.events)})


def sound():
    """Two committed units with an aborted one between them, read by one who goes on and one who begins anew."""
    return (History()
            .unit("a", [("a0", P0, 0), ("a1", P1, 0)])
            .unit("b", [("b0", P0, 2)], "fail", asks=False)
            .unit("c", [("c0", P0, 4), ("c1", P0, 5)])
            .assign([P0, 0], [P1, None])
            .poll([P0, 0, "a0"], [P1, 0, "a1"])
            .poll([P0, 4, "c0"])
            .assign([P0, 0]).poll([P0, 0, "a0"], [P0, 4, "c0"], [P0, 5, "c1"]))


ALL = ([P0, 0, "a0"], [P1, 0, "a1"], [P0, 4, "c0"], [P0, 5, "c1"])


class WhatIsAllowed(unittest.TestCase):
    def test_a_sound_history(self):
        self.assertEqual(sound().final(*ALL).kinds(), [])

    def test_an_unknown_outcome_is_there_or_not(self):
        for final in (ALL, (*ALL, [P0, 7, "d0"], [P1, 2, "d1"])):
            history = sound().unit("d", [("d0", P0, 7), ("d1", P1, 2)], "info").final(*final)
            self.assertEqual(history.kinds(), [])

    def test_a_process_that_died_after_asking_is_an_unknown_outcome(self):
        history = sound().unit("d", [("d0", P0, None)], None)
        self.assertEqual(history.poll([P0, 7, "d0"]).final(*ALL, [P0, 7, "d0"]).kinds(), [])

    def test_an_offset_that_nobody_was_told_of_is_given_anew(self):
        history = sound().unit("d", [("d0", P0, None)], "fail", asks=False).unit("e", [("e0", P0, 7)])
        self.assertEqual(history.final(*ALL, [P0, 7, "e0"]).kinds(), [])

    def test_records_come_again_after_an_assign(self):
        history = sound().assign([P0, 4]).poll([P0, 4, "c0"]).assign([P0, None]).poll([P0, 0, "a0"])
        self.assertEqual(history.final(*ALL).kinds(), [])

    def test_writers_share_a_place(self):
        history = sound().unit("d", [("d0", P0, 9)], process="v").unit("e", [("e0", P0, 7)], process="w")
        self.assertEqual(history.final(*ALL, [P0, 7, "e0"], [P0, 9, "d0"]).kinds(), [])


class WhatIsFound(unittest.TestCase):
    found = set()

    def check(self, history, *kinds):
        self.assertEqual(history.kinds(), sorted(kinds))
        WhatIsFound.found.update(kinds)

    def test_lost(self):
        self.check(sound().final(*ALL[:3]), "lost")

    def test_doubled(self):
        self.check(sound().final(*ALL, [P0, 6, "c1"]), "doubled")

    def test_aborted_read(self):
        self.check(sound().assign([P0, 1]).poll([P0, 2, "b0"]).final(*ALL), "aborted-read")
        self.check(sound().final(*ALL, [P0, 2, "b0"]), "aborted-read", "poll-skip")

    def test_a_unit_whose_end_was_never_asked_for_is_not_read(self):
        self.check(sound().unit("d", [("d0", P0, 7)], None, asks=False).final(*ALL, [P0, 7, "d0"]), "aborted-read")

    def test_early_read(self):
        history = sound().add("write", "w", value="d0", place=P0, unit="d").poll([P0, 7, "d0"])
        history.add("commit", "w", unit="d").add("end", "w", unit="d", outcome="ok")
        self.check(history.final(*ALL, [P0, 7, "d0"]), "early-read")

    def test_torn(self):
        history = sound().unit("d", [("d0", P0, 7), ("d1", P1, 2)], "info")
        self.check(history.final(*ALL, [P0, 7, "d0"]), "torn")

    def test_two_values(self):
        history = sound().unit("d", [("d0", P0, 5)], "info")
        self.check(history.final(*ALL), "two-values")

    def test_misplaced(self):
        self.check(sound().assign([P1, 1]).poll([P1, 1, "c0"]).final(*ALL), "misplaced")
        self.check(sound().poll([P0, 9, "nobody's"]).final(*ALL), "misplaced")

    def test_poll_back(self):
        self.check(sound().poll([P0, 4, "c0"]).final(*ALL), "poll-back")

    def test_poll_skip(self):
        self.check(sound().assign([P0, 0]).poll([P0, 4, "c0"]).final(*ALL), "poll-skip")

    def test_poll_strange(self):
        self.check(sound().poll([P1, 0, "a1"]).final(*ALL), "poll-strange")

    def test_send_back(self):
        history = sound().unit("d", [("d0", P1, 3), ("d1", P1, 2)])
        self.check(history.final(*ALL, [P1, 2, "d1"], [P1, 3, "d0"]), "send-back")

    @classmethod
    def tearDownClass(cls):
        missing = set(KINDS) - cls.found
        if missing:
            raise AssertionError(f"nothing shows that these are found: {missing}")


class WhatALoopMakes(unittest.TestCase):
    def kinds(self, *outputs):
        inputs = ([["in", 0], 0, "x"], [["in", 0], 1, "y"])
        history = History().final(*inputs, *outputs)
        return sorted({kind for kind, _ in transformed(history.events, "in", "out", lambda value: value.removeprefix("of "))})

    def test_each_once_and_in_order(self):
        self.assertEqual(self.kinds([["out", 0], 3, "of x"], [["out", 0], 7, "of y"]), [])

    def test_what_is_found(self):
        self.assertEqual(self.kinds([["out", 0], 3, "of x"]), ["output-lost"])
        self.assertEqual(self.kinds([["out", 0], 3, "of x"], [["out", 0], 4, "of y"], [["out", 0], 5, "of y"]),
                         ["output-doubled"])
        self.assertEqual(self.kinds([["out", 0], 3, "of y"], [["out", 0], 4, "of x"]), ["output-back"])
        self.assertEqual(self.kinds([["out", 0], 3, "of x"], [["out", 0], 4, "of y"], [["out", 0], 5, "of z"]),
                         ["output-strange"])


if __name__ == "__main__":
    unittest.main()
