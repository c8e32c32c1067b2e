// One origin in four dresses: `node http2.js PORT h1|h2 [CERTIFICATE KEY]`. It says what it was asked in: `/` the version,
// /echo the body, /sum its digest, /big/N gives N MiB, /early has 103 before, /trailers tells the request's and has some itself.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";

const [port, version, cert, key] = process.argv.slice(2);
const block = Buffer.from(Array.from({ length: 1 << 20 }, (_, at) => at & 255));

function big(response, count) {
  let left = count;
  const more = () => {
    while (left > 0) {
      left -= 1;
      if (!response.write(block)) {
        response.once("drain", more);
        return;
      }
    }
    response.end();
  };
  response.setHeader("Content-Length", count << 20);
  more();
}

function answer(request, response) {
  response.setHeader("x-version", request.httpVersion);
  request.on("error", () => {});
  response.on("error", () => {});
  if (request.url.startsWith("/big/")) return big(response, Number(request.url.split("/")[2]));
  if (request.url === "/early") response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
  if (request.url === "/sum") {
    const sum = createHash("sha256");
    request.on("data", (part) => sum.update(part));
    return request.on("end", () => response.end(sum.digest("hex")));
  }
  const parts = [];
  request.on("data", (part) => parts.push(part));
  return request.on("end", () => {
    if (request.url === "/echo") return response.end(Buffer.concat(parts));
    if (request.url !== "/trailers") return response.end(`version ${request.httpVersion}`);
    response.setHeader("Trailer", "x-sum, x-more");
    response.write(JSON.stringify(request.trailers));
    response.addTrailers({ "x-sum": "42", "x-more": "and more" });
    return response.end();
  });
}

const secure = cert ? { cert: readFileSync(cert), key: readFileSync(key) } : {};
const makes = { h1: [http.createServer, https.createServer], h2: [http2.createServer, http2.createSecureServer] };
const server = makes[version][cert ? 1 : 0](secure, answer);
server.keepAliveTimeout = 60000;
server.on("sessionError", () => {});
server.on("clientError", (_, socket) => socket.destroy());
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 1024 });
process.on("SIGTERM", () => process.exit(0));
