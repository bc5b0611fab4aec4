#!/usr/bin/env bash
# Builds ntbak and runs its main job on a small disk: image, verify, list,
# restore, compare. Needs the Rust toolchain and a C compiler, nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked
ntbak=${CARGO_TARGET_DIR:-target}/release/ntbak
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() { printf '\n$ ntbak %s\n' "$*"; "$ntbak" "$@"; }
cargo run --release --locked --quiet --example unpack -- testdata/quick.img.zst "$work/quick.img"
cd "$work"
ntbak=$(cd "$OLDPWD" && realpath "$ntbak")
run info quick.img
run image quick.img quick.ntbak --verify
run verify quick.ntbak
run ls -R -l quick.ntbak
run restore quick.ntbak restored.img --verify
run verify quick.ntbak --against restored.img
run diff quick.img restored.img
printf '\nThe restored disk holds every file of the first one.\n'
