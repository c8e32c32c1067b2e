# A small image: the binary with its libraries, certificates and a user; no shell, no root, nothing to update beside them.
ARG BUILDER=rust:1.95-bookworm
FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin plimsoll \
  && container/assemble target/release/plimsoll /image \
  && install -D -m 644 LICENSE /image/usr/share/doc/plimsoll/LICENSE

FROM scratch
COPY --from=build /image /
USER 900:900
# Low ports need no privilege in a container of today; the admin API is reached from inside only.
EXPOSE 8080 8443 9901
# It drains first. Give it as long as process.drain_delay and process.drain_timeout say: docker stop --time 45.
STOPSIGNAL SIGTERM
# Whether it is to be started again. Whether it may get traffic is another question: --check ready, or /readyz of [health].
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s --retries=3 \
  CMD ["/usr/local/bin/plimsoll", "status", "--check", "live"]
# The configuration is mounted: -v ./plimsoll.toml:/etc/plimsoll/plimsoll.toml:ro
ENTRYPOINT ["/usr/local/bin/plimsoll"]
CMD ["run", "--config", "/etc/plimsoll/plimsoll.toml"]
