#!/usr/bin/env bash
# The bill of materials of each binary, as CycloneDX JSON in target/sbom: ./scripts/sbom.sh
# Needs cargo-cyclonedx. Made anew by CI with each run and not committed: Cargo.lock is what it says.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo cyclonedx --version >/dev/null 2>&1 || {
    echo "sbom.sh: cargo-cyclonedx is missing: cargo install cargo-cyclonedx --locked" >&2
    exit 1
}

# It writes beside each Cargo.toml, and knows no directory to write to.
cargo cyclonedx --quiet --format json --describe crate
mkdir -p target/sbom
find . -name '*.cdx.json' -not -path './target/*' -exec mv -t target/sbom {} +
ls -l target/sbom
