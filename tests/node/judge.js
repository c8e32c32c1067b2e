// Node's http parser as a judge: one line of JSON for every request it takes and every one it refuses.
import http from "node:http";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const server = http.createServer((request, response) => {
  say({ request: `${request.method} ${request.url}`.slice(0, 80) });
  request.resume();
  request.on("end", () => response.end("ok"));
  request.on("error", () => {}); // an aborted upload is no finding
});
server.on("clientError", (error, socket) => {
  const aborted = ["ECONNRESET", "EPIPE", "HPE_INVALID_EOF_STATE"].includes(error.code);
  if (!aborted) say({ refused: error.code, reason: error.reason, bytes: error.rawPacket?.toString("latin1").slice(0, 300) });
  socket.destroy();
});
server.listen(Number(process.argv[2]), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
