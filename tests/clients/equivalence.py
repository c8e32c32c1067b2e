"""Configurations of other products beside what `plimsoll import` makes of them: both sides get the same 300 generated requests,
with endpoints that fail midway, and must route, answer, edit heads and keep clients alike. What differs must be announced by the
report, case by case. `equivalence.py [PRODUCT[/CASE]]..` runs some."""
import concurrent.futures
import importlib
import json
import subprocess
import sys

import namespaces
import stand

PRODUCTS = {"haproxy": "Haproxy", "nginx": "Nginx", "traefik": "Traefik"}
# Each case mostly waits for checks.
AT_ONCE = 6
SHOWN = 12


def product(name):
    return getattr(importlib.import_module(f"imports.{name}"), PRODUCTS[name])()


def cases(wanted):
    found = []
    for name in PRODUCTS:
        folders = sorted((stand.ROOT / "tests" / "import" / name).glob("*/equivalence.json"))
        all_cases = [f"{name}/{path.parent.name}" for path in folders]
        found += [case for case in all_cases if not wanted or name in wanted or case in wanted]
    return found


def alone(case):
    """One case, in a namespace of its own: the last line of what it prints is what came of it."""
    done = subprocess.run(
        [sys.executable, __file__, "--inside", case], capture_output=True, text=True, timeout=300, check=False
    )
    try:
        return case, json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return case, {"broken": f"{done.stdout}{done.stderr}"[-3000:]}


def inside(case):
    namespaces.enter()
    from imports.case import Case

    name, folder = case.split("/")
    print(json.dumps(Case(product(name), stand.ROOT / "tests" / "import" / name / folder).run()))


def main():
    report = stand.Report("equivalence")
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for case, came in pool.map(alone, cases(sys.argv[1:])):
            if "broken" in came:
                report.check(case, False, came["broken"])
                continue
            rest = came["unannounced"]
            told = f"{came['requests']} requests, {came['reached']} reached an endpoint, {came['differences']} announced differences"
            shown = "\n     ".join([f"{len(rest)} differences that the report does not announce", *rest[:SHOWN]])
            report.check(case, not rest, shown if rest else told)
            report.equal(f"{case}: its list of announced differences", came["wrong"], [])
            report.check(f"{case}: requests reach endpoints", came["reached"] >= 30, str(came["reached"]))
    report.end()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
    else:
        main()
