"""A headless Chromium, driven through a pipe by its own protocol (CDP): no driver program, no library.

What a page says on its console, what it throws and what its policy blocks are kept: `page.complaints` is empty after a
run in which nothing went wrong. Nothing here sleeps: `until` asks the page again and again.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import toolbox

# Debian's names first; then what others call it.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
WAIT_SECONDS = 20


def find():
    """The browser's program: named by STRATALOG_BROWSER, installed, or brought by the distribution's packages."""
    named = os.environ.get("STRATALOG_BROWSER")
    if named:
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise toolbox.Missing("no Chromium is installed (or named by STRATALOG_BROWSER)")
    toolbox.quietly(["apt-get", "update", "-q"])
    toolbox.quietly(["apt-get", "install", "-y", "-q", "--no-install-recommends", NAMES[0]])
    return toolbox.need(NAMES[0])


class Browser:
    """The process and its pipe. `page()` opens a page."""

    def __init__(self, program=None):
        self.profile = tempfile.mkdtemp(prefix="browser-")
        to_browser, self.to_browser = os.pipe()
        self.from_browser, from_browser = os.pipe()
        # The browser reads from descriptor 3 and writes to 4.
        script = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        arguments = [program or find(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                     "--no-first-run", "--disable-background-networking", "--disable-component-update",
                     "--remote-debugging-pipe", f"--user-data-dir={self.profile}"]
        self.process = subprocess.Popen(["bash", "-c", script, *arguments], pass_fds=(to_browser, from_browser),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.rest = b""
        self.last = 0
        self.pages = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, session=None, **params):
        self.last += 1
        call = {"id": self.last, "method": method, "params": params}
        if session:
            call["sessionId"] = session
        os.write(self.to_browser, json.dumps(call).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == call["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def read(self):
        while b"\0" not in self.rest:
            chunk = os.read(self.from_browser, 1 << 16)
            if not chunk:
                raise RuntimeError("the browser ended")
            self.rest += chunk
        message, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(message)
        if "method" in message and message.get("sessionId") in self.pages:
            self.pages[message["sessionId"]].heard(message["method"], message["params"])
        return message

    def page(self, width=1280, height=800, dark=False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[theme])
        return page


class Page:
    """One page. Elements are named by CSS selectors, or by the text that stands in them."""

    def __init__(self, browser, session):
        self.browser = browser
        self.session = session
        self.complaints = []

    def heard(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)

    def run(self, script):
        """What a script gives; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True,
                           userGesture=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def until(self, script, what=None):
        """Asks until the script gives something true, and gives that."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = self.run(script)
            if found:
                return found
            if time.monotonic() > deadline:
                shown = self.run("document.body.innerText")
                raise AssertionError(f"never seen: {what or script}; the page shows:\n{shown}\n{self.complaints}")
            self.run("new Promise((done) => setTimeout(done, 30))")

    def open(self, url):
        self.call("Page.navigate", url=url)

    def see(self, text, within="body"):
        """Waits until a text is shown."""
        self.until(f"[...document.querySelectorAll({json.dumps(within)})]"
                   f".some((one) => one.innerText?.includes({json.dumps(text)}))", f"{text!r} in {within}")

    def click(self, selector, text=""):
        """Clicks the first element of that kind with that text, as soon as there is one that can be clicked."""
        self.until(f"""(() => {{
            const all = [...document.querySelectorAll({json.dumps(selector)})];
            const one = all.find((one) => one.innerText.includes({json.dumps(text)}) && !one.disabled && one.offsetParent);
            one?.click();
            return one !== undefined;
        }})()""", f"{selector} with {text!r} to click")

    def fill(self, selector, text):
        """Writes into a field, as if by hand: the page hears of it."""
        self.until(f"""(() => {{
            const field = document.querySelector({json.dumps(selector)});
            if (!field) return false;
            field.focus();
            field.value = {json.dumps(text)};
            field.dispatchEvent(new Event("input", {{ bubbles: true }}));
            field.dispatchEvent(new Event("change", {{ bubbles: true }}));
            return true;
        }})()""", f"{selector} to fill")

    def press(self, key):
        text = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
        code = {"Tab": 9, "Enter": 13, "Escape": 27}.get(key, ord(key.upper()) if len(key) == 1 else 0)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                      **(text if kind == "keyDown" else {}))

    def shot(self, path):
        """A picture of what is shown."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))
