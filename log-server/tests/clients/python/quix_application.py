"""A Quix Streams application with exactly-once processing: `quix_application.py BOOTSTRAP PREFIX STATE_DIRECTORY`.

Adds up the numbers of PREFIX-numbers by key into PREFIX-totals, each step, and by key and window into PREFIX-windows, each window
once, when a later number of its key is there.
"""

import sys

from quixstreams import Application

BOOTSTRAP, PREFIX, STATE_DIRECTORY = sys.argv[1:4]
WINDOW_MS = 10_000
# The application ends when its consumer's session does, so the session is longer than a start of any broker. librdkafka waits longer
# before each try to connect, up to ten seconds: with a broker that goes away again and again, that alone would end a session.
SESSION = {"session.timeout.ms": 30_000, "heartbeat.interval.ms": 500}
BACK_SOON = {"reconnect.backoff.max.ms": 500}


def total(number, state):
    now = state.get("total", 0) + number
    state.set("total", now)
    return now


def main():
    application = Application(
        broker_address=BOOTSTRAP, consumer_group=PREFIX, state_dir=STATE_DIRECTORY, processing_guarantee="exactly-once",
        auto_offset_reset="earliest", commit_interval=0.2, loglevel="WARNING",
        consumer_extra_config=SESSION | BACK_SOON, producer_extra_config=BACK_SOON)
    texts = {"key_deserializer": "str", "value_deserializer": "str", "key_serializer": "str", "value_serializer": "str"}
    numbers, totals, windows = (application.topic(f"{PREFIX}-{what}", **texts) for what in ("numbers", "totals", "windows"))
    read = application.dataframe(numbers).apply(int)
    read.apply(total, stateful=True).apply(str).to_topic(totals)
    sums = read.tumbling_window(WINDOW_MS).sum().final()
    sums.apply(lambda window: f"{window['start']} {window['value']}").to_topic(windows)
    application.run()


main()
