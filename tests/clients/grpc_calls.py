"""gRPC through Plimsoll, Python's grpcio on both sides, in the clear and under TLS: all four kinds of calls, many of them at
once, deadlines, cancellation, what a client hears of our own errors, retries, and probes of grpc.health.v1."""
import concurrent.futures
import struct
import threading
import time

import grpc
import grpc_health.v1.health
import grpc_health.v1.health_pb2 as health_pb2
import grpc_health.v1.health_pb2_grpc as health_pb2_grpc

import certificates
import http2_peer
import stand

REPORT = stand.Report("grpc calls")
SERVICE = "test.Echo"
CALLS = 1000
CLEAR = ("h2c = true\n", 'protocol = "http2"\n')


def plain(data):
    return data


class Echo(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name
        self.cancelled = []
        self.remaining = []
        self.asked = 0

    def service(self, details):
        method = details.method.rsplit("/", 1)[-1]
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler,
            "Many": grpc.unary_stream_rpc_method_handler,
            "Sum": grpc.stream_unary_rpc_method_handler,
            "Chat": grpc.stream_stream_rpc_method_handler,
            "Sleep": grpc.unary_unary_rpc_method_handler,
            "Broken": grpc.unary_unary_rpc_method_handler,
            "Half": grpc.unary_stream_rpc_method_handler,
            "Endless": grpc.unary_stream_rpc_method_handler,
            "Metadata": grpc.unary_unary_rpc_method_handler,
        }
        kind = kinds.get(method)
        return kind and kind(getattr(self, method.lower()), request_deserializer=plain, response_serializer=plain)

    def unary(self, request, context):
        context.set_trailing_metadata((("who", self.name), ("bytes", str(len(request)))))
        return request

    def many(self, request, _):
        for i in range(int(request)):
            yield str(i).encode()

    def sum(self, requests, _):
        return str(sum(int(request) for request in requests)).encode()

    def chat(self, requests, _):
        for request in requests:
            yield request.upper()

    def sleep(self, request, context):
        self.remaining.append(context.time_remaining())
        time.sleep(float(request))
        return b"slept"

    def broken(self, request, context):
        """Fails with the code that it is told."""
        self.asked += 1
        context.abort(getattr(grpc.StatusCode, request.decode()), "not now: 100 % ü")

    def half(self, request, context):
        """Fails behind a first message."""
        self.asked += 1
        yield b"half"
        context.abort(getattr(grpc.StatusCode, request.decode()), "no more")

    def metadata(self, _, context):
        came = {key: value for key, value in context.invocation_metadata() if key.startswith("mine-")}
        context.send_initial_metadata((("x-first-bin", bytes(range(256))),))
        context.set_trailing_metadata(tuple((key.replace("mine-", "back-"), value) for key, value in came.items()))
        return b""

    def endless(self, _, context):
        # Each call has its own word for its end.
        over = threading.Event()
        self.cancelled.append(over)
        context.add_callback(over.set)
        while context.is_active():
            yield b"tick"
            time.sleep(0.02)


def serve(name, credentials=None, health=None):
    echo = Echo(name)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), handlers=(echo,))
    if health:
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_secure_port("127.0.0.1:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
    server.start()
    return echo, server, port


class Calls:
    def __init__(self, port, files=None):
        to, options = f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]
        if files:
            credentials = grpc.ssl_channel_credentials((files / "ca.pem").read_bytes())
            self.channel = grpc.secure_channel(to, credentials, options)
        else:
            self.channel = grpc.insecure_channel(to, options)
        self.unary = self.channel.unary_unary(f"/{SERVICE}/Unary")
        self.many = self.channel.unary_stream(f"/{SERVICE}/Many")
        self.sum = self.channel.stream_unary(f"/{SERVICE}/Sum")
        self.chat = self.channel.stream_stream(f"/{SERVICE}/Chat")
        self.sleep = self.channel.unary_unary(f"/{SERVICE}/Sleep")
        self.broken = self.channel.unary_unary(f"/{SERVICE}/Broken")
        self.half = self.channel.unary_stream(f"/{SERVICE}/Half")
        self.endless = self.channel.unary_stream(f"/{SERVICE}/Endless")
        self.metadata = self.channel.unary_unary(f"/{SERVICE}/Metadata")


