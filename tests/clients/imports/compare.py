"""What differs between two sides that got the same requests, and which of it a report announces."""
import re


class Difference:
    """`kind` is what differs, `where` the thing of it (a field, a pool), `about` the request or phase, `detail` both sides."""

    def __init__(self, kind, where, about, detail):
        self.kind, self.where, self.about, self.detail = kind, where, about, detail

    def text(self):
        return f"{self.kind} {self.where}: {self.about}: {self.detail}"[:600]


def of_request(request, theirs, ours, pools_of):
    """Of one request: status, routing, what the endpoint gets, what the client gets."""
    found, about = [], request.text()

    def differ(kind, where, a, b):
        if a != b:
            found.append(Difference(kind, where, about, f"original {a!r}, import {b!r}"))

    differ("status", f"{theirs.status}-{ours.status}", theirs.status, ours.status) if theirs.status != ours.status else None
    pools = [[pools_of.get(address, set()) for address in side.addresses] for side in (theirs, ours)]
    if [bool(side) for side in pools] != [bool(pools[1])] * 2:
        differ("reached", "", theirs.addresses, ours.addresses)
    elif pools[0] and not pools[0][-1] & pools[1][-1]:
        differ("pool", "", theirs.addresses, ours.addresses)
    if len(pools[0]) != len(pools[1]) and pools[0] and pools[1]:
        differ("attempts", "", len(pools[0]), len(pools[1]))
    if theirs.request and ours.request:
        differ("request-line", "", theirs.request[:2], ours.request[:2])
        fields(differ, "request-field", theirs.request[2], ours.request[2])
        differ("request-body", "", theirs.request[3][:40], ours.request[3][:40])
    if theirs.status == ours.status and theirs.own == ours.own:
        fields(differ, "own-field" if ours.own else "answer-field", theirs.answer, ours.answer)
        differ("own-body" if ours.own else "body", "", theirs.body[:120], ours.body[:120])
    elif theirs.own != ours.own and bool(theirs.request) == bool(ours.request):
        differ("answered-by", "", "itself" if theirs.own else "endpoint", "itself" if ours.own else "endpoint")
    return found


def fields(differ, kind, theirs, ours):
    for name in sorted({name for name, _ in theirs} | {name for name, _ in ours}):
        a, b = ([value for own, value in side if own == name] for side in (theirs, ours))
        differ(kind, name, a, b)


# So many repeated requests of one key tell a pool that keeps them from one that does not.
REPEATS = 10


def of_phase(phase, requests, theirs, ours, pools):
    """Of a phase: whether a client, or a path, keeps coming to one endpoint, and which endpoints are in use."""
    found = []
    for pool, addresses in pools.items():
        kept = [keeps(requests, side, addresses) for side in (theirs, ours)]
        for key in ("client", "path"):
            a, b = kept[0][key], kept[1][key]
            if None not in (a, b) and a != b:
                said = ["keep to one endpoint" if one else "spread" for one in (a, b)]
                found.append(Difference(f"{key}s", pool, phase, f"original {said[0]}, import {said[1]}"))
        used = [one["used"] for one in kept]
        if None not in used and used[0] != used[1]:
            found.append(Difference("use", pool, phase, f"original {sorted(used[0])}, import {sorted(used[1])}"))
    return found


def of_copies(theirs, ours):
    """Of those who get copies of requests: which ones they got."""
    found = []
    for address, got in theirs.items():
        for whose, rest in (("original", got - ours[address]), ("import", ours[address] - got)):
            if rest:
                found.append(Difference("copies", address, f"{len(rest)} requests", f"only the {whose} copies {sorted(rest)[:3]}"))
    return found


def keeps(requests, side, addresses):
    seen = {"client": {}, "path": {}}
    for request in requests:
        result = side.results[request.number]
        if result.addresses and result.addresses[-1] in addresses:
            seen["client"].setdefault(request.client, []).append(result.addresses[-1])
            seen["path"].setdefault(request.target, []).append(result.addresses[-1])
    used = {address for reached in seen["client"].values() for address in reached}
    total = sum(map(len, seen["client"].values()))
    answer = {}
    for key, groups in seen.items():
        repeats = sum(len(reached) - 1 for reached in groups.values())
        told = repeats >= REPEATS and len(addresses) > 1
        answer[key] = all(len(set(reached)) == 1 for reached in groups.values()) if told else None
    # Where keys keep to an endpoint, few of them do not tell which endpoints are in use at all.
    spread = answer["client"] is False and answer["path"] is not True
    answer["used"] = used if spread and total >= REPEATS * len(addresses) else None
    if len(used) < 2:
        # Everything goes to one: nothing is told of keys.
        answer["client"] = answer["path"] = None
        answer["used"] = used if total >= REPEATS * len(addresses) else None
    return answer


class Announced:
    """What a report announces: a difference of this kind, there, is expected because the report says so. `detail` is a pattern
    for what both sides did."""

    def __init__(self, kind, where, report, about=".*", detail=".*", general=False):
        self.kind, self.where, self.report, self.about, self.detail = kind, where, report, about, detail
        self.general, self.used = general, 0

    def covers(self, difference):
        holds = (
            re.fullmatch(self.kind, difference.kind)
            and re.fullmatch(self.where, difference.where)
            and re.search(self.about, difference.about)
            and re.search(self.detail, difference.detail)
        )
        self.used += bool(holds)
        return bool(holds)


def unannounced(differences, announced, report):
    """Those that no report announces; and what is wrong with the list of the announced."""
    wrong = [f"the report does not say {a.report!r}" for a in announced if not a.general and a.report not in report]
    there = [a for a in announced if a.report in report]
    rest = [d for d in differences if not any([a.covers(d) for a in there])]
    wrong += [f"nothing differs any more as {a.kind} {a.where}: {a.report!r}" for a in there if not a.general and not a.used]
    return rest, wrong
