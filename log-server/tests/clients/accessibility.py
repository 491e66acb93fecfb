"""Whether a page can be used by people who see little, or use no mouse: the rules of axe-core, and a walk with the Tab key."""

import json

import toolbox

# WCAG 2.2 up to level AA, and what axe-core holds to be good practice.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# What can be reached with Tab, unless it is hidden, disabled, or behind a dialog.
REACHABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"


def violations(page):
    """Lines about what breaks a rule, the worst first."""
    if not page.run("typeof axe === 'object'"):
        page.run((toolbox.node_modules() / "axe-core/axe.min.js").read_text() + "; null")
    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    found = page.run(f"""axe.run(document, {json.dumps(options)}).then(({{ violations }}) => violations.map((one) => ({{
        rule: one.id, impact: one.impact, help: one.help,
        places: one.nodes.map((node) => `${{node.target.join(" ")}}: ${{node.any.concat(node.all, node.none).map((check) => check.message).join("; ")}}`),
    }})))""")
    order = ["critical", "serious", "moderate", "minor"]
    return [f"{one['impact']}: {one['rule']} ({one['help']}), {len(one['places'])} times: {' | '.join(one['places'][:3])}"
            for one in sorted(found, key=lambda one: order.index(one["impact"]))]


def walk(page):
    """Presses Tab until the focus comes round. Lines about what it never reached, and where one does not see that it is there."""
    page.run(f"""(() => {{
        document.activeElement.blur();
        window.walked = {{ seen: new Set(), unseen: [], outside: 0 }};
        const top = document.querySelector("dialog[open]") ?? document;
        const looks = (one) => {{
            const style = getComputedStyle(one);
            return [style.outlineStyle !== "none" && style.outlineWidth, style.boxShadow, style.borderColor, style.backgroundColor].join();
        }};
        window.walked.all = () => [...top.querySelectorAll({json.dumps(REACHABLE)})].filter((one) => !one.disabled && one.tabIndex >= 0 && one.checkVisibility());
        window.walked.before = new Map(window.walked.all().map((one) => [one, looks(one)]));
        window.walked.step = () => {{
            const one = document.activeElement;
            // Between the last and the first there is the browser itself, once.
            if (one === document.body) return walked.outside++ === 0;
            if (walked.seen.has(one)) return false;
            walked.seen.add(one);
            const box = one.getBoundingClientRect();
            const isInView = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
            if (walked.before.get(one) === looks(one) || !isInView) walked.unseen.push(one.outerHTML.slice(0, 160));
            return true;
        }};
    }})()""")
    page.press("Tab")
    while page.run("walked.step()"):
        page.press("Tab")
    missed = page.run("walked.all().filter((one) => walked.before.has(one) && !walked.seen.has(one)).map((one) => one.outerHTML.slice(0, 160))")
    unseen = page.run("walked.unseen")
    return [f"Tab never comes to {one}" for one in missed] + [f"the focus is not seen on {one}" for one in unseen]
