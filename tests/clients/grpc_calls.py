"""gRPC through Plimsoll: Python's grpcio on both sides. All four kinds of calls, many of them at once, deadlines,
cancellation, and what a client hears when nothing answers."""
import concurrent.futures
import threading
import time

import grpc

import stand

REPORT = stand.Report("grpc calls")
SERVICE = "test.Echo"
CALLS = 1000


def plain(data):
    return data


class Echo(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name
        self.cancelled = threading.Event()
        self.remaining = []
        self.unavailable = 0

    def service(self, details):
        method = details.method.rsplit("/", 1)[-1]
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler,
            "Many": grpc.unary_stream_rpc_method_handler,
            "Sum": grpc.stream_unary_rpc_method_handler,
            "Chat": grpc.stream_stream_rpc_method_handler,
            "Sleep": grpc.unary_unary_rpc_method_handler,
            "Broken": grpc.unary_unary_rpc_method_handler,
            "Endless": grpc.unary_stream_rpc_method_handler,
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

    def broken(self, _, context):
        self.unavailable += 1
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

    def endless(self, _, context):
        context.add_callback(self.cancelled.set)
        while context.is_active():
            yield b"tick"
            time.sleep(0.02)


def serve(name):
    echo = Echo(name)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), handlers=(echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return echo, server, port


class Calls:
    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
        self.unary = self.channel.unary_unary(f"/{SERVICE}/Unary")
        self.many = self.channel.unary_stream(f"/{SERVICE}/Many")
        self.sum = self.channel.stream_unary(f"/{SERVICE}/Sum")
        self.chat = self.channel.stream_stream(f"/{SERVICE}/Chat")
        self.sleep = self.channel.unary_unary(f"/{SERVICE}/Sleep")
        self.broken = self.channel.unary_unary(f"/{SERVICE}/Broken")
        self.endless = self.channel.unary_stream(f"/{SERVICE}/Endless")


def code_of(call, *arguments, **more):
    try:
        call(*arguments, **more)
        return grpc.StatusCode.OK
    except grpc.RpcError as error:
        return error.code()


def kinds(calls):
    answer, call = calls.unary.with_call(b"hello", timeout=10)
    REPORT.equal("unary", (answer, dict(call.trailing_metadata())["bytes"]), (b"hello", "5"))
    large = bytes(range(256)) * 8000
    REPORT.check("a message of 2 MB", calls.unary(large, timeout=20) == large)
    REPORT.equal("server streaming", [int(m) for m in calls.many(b"500", timeout=20)], list(range(500)))
    REPORT.equal("client streaming", calls.sum((str(i).encode() for i in range(500)), timeout=20), b"124750")
    turns = []

    def talk():
        for i in range(50):
            # The answer to each comes before the next is said.
            stand.until("an answer", lambda i=i: len(turns) == i)
            yield f"word {i}".encode()

    for answer in calls.chat(talk(), timeout=20):
        turns.append(answer)
    REPORT.equal("bidirectional, in turns", turns, [f"WORD {i}".encode() for i in range(50)])


def many(calls, proxy):
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: calls.unary(str(i).encode(), timeout=30), range(CALLS)))
    REPORT.check(f"{CALLS} calls, 32 at once", answers == [str(i).encode() for i in range(CALLS)])
    endpoints = proxy.ask("/v1/pools/main")["endpoints"]
    REPORT.equal("nothing is left in flight", [e["in_flight"] for e in endpoints], [0] * len(endpoints))


def deadlines(calls, echo):
    start = time.monotonic()
    REPORT.equal("a deadline", code_of(calls.sleep, b"5", timeout=0.5), grpc.StatusCode.DEADLINE_EXCEEDED)
    REPORT.check("in time", time.monotonic() - start < 3)
    REPORT.check("it is passed on, less what has gone", 0 < echo.remaining[-1] <= 0.5, f"{echo.remaining}")


def cancellation(calls, echo):
    call = calls.endless(b"")
    ticks = [next(call) for _ in range(3)]
    call.cancel()
    REPORT.equal("a stream that never ends", ticks, [b"tick"] * 3)
    REPORT.check("its cancellation reaches the server", echo.cancelled.wait(5))


def errors(calls):
    missing = calls.channel.unary_unary(f"/{SERVICE}/Nothing")
    REPORT.equal("a method that is not there", code_of(missing, b"", timeout=5), grpc.StatusCode.UNIMPLEMENTED)
    REPORT.equal("a status of the server's", code_of(calls.broken, b"", timeout=5), grpc.StatusCode.UNAVAILABLE)


def alone():
    """Nobody there, and no route."""
    text = '[[route]]\nname = "none"\npath_prefix = "/none"\npriority = 9\nrespond = { status = 404 }\n'
    proxy = stand.Proxy([stand.free_port()], listener="h2c = true\n", pool='protocol = "http2"\n', text=text)
    calls = Calls(proxy.port)
    REPORT.equal("no endpoint", code_of(calls.unary, b"", timeout=10), grpc.StatusCode.UNAVAILABLE)
    record = stand.until("a record", lambda: proxy.records())[0]
    REPORT.equal("it is in the log", (record["status"], record["grpc_status"]), (200, 14))
    proxy.stop()


def retries():
    """A call that was answered by nothing but UNAVAILABLE goes to the other server, where that is asked for."""
    bad, bad_server, bad_port = serve("bad")
    good, good_server, good_port = serve("good")
    good.broken = lambda request, context: b"done"
    pool = 'protocol = "http2"\nbalance = "first"\n[pool.main.retry]\non = ["connect", "grpc-unavailable"]\n'
    proxy = stand.Proxy([bad_port, good_port], listener="h2c = true\n", pool=pool)
    calls = Calls(proxy.port)
    REPORT.equal("retried on the other", calls.broken(b"", timeout=10), b"done")
    REPORT.equal("once", bad.unavailable, 1)
    proxy.stop()
    bad_server.stop(None)
    good_server.stop(None)


def main():
    echo, server, port = serve("one")
    proxy = stand.Proxy([port], listener="h2c = true\n", pool='protocol = "http2"\n')
    calls = Calls(proxy.port)
    kinds(calls)
    many(calls, proxy)
    deadlines(calls, echo)
    cancellation(calls, echo)
    errors(calls)
    calls.channel.close()
    proxy.stop()
    server.stop(None)
    alone()
    retries()
    REPORT.end()


if __name__ == "__main__":
    main()
