"""That no end of a client goes unnoticed, whenever it comes: clients that end in one way each, and nothing else."""

import pathlib
import signal
import tempfile
import unittest

from history_process import Client

WAIT_SECONDS_MAX = 60
PROGRAM = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
role = sys.argv[1]
if role == "aborts":
    os.abort()
if role == "hangs":
    os.kill(os.getpid(), signal.SIGALRM)
if role == "fails":
    sys.exit(3)
signal.sigwait([signal.SIGTERM])
"""


class Ends(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="history-process-")
        self.addCleanup(place.cleanup)
        self.directory = pathlib.Path(place.name)
        self.program = self.directory / "program.py"
        self.program.write_text(PROGRAM)

    def client(self, role, has_ended=True):
        """One that has ended by itself, if it is one that does."""
        client = Client(role, 0, "nowhere:1", "h", 1, self.directory, self.program)
        self.addCleanup(client.kill)
        if has_ended:
            client.process.wait(WAIT_SECONDS_MAX)
        return client

    def test_one_that_runs_to_its_end_is_not_counted(self):
        client = self.client("stays", has_ended=False)
        self.assertIsNone(client.revive())
        self.assertIsNone(client.replace())
        self.assertEqual(client.count, 2)
        self.assertIsNone(client.end())
        self.assertIn(client.process.returncode, (0, -signal.SIGTERM))

    def test_one_that_its_library_ended_is_counted_by_whoever_looks_next(self):
        for role, told in (("aborts", "client aborted"), ("hangs", "client hung")):
            for look in (Client.revive, Client.replace, Client.end):
                with self.subTest(role=role, look=look.__name__):
                    self.assertEqual(look(self.client(role)), told)

    def test_one_that_is_over_is_not_started_again(self):
        client = self.client("aborts")
        client.end()
        self.assertIsNone(client.revive())
        self.assertEqual(client.count, 1)

    def test_one_that_failed_is_never_passed_over(self):
        for look in (Client.revive, Client.replace, Client.end):
            with self.subTest(look=look.__name__), self.assertRaisesRegex(RuntimeError, "fails0 ended with 3"):
                look(self.client("fails"))


if __name__ == "__main__":
    unittest.main()
