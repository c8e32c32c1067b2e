// Node's ws: `node websocket.js serve PORT [CERTIFICATE KEY]` gives every message back, and closes when it is told to; under
// TLS it speaks HTTP/2 as well, but WebSocket only over HTTP/1, as most servers do. `node websocket.js
// ask URL HOST` is its client. One line a check, exit status 1 when one failed.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import WebSocket, { WebSocketServer } from "ws";

const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");

function serve(port, cert, key) {
  const answer = (_, response) => response.end("node");
  const server = cert
    ? http2.createSecureServer({ allowHTTP1: true, cert: readFileSync(cert), key: readFileSync(key) }, answer)
    : http.createServer(answer);
  const options = { noServer: true, perMessageDeflate: { threshold: 0 }, maxPayload: 0 };
  options.handleProtocols = (offered) => (offered.has("chat") ? "chat" : false);
  const sockets = new WebSocketServer(options);
  server.on("upgrade", (request, stream, head) => {
    if (request.url === "/refuse") {
      stream.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\nConnection: close\r\n\r\nnot you\n");
      return;
    }
    sockets.handleUpgrade(request, stream, head, (socket) => {
      socket.on("error", () => {}); // what the cases are about
      socket.on("message", (data, binary) => {
        const words = binary ? [] : data.toString().split(" ");
        if (words[0] === "close") socket.close(Number(words[1]), words.slice(2).join(" "));
        else socket.send(data, { binary });
      });
    });
  });
  server.listen({ port, host: "127.0.0.1", backlog: 1024 });
  process.on("SIGTERM", () => process.exit(0));
}

// Sends one message after the other and waits for each to come back, then closes; gives back what came.
async function talk(url, options, messages, code) {
  const socket = new WebSocket(url, ["chat"], options);
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  const received = [];
  for (const [data, binary] of messages) {
    const answer = new Promise((resolve) => socket.once("message", (back, kind) => resolve([back, kind])));
    socket.send(data, { binary });
    received.push(await answer);
  }
  const pong = new Promise((resolve) => socket.once("pong", (data) => resolve(data.toString())));
  socket.ping("are you there");
  const heard = await pong;
  const closed = new Promise((resolve) => socket.once("close", (...how) => resolve(how)));
  socket.close(code, "done");
  const [how, why] = await closed;
  return { received, heard, how, why: why.toString(), protocol: socket.protocol, extensions: socket.extensions };
}

async function ask(url, host) {
  let failed = 0;
  const check = (name, holds) => {
    if (!holds) failed += 1;
    console.log(`${holds ? "ok  " : "FAIL"} ws: ${name}`);
  };
  for (const perMessageDeflate of [false, { threshold: 0 }]) {
    const name = perMessageDeflate ? "compressed" : "plain";
    const messages = [[Buffer.from("text"), false], [Buffer.alloc(0), true], [Buffer.alloc(0), false]];
    for (const size of [125, 126, 65535, 65536, (1 << 20) + 1, 3 << 20]) messages.push([randomBytes(size), true]);
    messages.push([Buffer.from("ü".repeat(1 << 20)), false]);
    const said = await talk(url, { perMessageDeflate, headers: { Host: host } }, messages, 4001);
    const same = said.received.every(([data, kind], at) => kind === messages[at][1] && hash(data) === hash(messages[at][0]));
    check(`${messages.length} messages, ${name}`, said.received.length === messages.length && same);
    check(`ping and pong, ${name}`, said.heard === "are you there");
    check(`close code and reason, ${name}`, said.how === 4001 && said.why === "done");
    check(`subprotocol and extension, ${name}`, said.protocol === "chat" && Boolean(said.extensions) === Boolean(perMessageDeflate));
  }
  process.exit(failed ? 1 : 0);
}

if (process.argv[2] === "serve") serve(Number(process.argv[3]), process.argv[4], process.argv[5]);
else await ask(process.argv[3], process.argv[4]);
