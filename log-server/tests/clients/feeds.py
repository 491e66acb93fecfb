"""Two feeds go in through four programs with each codec, and come back bit-exact through each of the four.

    feeds.py                       our server, made-up feeds of a few hundred lines
    feeds.py --lines 5000          larger made-up feeds
    feeds.py --feeds DIRECTORY     web-access.log and earthquakes.csv from there (or STRATALOG_FEEDS=DIRECTORY)
    feeds.py --bootstrap HOST:PORT --writers kcat,confluent    any broker; with --http HOST:PORT over HTTP, too

Web access lines are keyed by their client address; earthquakes are keyed by their event id and carry the event's own
time as the record's timestamp (kcat cannot set a timestamp, so through it they get the time of sending). Headers name the
feed and, where a program can set them record by record, the key. Every topic
has 6 partitions. Each program reads every partition from offset 0, from a middle offset and from a timestamp.

A key's records lie in one partition, and every partition holds its keys' records in the order of the feed: so what
must come back follows from which keys a partition has, whatever the partitioner.
"""

import argparse
import datetime
import os
import pathlib
import random
import subprocess
import sys
import time

import brokers
import toolbox
from http_feed import Http

HERE = pathlib.Path(__file__).resolve().parent
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PARTITIONS = 6
SEPARATOR = "\x1f"
SECONDS_MAX = 300


# -- the feeds: lists of (key, value, timestamp or None, headers such as "a=1,b=2")

def web_access(lines):
    return [(key := line.split(" ", 1)[0], line, None, f"feed=web-access,key={key}") for line in lines]


