#!/usr/bin/env bash
# Makes the archive that stands for the present format version:
# testdata/archive/format-N.ntbak, an image of testdata/sparse.img.zst. Run it
# once when a format version is released; the file then stays for ever.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked
version=$(sed -n 's/^# The ntbak stream, format version //p' docs/format.md)
to=$PWD/testdata/archive/format-$version.ntbak
[ ! -e "$to" ] || { echo "$to exists and is never replaced" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo run --release --locked --quiet --example unpack -- testdata/sparse.img.zst "$work/sparse.img"
ntbak=$(realpath "${CARGO_TARGET_DIR:-target}/release/ntbak")
(cd "$work" && "$ntbak" image sparse.img a.ntbak --level 19 --verify)
mv "$work/a.ntbak" "$to"
