# Two images from one build: `--target aggregator` is the server, `--target publisher` the workload.
# Compiled dependencies and downloads live in cache mounts, apart from the sources: a changed source
# file compiles two crates, a changed Cargo.lock only what it changed.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# The mount below is gone when the step ends; the binaries are copied out of it.
ENV CARGO_TARGET_DIR=/cache/target

# Dependencies: from the manifests alone, with empty crates in the place of ours. On a cold builder
# the minutes go here, and a change of sources does not come back to it.
COPY Cargo.toml Cargo.lock ./
COPY publisher/Cargo.toml publisher/
RUN --mount=type=cache,id=oncelog-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=oncelog-target,target=/cache/target,sharing=locked \
    mkdir -p src publisher/src benches tests/suite \
 && echo 'fn main() {}' | tee build.rs src/main.rs publisher/src/main.rs benches/throughput.rs \
        benches/ingest.rs tests/suite/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked --workspace \
 && rm -r build.rs src publisher/src

COPY build.rs ./
COPY migrations migrations
COPY src src
COPY publisher/src publisher/src
# Cargo goes by time stamps, and a checkout may be older than the empty crates: without `touch` it
# would take those for the program.
RUN --mount=type=cache,id=oncelog-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=oncelog-target,target=/cache/target,sharing=locked \
    find build.rs migrations src publisher/src -exec touch {} + \
 && cargo build --release --locked --workspace \
 && mkdir -p /out/log \
 && cp /cache/target/release/oncelog /cache/target/release/oncelog-publisher /out/


# What both images share: the C library, and a user that owns nothing.
FROM debian:bookworm-slim AS runtime
ARG REVISION=unknown
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
# Numbers, so that a cluster's "must not run as root" can tell; no account of that name is needed.
USER 10001:10001
WORKDIR /


FROM runtime AS publisher
LABEL org.opencontainers.image.title="oncelog-publisher" \
      org.opencontainers.image.description="Sends a seeded workload with repeats, and checks the server's account against its own"
COPY --from=build /out/oncelog-publisher /usr/local/bin/
ENTRYPOINT ["oncelog-publisher"]


# Last, so that it is what a build without `--target` gives.
FROM runtime AS aggregator
LABEL org.opencontainers.image.title="oncelog" \
      org.opencontainers.image.description="Stores every event exactly once in Postgres, and says so: a Pub-Sub log aggregator"
COPY --from=build /out/oncelog /usr/local/bin/
# A new volume mounted here takes over this owner; without one the log may be written all the same.
COPY --from=build --chown=10001:10001 /out/log /var/log/oncelog
# In a container the port is reached from outside of it, or not at all.
ENV BIND=0.0.0.0:8080 LOG_FORMAT=json
EXPOSE 8080
HEALTHCHECK --interval=3s --timeout=10s --start-period=60s --retries=3 CMD ["oncelog", "healthcheck"]
ENTRYPOINT ["oncelog"]
CMD ["serve"]