def code_of(call, *arguments, **more):
    try:
        call(*arguments, **more)
        return grpc.StatusCode.OK
    except grpc.RpcError as error:
        return error.code()


def kinds(way, calls):
    answer, call = calls.unary.with_call(b"hello", timeout=10)
    REPORT.equal(f"{way}: unary", (answer, dict(call.trailing_metadata())["bytes"]), (b"hello", "5"))
    large = bytes(range(256)) * 8000
    REPORT.check(f"{way}: a message of 2 MB", calls.unary(large, timeout=20) == large)
    packed = calls.unary(b"zip" * 9000, timeout=10, compression=grpc.Compression.Gzip)
    REPORT.check(f"{way}: a compressed message", packed == b"zip" * 9000)
    REPORT.equal(f"{way}: server streaming", [int(m) for m in calls.many(b"500", timeout=20)], list(range(500)))
    REPORT.equal(f"{way}: client streaming", calls.sum((str(i).encode() for i in range(500)), timeout=20), b"124750")
    turns = []

    def talk():
        for i in range(50):
            # The answer to each comes before the next is said.
            stand.until("an answer", lambda i=i: len(turns) == i)
            yield f"word {i}".encode()

    for answer in calls.chat(talk(), timeout=20):
        turns.append(answer)
    REPORT.equal(f"{way}: bidirectional, in turns", turns, [f"WORD {i}".encode() for i in range(50)])
    sent = (("mine-text", "a, b"), ("mine-raw-bin", bytes(range(256))))
    _, call = calls.metadata.with_call(b"", timeout=10, metadata=sent)
    back = {key: value for key, value in call.trailing_metadata() if key.startswith("back-")}
    first = dict(call.initial_metadata()).get("x-first-bin")
    want = ({"back-text": "a, b", "back-raw-bin": bytes(range(256))}, bytes(range(256)))
    REPORT.equal(f"{way}: metadata there and back", (back, first), want)


def many(way, calls, proxy, count):
    """So many calls of each kind, 32 at once."""
    ten = [str(i).encode() for i in range(10)]
    ways = {
        "unary": lambda i: calls.unary(b"%d" % i, timeout=30) == b"%d" % i,
        "server streaming": lambda i: list(calls.many(b"10", timeout=30)) == ten,
        "client streaming": lambda i: calls.sum(iter(ten), timeout=30) == b"45",
        "bidirectional": lambda i: list(calls.chat(iter([b"a%d" % i] * 3), timeout=30)) == [b"A%d" % i] * 3,
    }
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for kind, call in ways.items():
            right = sum(pool.map(call, range(count)))
            REPORT.equal(f"{way}: {count} calls, {kind}", right, count)
    idle = lambda: all(e["in_flight"] == 0 for e in proxy.ask("/v1/pools/main")["endpoints"])
    REPORT.check(f"{way}: nothing is left in flight", stand.until("nothing in flight", idle))


def deadlines(way, calls, echo):
    start = time.monotonic()
    REPORT.equal(f"{way}: a deadline", code_of(calls.sleep, b"5", timeout=0.5), grpc.StatusCode.DEADLINE_EXCEEDED)
    REPORT.check(f"{way}: in time", time.monotonic() - start < 3)
    REPORT.check(f"{way}: it is passed on, less what has gone", 0.3 < echo.remaining[-1] < 0.51, f"{echo.remaining[-1]:.3f} s")


def cancellation(way, calls, echo):
    call = calls.endless(b"")
    ticks = [next(call) for _ in range(3)]
    call.cancel()
    REPORT.equal(f"{way}: a stream that never ends", ticks, [b"tick"] * 3)
    REPORT.check(f"{way}: its cancellation reaches the server", echo.cancelled[-1].wait(5))
    before = len(echo.remaining)
    waiting = calls.sleep.future(b"0.3")
    stand.until("the call to be there", lambda: len(echo.remaining) > before)
    waiting.cancel()
    REPORT.check(f"{way}: and that of a call without an answer is one", waiting.cancelled())


