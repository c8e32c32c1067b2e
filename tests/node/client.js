// Node's fetch and `ws` as clients: `node client.js URL`. One line a check, exit status 1 when one failed.
import { createHash, randomBytes } from "node:crypto";
import WebSocket from "ws";

const url = process.argv[2];
let failed = 0;
const check = (name, holds) => {
  if (!holds) failed += 1;
  console.log(`${holds ? "ok  " : "FAIL"} node: ${name}`);
};
const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");

const answers = await Promise.all(Array.from({ length: 200 }, () => fetch(url).then((answer) => answer.text())));
check("200 fetches at once", answers.every((text) => text === "node"));

const body = randomBytes(3_000_000);
const echoed = await fetch(`${url}/echo`, { method: "POST", body });
check("fetch with a body of known length", hash(Buffer.from(await echoed.arrayBuffer())) === hash(body));

const stream = new ReadableStream({
  start(controller) {
    for (let at = 0; at < body.length; at += 70_000) controller.enqueue(body.subarray(at, at + 70_000));
    controller.close();
  },
});
const streamed = await fetch(`${url}/echo`, { method: "POST", body: stream, duplex: "half" });
check("fetch with a streamed body", hash(Buffer.from(await streamed.arrayBuffer())) === hash(body));

const socket = new WebSocket(url.replace("http", "ws") + "/ws");
const received = [];
await new Promise((resolve, reject) => {
  const messages = [Buffer.from("text"), randomBytes(100), randomBytes(500_000), Buffer.alloc(0)];
  socket.on("open", () => messages.forEach((message) => socket.send(message)));
  socket.on("message", (data) => {
    received.push(data);
    if (received.length === messages.length) {
      check("a WebSocket echoes", received.every((data, at) => hash(data) === hash(messages[at])));
      socket.close(1000, "done");
    }
  });
  socket.on("close", (code) => {
    check("a WebSocket closes in order", code === 1000);
    resolve();
  });
  socket.on("error", reject);
});
process.exit(failed ? 1 : 0);
