"""The web console in a real browser: a topic is made, records are written, found by time and text, followed live, a group's lag is seen
and its offsets are reset. No view may complain on the browser's console, and each view and dialog, light and dark, wide and small,
must keep the rules of accessibility and be usable with the keyboard alone.

    console.py                        our server, the newest build under target/
    console.py --bootstrap URL        a broker that runs: the address of its HTTP port
    console.py --pictures DIRECTORY   also a picture of each view and dialog, wide and small, light and dark

Records are written through the page and through the HTTP API; nothing sleeps, each step waits for what the page shows.
"""

import argparse
import contextlib
import json
import pathlib
import re
import socket
import struct
import time
import urllib.error
import urllib.request

import accessibility
import brokers
import browser
import toolbox

TOPIC = "console.orders"
GROUP = "console-billing"
ODD_TOPIC = "console.odd"
ODD_TIME = 9 * 10**18
# The second half of the records is from a day on which nothing else happened.
DAY_MS = 24 * 3600 * 1000
RECORDS = 40


class Run:
    """One page at the console of one broker."""

    def __init__(self, page, url):
        self.page = page
        self.url = url
        self.passed = 0
        self.failures = []

    def api(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def step(self, what, work):
        try:
            work()
            if self.page.complaints:
                raise AssertionError(f"the browser complains: {self.page.complaints}")
            self.passed += 1
            print(f"ok    {what}", flush=True)
        except (AssertionError, RuntimeError, OSError) as failure:
            self.failures.append(what)
            self.page.complaints.clear()
            print(f"FAIL  {what}: {failure}", flush=True)

    # -- the steps, each from where the one before ended

    def opens(self):
        self.page.open(f"{self.url}/")
        self.page.see("Overview", "h1")
        self.page.see("ok", ".status")
        # The plots have what happened before the page was opened.
        self.page.until("document.querySelectorAll('.plot canvas').length === 2")

    def creates_a_topic(self):
        self.page.press("t")
        self.page.see("Topics", "h1")
        self.page.press("n")
        self.page.fill("dialog input[name=name]", TOPIC)
        self.page.fill("dialog input[name=partitions]", "3")
        self.page.click("dialog button", "Create")
        self.page.see(TOPIC, "h1")
        self.page.see("on disk", ".tile")
        self.page.until("document.querySelectorAll('tbody tr').length === 3", "three partitions")

    def refuses_what_the_broker_refuses(self):
        self.page.click("a", "Topics")
        self.page.click("button", "New topic")
        self.page.fill("dialog input[name=name]", TOPIC)
        self.page.click("dialog button", "Create")
        self.page.until("document.querySelector('dialog .problem')?.innerText.length > 10", "the refusal")
        # The browser tells of the 409 itself.
        self.page.complaints[:] = [one for one in self.page.complaints if "409" not in one]
        self.page.press("Escape")
        self.page.until("document.querySelector('dialog') === null")

    def produces(self):
        self.page.click("td a", TOPIC)
        self.page.see(TOPIC, "h1")
        self.page.press("p")
        self.page.fill("dialog input[name=key]", "ada")
        self.page.fill("dialog textarea", '{"item": "tea", "big": 12345678901234567890}')
        self.page.click("dialog button", "Add a header")
        self.page.fill("dialog input[aria-label=\"Header's name\"]", "trace")
        self.page.fill("dialog input[aria-label=\"Header's value\"]", "t-1")
        self.page.click("dialog footer button", "Produce")
        self.page.see("offset 0", "dialog .sent")
        self.page.press("Escape")
        self.page.until("document.querySelector('dialog') === null")

    def shows_a_record(self):
        self.page.press("2")
        self.page.click("tr.link td.when")
        # A number that JavaScript cannot hold is shown as it was written.
        self.page.see("12345678901234567890", ".detail pre")
        self.page.click(".detail button", "Headers")
        self.page.see("t-1", ".detail")
        self.page.click(".detail button", "Replay")
        self.page.see("curl -s", ".detail pre")
        self.page.click(".detail button", "Value")
        self.page.click(".detail button", "Bytes")
        self.page.see("00000000  7b 22", ".detail pre")
        self.page.press("Escape")
        self.page.until("document.querySelector('.detail') === null")

    def fill(self):
        now = round(time.time() * 1000)
        records = [{"key": f"key-{n}", "value": {"n": n, "word": f"needle-{n}"}, "partition": n % 3,
                    "timestamp": now - (DAY_MS * 10 if n < RECORDS // 2 else DAY_MS * 2) + n * 1000}
                   for n in range(RECORDS)]
        self.api("POST", f"topics/{TOPIC}/records", {"records": records})
        self.noon_of_the_gap = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime((now - DAY_MS * 5) / 1000))

    def browses_by_time(self):
        self.fill()
        self.page.click(".segments button", "Time")
        self.page.fill("input[name=time]", self.noon_of_the_gap)
        self.page.click("form button", "Look")
        self.page.see(f"needle-{RECORDS // 2}", ".records")
        shown = self.page.run("document.querySelectorAll('.records tbody tr').length")
        # The later half, and the record that was written by hand.
        if shown != RECORDS // 2 + 1:
            raise AssertionError(f"{shown} records since then")

    def browses_by_offset(self):
        self.page.click(".segments button", "Offset")
        self.page.fill("input[name=offset]", "2")
        self.page.click("form button", "Look")
        self.page.until("document.querySelector('.records tbody tr td:nth-child(3)')?.innerText === '2'")
        self.page.run("document.activeElement.blur()")
        self.page.press("[")
        self.page.until("document.querySelector('.records tbody tr td:nth-child(3)')?.innerText === '0'", "older records")

    def finds_text_and_keys(self):
        self.page.click(".segments button", "Newest")
        self.page.see(f"needle-{RECORDS - 1}", ".records")
        self.page.fill("select[name=partition]", "all")
        shown = "[...document.querySelectorAll('.records tbody td:nth-child(2)')].map((one) => one.innerText)"
        self.page.until(f"new Set({shown}).size === 3", "records of all partitions")
        self.page.fill("input[name=find]", "NEEDLE-7\"")
        self.page.click("form button", "Look")
        self.page.see("1 found")
        self.page.see("needle-7", ".records")
        self.page.fill('select[aria-label="Search by"]', "key")
        self.page.fill("input[name=find]", "key-11")
        self.page.click("form button", "Look")
        self.page.see("needle-11", ".records")

    def tails(self):
        self.page.press("Escape")
        self.page.run("document.activeElement.blur()")
        self.page.press("3")
        self.page.see("live", ".badge")
        for n in range(3):
            self.api("POST", f"topics/{TOPIC}/records", {"records": [{"value": f"live-{n}"}]})
            self.page.see(f"live-{n}", ".records")
        self.page.press(" ")
        self.page.see("paused", ".badge")
        self.api("POST", f"topics/{TOPIC}/records", {"records": [{"value": "unseen"}]})
        self.page.see("1 passed over")

    def shows_the_lag_of_a_group(self):
        self.api("POST", f"groups/{GROUP}/offsets", {"to": "latest", "topics": [{"topic": TOPIC}], "dry_run": False})
        self.page.press("g")
        self.page.see("Groups", "h1")
        self.page.see(GROUP, "td.name")
        self.page.click("td a", GROUP)
        self.page.see("Behind")
        self.page.until("document.querySelectorAll('tbody tr').length === 3", "three partitions")
        before = self.behind()
        if before != 0:
            raise AssertionError(f"{before} records behind at the end")

    def behind(self):
        lag = self.api("GET", f"groups/{GROUP}/lag")
        return lag["records"]

    def resets_a_group(self):
        self.page.click("button", "Reset offsets")
        self.page.click("dialog button", "Show what it would do")
        self.page.see("Nothing is changed yet: 3 offsets would move")
        if self.behind() != 0:
            raise AssertionError("the dry run moved something")
        self.page.click("dialog button", "Reset 3 partitions")
        self.page.until("document.querySelector('dialog') === null")
        self.page.see(str(RECORDS + 5), ".tile")
        if self.behind() != RECORDS + 5:
            raise AssertionError(f"{self.behind()} records behind after the reset")

    def changes_a_setting(self):
        self.page.open(f"{self.url}/#/topics/{TOPIC}/settings")
        self.page.click("button[aria-label='Change retention.ms']")
        self.page.fill("dialog input", "86400000")
        self.page.click("dialog button", "Set")
        self.page.until("document.querySelector('dialog') === null")
        self.page.see("set for this topic")
        configs = self.api("GET", f"topics/{TOPIC}/configs?search=retention.ms")["configs"]
        if ["86400000", "topic"] not in [[one["value"], one["source"]] for one in configs]:
            raise AssertionError(f"{configs}")

    def shows_clients(self):
        self.page.press("c")
        self.page.see("Clients", "h1")
        # Nobody but this page asks the broker, and it is no Kafka client.
        self.page.see("No clients yet")
        # One that says as little as one can: GetTelemetrySubscriptions 0 of a client without an id.
        name = b"console-client"
        request = struct.pack(">hhih", 71, 0, 1, len(name)) + name + bytes(1 + 16 + 1)
        [broker] = self.api("GET", "cluster")["brokers"]
        with socket.create_connection((broker["host"], broker["port"]), 30) as client:
            client.sendall(struct.pack(">i", len(request)) + request)
            self.page.see(name.decode(), "td.name")
            self.page.see("nothing is wanted", "tbody")
            self.page.click("td a", name.decode())
            self.page.see("It has pushed nothing")
        self.page.see("gone", ".tile")

    def shows_the_broker(self):
        self.page.press("b")
        self.page.see("Broker", "h1")
        self.page.see("data-dir", "td.name")
        self.page.see("free", ".disk")

    def survives_odd_records(self):
        # The record's author chose a time that no date has, and a value that would be a hundred megabytes if each level were indented.
        configs = {"message.timestamp.after.max.ms": str(2**63 - 1)}
        self.api("POST", "topics", {"name": ODD_TOPIC, "partitions": 1, "configs": configs})
        value = "[" * 10_000 + "]" * 10_000
        self.api("POST", f"topics/{ODD_TOPIC}/records", {"records": [{"value": value, "timestamp": ODD_TIME}]})
        self.page.open(f"{self.url}/#/topics/{ODD_TOPIC}/records")
        self.page.see(str(ODD_TIME), ".records")
        self.page.click("tr.link td.when")
        self.page.see(str(ODD_TIME), ".detail")
        self.page.see("…", ".detail pre")
        shown = self.page.run("document.querySelector('.detail pre').textContent.length")
        if 10_000_000 < shown:
            raise AssertionError(f"{shown} characters are shown of {len(value)}")
        self.page.press("Escape")
        self.page.until("document.querySelector('.detail') === null")

    def deletes_a_topic(self):
        self.page.open(f"{self.url}/#/topics/{TOPIC}")
        # All that the page asks about the topic is answered: what comes after its end would be refused, and the browser would say so.
        self.page.see("1 d", ".tile")
        self.page.see("online", "td")
        self.page.click("button", "Delete")
        self.page.fill("dialog input[name=name]", TOPIC)
        self.page.click("dialog button", "Delete for ever")
        self.page.see("Topics", "h1")
        self.page.until(f"!document.querySelector('main').innerText.includes({json.dumps(TOPIC)})")

    def runs_the_example_of_a_page(self):
        """The socket of docs/HTTP.md, as it stands there, but for the address."""
        page = pathlib.Path(__file__).parents[3].joinpath("docs/HTTP.md").read_text()
        examples = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
        if len(examples) != 1:
            raise AssertionError(f"{len(examples)} examples for a page")
        try:
            self.api("POST", "topics", {"name": "orders", "partitions": 1})
        except urllib.error.HTTPError as error:
            # A broker that runs may have it.
            if error.code != 409:
                raise
        self.page.run(examples[0].replace("localhost:8080", self.url.split("//")[1]))
        self.page.until("heard.some((one) => one.id === 1 && 0 <= one.offset)", "the answer")
        self.page.until("heard.some((one) => one.record?.value === 'from a page')", "the record")
        self.page.run("socket.close(); null")

    def steps(self):
        for what, work in [
            ("opens with plots of what happened before", self.opens),
            ("creates a topic", self.creates_a_topic),
            ("tells why the broker refuses", self.refuses_what_the_broker_refuses),
            ("produces a record", self.produces),
            ("shows a record", self.shows_a_record),
            ("browses by time", self.browses_by_time),
            ("browses by offset", self.browses_by_offset),
            ("finds text and keys", self.finds_text_and_keys),
            ("follows live", self.tails),
            ("shows the lag of a group", self.shows_the_lag_of_a_group),
            ("resets a group after a dry run", self.resets_a_group),
            ("changes a setting", self.changes_a_setting),
            ("shows clients", self.shows_clients),
            ("shows the broker", self.shows_the_broker),
            ("survives odd records", self.survives_odd_records),
            ("runs the example of a page", self.runs_the_example_of_a_page),
        ]:
            self.step(what, work)


# Where each view is, what is seen there when it is complete, and, of a dialog or a detail, how it is opened from there.
VIEWS = {
    "overview": ("", "main canvas", None),
    "keys": ("", "main canvas", lambda page: page.press("?")),
    "topics": ("topics", "tbody tr", None),
    "new-topic": ("topics", "tbody tr", lambda page: page.press("n")),
    "topic": (f"topics/{TOPIC}", "tbody tr", None),
    "produce": (f"topics/{TOPIC}", "tbody tr", lambda page: page.press("p")),
    "add-partitions": (f"topics/{TOPIC}", "tbody tr", lambda page: page.click("button", "Add partitions")),
    "delete": (f"topics/{TOPIC}", "tbody tr", lambda page: page.click("button", "Delete")),
    "records": (f"topics/{TOPIC}/records", "tbody tr", None),
    "record": (f"topics/{TOPIC}/records", "tbody tr", lambda page: page.click("tr.link td.when")),
    "live": (f"topics/{TOPIC}/live", ".badge.good", None),
    "settings": (f"topics/{TOPIC}/settings", "tbody tr", None),
    "setting": (f"topics/{TOPIC}/settings", "tbody tr", lambda page: page.click("button[aria-label='Change retention.ms']")),
    "groups": ("groups", "tbody tr", None),
    "group": (f"groups/{GROUP}", "tbody tr", None),
    "reset": (f"groups/{GROUP}", "tbody tr", lambda page: page.click("button", "Reset offsets")),
    "clients": ("clients", "main h1", None),
    "broker": ("broker", "tbody tr", None),
    "nowhere": ("nowhere", "main h1", None),
}
MODES = {"wide": (1360, 860, False), "wide-dark": (1360, 860, True), "small": (390, 844, False), "small-dark": (390, 844, True)}
PLACES = ("Topics", "Groups", "Clients", "Broker")


def show(page, url, name):
    """Opens a view, and waits for all of it."""
    place, sign, opens = VIEWS[name]
    page.open("about:blank")
    page.open(f"{url}/#/{place}")
    page.until(f"document.querySelector({json.dumps(sign)}) !== null", f"{sign} of {name}")
    if opens:
        opens(page)
        page.until("document.querySelector('dialog[open], .detail') !== null", f"{name} is open")
    page.until("document.querySelector('.stale') === null && document.fonts.status === 'loaded'", "everything that is asked for")


def look(chromium, url, mode, pictures):
    """Looks at each view in one mode, and complains of what is not right."""
    width, height, dark = MODES[mode]
    page = chromium.page(width, height, dark)
    complaints = []
    for name in VIEWS:
        show(page, url, name)
        if pictures:
            page.shot(pictures / f"{name}-{mode}.png")
        found = accessibility.violations(page)
        # What is reached does not change with the colours.
        found += [] if dark else accessibility.walk(page)
        complaints += [f"{name}: {line}" for line in found]
    complaints += page.complaints
    if complaints:
        raise AssertionError("".join(f"\n      {line}" for line in complaints))


def goes_by_keyboard(chromium, url):
    """From place to place with Tab and Enter alone, and with the first Tab past the navigation."""
    page = chromium.page()
    show(page, url, "overview")
    for place in PLACES:
        page.press("Tab")
        for _ in range(40):
            if page.run(f"document.activeElement.matches('nav a') && document.activeElement.innerText.trim() === {json.dumps(place)}"):
                break
            page.press("Tab")
        page.press("Enter")
        page.see(place, "h1")
    page.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
    page.press("Enter")
    page.until("document.activeElement === document.querySelector('main')", "the content has the focus")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", metavar="URL", help="the HTTP port of a broker that runs")
    parser.add_argument("--pictures", type=pathlib.Path, metavar="DIRECTORY")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        chromium = stack.enter_context(browser.Browser())
        if arguments.bootstrap:
            url = arguments.bootstrap.rstrip("/")
        else:
            url = f"http://{stack.enter_context(brokers.Stratalog()).http}"
        run = Run(chromium.page(), url)
        run.steps()
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
        for mode in MODES:
            run.step(f"has {len(VIEWS)} views that anybody can use: {mode}", lambda: look(chromium, url, mode, arguments.pictures))
        run.step("goes from place to place by keyboard", lambda: goes_by_keyboard(chromium, url))
        run.step("deletes a topic", run.deletes_a_topic)
    print(f"console: {run.passed} passed, {len(run.failures)} failed")
    return 1 if run.failures else 0


if __name__ == "__main__":
    toolbox.run(main)