def earthquakes(lines):
    feed = []
    for line in lines:
        cells = line.split(",")
        at = datetime.datetime.strptime(cells[0], "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=datetime.timezone.utc)
        feed.append((cells[-1], line, round(at.timestamp() * 1000), f"feed=earthquakes,key={cells[-1]}"))
    return feed


def made_up_web_access(count, random_):
    addresses = [".".join(str(random_.randrange(1, 255)) for _ in range(4)) for _ in range(max(3, count // 6))]
    at = datetime.datetime(2015, 5, 17, 10, 5, 3)
    for _ in range(count):
        at += datetime.timedelta(seconds=random_.randrange(40))
        path = "/".join(random_.choice(("blog", "images", "style.css", "projekt", "ü", "a b", "q?x=1&y=\"2\""))
                        for _ in range(random_.randrange(1, 6)))
        agent = "Mozilla/5.0 " + "(X11; Linux) " * random_.choice((1, 1, 1, 2, 80))
        yield (f'{random_.choice(addresses)} - - [{at:%d/%b/%Y:%H:%M:%S} +0000] "GET /{path} HTTP/1.1" '
               f'{random_.choice((200, 200, 304, 404))} {random_.randrange(100000)} "-" "{agent}"')


def made_up_earthquakes(count, random_):
    at = datetime.datetime(2016, 1, 1, 0, 30, 4)
    for number in range(count):
        at += datetime.timedelta(milliseconds=10 * random_.randrange(1, 90000))
        yield (f"{at:%Y/%m/%d %H:%M:%S}.{at.microsecond // 10000:02},{random_.uniform(-90, 90):.4f},"
               f"{random_.uniform(-180, 180):.4f},{random_.uniform(0, 600):.2f},{random_.uniform(0, 9):.2f},"
               f"Md,,{random_.randrange(360)},0,0.{random_.randrange(100):02},{random_.choice(('pr', 'NN', 'us'))},"
               f"{201600000000 + number}")


def feeds(arguments):
    if arguments.feeds:
        directory = pathlib.Path(arguments.feeds)
        access = (directory / "web-access.log").read_text().splitlines()
        quakes = (directory / "earthquakes.csv").read_text().splitlines()[1:]
    else:
        print(f"made-up feeds of {arguments.lines} lines, seed {arguments.seed}")
        random_ = random.Random(arguments.seed)
        access = list(made_up_web_access(arguments.lines, random_))
        quakes = list(made_up_earthquakes(arguments.lines, random_))
    return {"web-access": web_access(access), "earthquakes": earthquakes(quakes)}


# -- the programs: each writes a feed, and reads what is wanted, a list of (partition, "offset" or "time", where
# to begin), as rows (offset, timestamp, key, value, headers). Http is in a file of its own.

def command(*parts, lines=None):
    done = subprocess.run([str(part) for part in parts], input=lines and lines.encode(), capture_output=True,
                          timeout=SECONDS_MAX, check=False)
    if done.returncode:
        raise RuntimeError(f"{pathlib.Path(str(parts[0])).name} ended with {done.returncode}: "
                           f"{done.stderr.decode(errors='replace')[-800:]}")
    return done.stdout


def rows_of(text):
    rows = (line.split(SEPARATOR, 4) for line in text.split("\n") if line)
    return [(int(offset), int(timestamp), key, value, headers) for offset, timestamp, key, headers, value in rows]


def first_header(headers):
    """All that a program keeps that sets the same for all records."""
    return headers.split(",")[0]


class Kcat:
    """kcat, one run per feed and per reading."""

    sets_timestamps = False
    codecs = CODECS
    kept = staticmethod(first_header)

    def __init__(self, bootstrap):
        # At the end of a partition kcat waits for one more answer.
        self.base = [toolbox.kcat(), "-b", bootstrap, "-q", "-X", "fetch.wait.max.ms=10"]

    def write(self, topic, codec, feed):
        lines = "".join(f"{key}{SEPARATOR}{value}\n" for key, value, _, _ in feed)
        command(*self.base, "-P", "-t", topic, "-K", SEPARATOR, "-z", codec, "-X", "enable.idempotence=true",
                "-X", "topic.partitioner=murmur2_random", "-H", first_header(feed[0][3]), lines=lines)

    def read(self, topic, wanted):
        return [self.read_one(topic, *one) for one in wanted]

    def read_one(self, topic, partition, position, at):
        offset = {"offset": str(at), "time": f"s@{at}"}[position]
        out = command(*self.base, "-C", "-t", topic, "-p", partition, "-o", offset, "-e", "-X", "check.crcs=true",
                      "-f", f"%o{SEPARATOR}%T{SEPARATOR}%k{SEPARATOR}%h{SEPARATOR}%s\\n")
        return rows_of(out.decode())


class Confluent:
    """confluent-kafka, through `python/feed.py` in the environment of the Python clients."""

    sets_timestamps = True
    codecs = CODECS
    kept = staticmethod(lambda headers: headers)

    def __init__(self, bootstrap):
        self.base = [toolbox.python(), HERE / "python/feed.py", bootstrap]

    def write(self, topic, codec, feed):
        lines = "".join(f"{key}{SEPARATOR}{'' if at is None else at}{SEPARATOR}{headers}{SEPARATOR}{value}\n"
                        for key, value, at, headers in feed)
        command(*self.base, "write", topic, codec, lines=lines)

    def read(self, topic, wanted):
        """All readings in one process; a line with nothing but the group separator ends each."""
        out = command(*self.base, "read", topic, *(f"{partition}:{position}:{at}" for partition, position, at in wanted))
        return [rows_of(part) for part in out.decode().split("\x1d\n")[:-1]]


class Ours:
    """`stratalog produce` and `stratalog consume`, with key and time taken from the lines' columns."""

    sets_timestamps = True
    codecs = CODECS
    kept = staticmethod(first_header)

    def __init__(self, bootstrap):
        self.binary = brokers.Stratalog.binary_in_use()
        self.more = ["--bootstrap", bootstrap]

    def write(self, topic, codec, feed):
        columns = ["--key-column", 1, "--column-separator", " "]
        if feed[0][2] is not None:
            columns = ["--key-column", feed[0][1].count(",") + 1, "--timestamp-column", 1]
        lines = "".join(f"{value}\n" for _, value, _, _ in feed)
        command(self.binary, "produce", topic, *columns, "-q", "-z", codec, "-H", first_header(feed[0][3]), *self.more, lines=lines)

    def read(self, topic, wanted):
        return [self.read_one(topic, *one) for one in wanted]

    def read_one(self, topic, partition, position, at):
        begin = {"offset": "--offset", "time": "--timestamp"}[position]
        template = f"%o{SEPARATOR}%T{SEPARATOR}%k{SEPARATOR}%h{SEPARATOR}%v\\n"
        out = command(self.binary, "consume", topic, "-q", "-p", partition, begin, at, "--template", template, *self.more)
        return rows_of(out.decode())


# Those that speak Kafka's protocol.
PROGRAMS = {"kcat": Kcat, "confluent": Confluent, "stratalog": Ours}


# -- the comparison

def create(bootstrap, topic):
    command(toolbox.python(), HERE / "python/feed.py", bootstrap, "create", topic, PARTITIONS)


def as_written(program, key, value, at, headers):
    """What must be stored of a record that a program wrote."""
    return key, value, at if program.sets_timestamps else None, program.kept(headers)


def check(feed, reader, topic):
    """Complaints about what one program reads of one topic."""
    wholes = reader.read(topic, [(partition, "offset", 0) for partition in range(PARTITIONS)])
    complaints, key_places = [], {}
    # What to read further, and which rows that must give.
    wanted, expected = [], []
    for partition, whole in enumerate(wholes):
        keys = {row[2] for row in whole}
        for key in keys:
            if key_places.setdefault(key, partition) != partition:
                complaints.append(f"key {key} lies in partitions {key_places[key]} and {partition}")
        sent = [row for row in feed if row[0] in keys]
        if [(key, value, headers) for key, value, _, headers in sent] != [row[2:] for row in whole]:
            complaints.append(f"partition {partition}: {len(whole)} records differ from the feed's {len(sent)}")
        if [row[0] for row in whole] != list(range(len(whole))):
            complaints.append(f"partition {partition}: offsets are not 0 to {len(whole) - 1}")
        if any(at not in (None, row[1]) for (_, _, at, _), row in zip(sent, whole)):
            complaints.append(f"partition {partition}: timestamps are not those of the events")
        if whole:
            middle = len(whole) // 2
            wanted.append((partition, "offset", middle))
            expected.append(whole[middle:])
            for at in times(whole):
                wanted.append((partition, "time", at))
                expected.append(whole[next(row[0] for row in whole if at <= row[1]):])
    for (partition, position, at), want, got in zip(wanted, expected, reader.read(topic, wanted), strict=True):
        if want != got:
            complaints.append(f"partition {partition}: {len(got)} records instead of {len(want)} from {position} {at} on")
    total = sum(map(len, wholes))
    if total != len(feed):
        complaints.append(f"{total} records instead of {len(feed)}")
    return complaints


def times(rows):
    """A time that a record has, and one that none has, between two of them."""
    having = sorted(row[1] for row in rows)
    at = having[2 * len(having) // 3]
    gaps = [low + 1 for low, high in zip(having, having[1:]) if low + 1 < high]
    return [at, *gaps[len(gaps) // 3:][:1]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", help="a running broker instead of our server, started for this run")
    parser.add_argument("--http", metavar="HOST:PORT", help="the HTTP port of that broker")
    parser.add_argument("--feeds", default=os.environ.get("STRATALOG_FEEDS"), help="directory with the two files")
    parser.add_argument("--lines", type=int, default=400, help="lines of a made-up feed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--writers", default=",".join((*PROGRAMS, "http")))
    parser.add_argument("--readers", default=",".join((*PROGRAMS, "http")))
    arguments = parser.parse_args()
    if arguments.bootstrap:
        return run(arguments, arguments.bootstrap, arguments.http)
    with brokers.Stratalog() as broker:
        return run(arguments, broker.bootstrap, broker.http)


def run(arguments, bootstrap, http):
    programs = {name: kind(bootstrap) for name, kind in PROGRAMS.items()}
    if http:
        programs["http"] = Http(http)
    writers = [name for name in arguments.writers.split(",") if name in programs]
    readers = [name for name in arguments.readers.split(",") if name in programs]
    passed = failed = 0
    for feed_name, feed in feeds(arguments).items():
        for codec in arguments.codecs.split(","):
            for writer in (name for name in writers if codec in programs[name].codecs):
                topic = f"{feed_name}-{codec}-{writer}-{os.getpid()}"
                began = time.monotonic()
                create(bootstrap, topic)
                programs[writer].write(topic, codec, feed)
                wrote = time.monotonic() - began
                stored = [as_written(programs[writer], *record) for record in feed]
                for reader in readers:
                    began = time.monotonic()
                    complaints = check(stored, programs[reader], topic)
                    took = time.monotonic() - began
                    print(f"{feed_name:12} {codec:7} {writer:10} -> {reader:10} {len(feed):6} records  "
                          f"{'ok' if not complaints else 'FAILED'}  in {wrote:.1f} s, out {took:.1f} s", flush=True)
                    print("\n".join(f"  {line}" for line in complaints), end="\n" if complaints else "")
                    passed, failed = passed + (not complaints), failed + bool(complaints)
    print(f"feeds: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    toolbox.run(main)
