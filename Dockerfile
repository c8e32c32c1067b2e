# Builds the binary in one stage and ships it alone in the next.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin plimsoll

FROM debian:bookworm-slim
RUN useradd --system --uid 900 --no-create-home --shell /usr/sbin/nologin plimsoll
COPY --from=build /src/target/release/plimsoll /usr/local/bin/plimsoll
COPY LICENSE /usr/share/doc/plimsoll/LICENSE
USER plimsoll
EXPOSE 8080 9900
# The configuration is mounted: -v ./plimsoll.toml:/etc/plimsoll/plimsoll.toml:ro
ENTRYPOINT ["/usr/local/bin/plimsoll"]
CMD ["run", "--config", "/etc/plimsoll/plimsoll.toml"]
STOPSIGNAL SIGTERM
