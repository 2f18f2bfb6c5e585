# syntax=docker/dockerfile:1
# sori alone, static: docker build -t sori . && docker run --rm -v "$PWD:/work" sori classify MUSIC
FROM rust:1.95-bookworm AS build
WORKDIR /sori
COPY . .
# Natively: for another processor, docker build --platform linux/arm64.
RUN target="$(uname -m)-unknown-linux-musl" \
    && rustup target add "$target" \
    && cargo build --locked --profile dist -p sori --target "$target" \
    && install -D "target/$target/dist/sori" /image/usr/bin/sori \
    && install -D -m 644 -t /image/usr/share/doc/sori LICENSE-APACHE LICENSE-MIT \
    && install -d /image/work

FROM scratch
COPY --from=build /image /
WORKDIR /work
USER 65534:65534
ENTRYPOINT ["/usr/bin/sori"]
CMD ["--help"]