def errors(way, calls):
    missing = calls.channel.unary_unary(f"/{SERVICE}/Nothing")
    REPORT.equal(f"{way}: a method that is not there", code_of(missing, b"", timeout=5), grpc.StatusCode.UNIMPLEMENTED)
    for code in [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.DATA_LOSS]:
        try:
            calls.broken(code.name.encode(), timeout=5)
            got = None
        except grpc.RpcError as error:
            got = (error.code(), error.details())
        REPORT.equal(f"{way}: a status of the server's, {code.name}", got, (code, "not now: 100 % ü"))
    call = calls.half(b"ABORTED", timeout=5)
    first = next(call)
    REPORT.equal(f"{way}: a status behind a message", (first, code_of(lambda: next(call))), (b"half", grpc.StatusCode.ABORTED))


def ours(way, files, listener, pool):
    """What clients hear of our own: nobody there, no route, a server that dies, one that is late."""
    text = '[[route]]\nname = "none"\npath_prefix = "/none"\npriority = 9\nrespond = { status = 404 }\n'
    proxy = stand.Proxy([stand.free_port()], listener=listener, pool=pool, text=text)
    calls = Calls(proxy.port, files)
    REPORT.equal(f"{way}: no endpoint", code_of(calls.unary, b"", timeout=10), grpc.StatusCode.UNAVAILABLE)
    record = stand.until("a record", lambda: proxy.records())[0]
    REPORT.equal(f"{way}: it is in the log", (record["status"], record["grpc_status"]), (200, 14))
    none = calls.channel.unary_unary("/none/Nothing")
    REPORT.equal(f"{way}: a route that answers 404", code_of(none, b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED)
    calls.channel.close()
    proxy.stop()
    echo, server, port = serve("late", files and server_credentials(files))
    proxy = stand.Proxy([port], listener=listener, pool=pool + 'timeouts = { response_header = "300ms" }\n')
    calls = Calls(proxy.port, files)
    REPORT.equal(f"{way}: a server that is late", code_of(calls.sleep, b"2", timeout=10), grpc.StatusCode.DEADLINE_EXCEEDED)
    call = calls.endless(b"")
    next(call)
    server.stop(0)
    code = code_of(lambda: [None for _ in call])
    REPORT.check(f"{way}: a server that ends in the middle", code not in (grpc.StatusCode.OK, None), str(code))
    calls.channel.close()
    proxy.stop()


def message(data):
    return struct.pack("!BI", 0, len(data)) + data


def held_to_it():
    """Whoever gives a deadline and does not keep it is kept to it here, as is a server that does not."""
    echo, server, port = serve("slow")
    proxy = stand.Proxy([port], listener=CLEAR[0], pool=CLEAR[1])
    session = http2_peer.Session(proxy.port)

    def call(method, timeout, body):
        fields = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", timeout)]
        stream = session.open(f"/{SERVICE}/{method}", "POST", fields=fields, end=False)
        stream.send(message(body), end=True)
        return stream

    start = time.monotonic()
    stream = call("Sleep", "300m", b"3").whole()
    took = time.monotonic() - start
    told = (stream.status, {**stream.fields, **stream.trailers}.get("grpc-status"))
    REPORT.check("a deadline is held to for the client", told == (200, "4") and 0.25 < took < 1.5, f"{told} after {took:.2f} s")
    stream, start = call("Endless", "400000u", b""), time.monotonic()
    stream.head()
    while not stream.ended and stream.reset is None:
        session.pump()
    took = time.monotonic() - start
    REPORT.check("in the middle of an answer too", 0.3 < took < 1.5, f"{took:.2f} s, {stream.trailers or stream.reset}")
    REPORT.check("of which the server hears", echo.cancelled[-1].wait(5))
    session.close()
    proxy.stop()
    server.stop(None)


def retries():
    """A call that was answered by nothing but a listed status goes to the other server, where that is asked for."""
    bad, bad_server, bad_port = serve("bad")
    good, good_server, good_port = serve("good")
    good.broken = lambda request, context: b"done"
    pool = CLEAR[1] + 'balance = "first"\n[pool.main.retry]\non = ["connect", "grpc-unavailable", "grpc-resource-exhausted"]\n'
    proxy = stand.Proxy([bad_port, good_port], listener=CLEAR[0], pool=pool)
    calls = Calls(proxy.port)
    for code in ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]:
        REPORT.equal(f"retried on the other: {code}", (calls.broken(code.encode(), timeout=10), bad.asked), (b"done", 1))
        bad.asked = 0
    REPORT.equal("not retried: another code", code_of(calls.broken, b"INTERNAL", timeout=10), grpc.StatusCode.INTERNAL)
    bad.asked = 0
    call = calls.half(b"UNAVAILABLE", timeout=10)
    first = next(call)
    got = (first, code_of(lambda: next(call)), bad.asked, good.asked)
    REPORT.equal("not retried: behind a message", got, (b"half", grpc.StatusCode.UNAVAILABLE, 1, 0))
    records = stand.until("the records", lambda: len(proxy.records()) == 4 and proxy.records())
    REPORT.equal("attempts and codes in the log", [(r["attempts"], r["grpc_status"]) for r in records], [(2, 0), (2, 0), (1, 13), (1, 14)])
    proxy.stop()
    bad_server.stop(None)
    good_server.stop(None)


