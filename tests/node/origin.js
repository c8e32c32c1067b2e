// A Node origin: `node origin.js PORT [keepAliveMilliseconds]`. `/` says who it is, POST /echo gives the body back, POST
// /once counts how often each X-Once came (GET /once tells), and a WebSocket at any path echoes.
import http from "node:http";
import { WebSocketServer } from "ws";

const counts = new Map();
const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("error", () => {});
  request.on("end", () => {
    if (request.method === "GET" && request.url === "/once") {
      const twice = [...counts.values()].filter((count) => count > 1).length;
      response.end(JSON.stringify({ all: counts.size, twice }));
    } else if (request.url === "/once") {
      const key = request.headers["x-once"];
      counts.set(key, (counts.get(key) ?? 0) + 1);
      response.end("once");
    } else {
      const body = request.method === "POST" ? Buffer.concat(parts) : Buffer.from("node");
      response.setHeader("Content-Length", body.length);
      response.end(body);
    }
  });
});
// The default of Node, which races with every proxy that keeps connections for longer.
server.keepAliveTimeout = Number(process.argv[3] ?? 5000);
server.maxConnections = 20000;
const sockets = new WebSocketServer({ server });
sockets.on("connection", (socket) => {
  socket.on("message", (data, binary) => socket.send(data, { binary }));
  socket.on("error", () => {});
});
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
process.on("SIGTERM", () => process.exit(0));