def probes(files):
    """grpc.health.v1 decides who is used, in the clear and under TLS."""
    for way, secure in [("in the clear", None), ("under TLS", files)]:
        health = [grpc_health.v1.health.HealthServicer() for _ in range(2)]
        servers = [serve(str(n), secure and server_credentials(files), one) for n, one in enumerate(health)]
        for one in health:
            one.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        pool = (files.pool() + 'protocol = "auto"\n' if secure else CLEAR[1]) + (
            f'health = {{ check = "grpc", service = "{SERVICE}", interval = "100ms", rise = 1, fall = 1 }}\n')
        proxy = stand.Proxy([port for _, _, port in servers], listener=CLEAR[0], pool=pool)
        calls = Calls(proxy.port)

        def who(calls=calls):
            return {dict(calls.unary.with_call(b"", timeout=5)[1].trailing_metadata())["who"] for _ in range(20)}

        both = who()
        health[0].set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
        stand.until("it to be down", lambda: [e["usable"] for e in proxy.ask("/v1/pools/main")["endpoints"]] == [False, True])
        one = who()
        health[0].set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        stand.until("it to be back", lambda: all(e["usable"] for e in proxy.ask("/v1/pools/main")["endpoints"]))
        REPORT.equal(f"health probes {way}", (both, one, who()), ({"0", "1"}, {"1"}, {"0", "1"}))
        calls.channel.close()
        proxy.stop()
        for _, server, _ in servers:
            server.stop(None)


def server_credentials(files):
    pair = (files / "server.key").read_bytes(), (files / "server.crt").read_bytes()
    return grpc.ssl_server_credentials([pair])


def main():
    files = certificates.Files()
    ways = {
        "clear": (None, None, *CLEAR),
        "TLS": (files, server_credentials(files), files.listener(), files.pool() + 'protocol = "auto"\n'),
    }
    for way, (secure, credentials, listener, pool) in ways.items():
        echo, server, port = serve("one", credentials)
        proxy = stand.Proxy([port], listener=listener, pool=pool)
        calls = Calls(proxy.port, secure)
        kinds(way, calls)
        many(way, calls, proxy, 200 if secure else CALLS)
        deadlines(way, calls, echo)
        cancellation(way, calls, echo)
        errors(way, calls)
        calls.channel.close()
        proxy.stop()
        server.stop(None)
        ours(way, secure, listener, pool)
    held_to_it()
    retries()
    probes(files)
    REPORT.end()


if __name__ == "__main__":
    main()
