#!/usr/bin/env bash
# demo-serverless.sh: a backup to tape and back in which the data never comes
# through this program. Takes a few minutes, most of them for the build.
#
#   scripts/demo-serverless.sh [VOLUME]
#
# `ntbak target` plays the storage: a disk, an empty replacement disk, a tape drive and
# the copy manager that moves data between them. A second `ntbak`, the host, reads the
# file records, sends EXTENDED COPY commands, and counts every byte that passes
# through it. VOLUME is an image of an NTFS volume or disk, or a block device; it is
# opened read-only. Without it a small disk from testdata/ is used, most of which is
# metadata: with a volume of some GB the share that passes through the host is below 2 %.
#
# Needs the Rust toolchain and a C compiler, no root, no tape drive. Temporary files go
# to ${TMPDIR:-/tmp} (as much as VOLUME has in use, twice) and are removed. NTBAK names a
# binary that is built already.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 0 ;; esac
source=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }

if [ -z "${NTBAK:-}" ]; then
  step "Building (release)"
  cargo build --release --locked
  NTBAK=${CARGO_TARGET_DIR:-target}/release/ntbak
fi
ntbak=$(realpath "$NTBAK")
work=$(mktemp -d "${TMPDIR:-/tmp}/ntbak-demo.XXXXXX")
export XDG_STATE_HOME=$work/state
server=
cleanup() {
  if [ -n "$server" ]; then
    kill -INT "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ -z "$source" ]; then
  source=$work/quick.img
  if type zstd >/dev/null 2>&1; then
    zstd -dq testdata/quick.img.zst -o "$source"
  else
    cargo run --release --locked --quiet --example unpack -- testdata/quick.img.zst "$source"
  fi
fi
if [ -b "$source" ]; then size=$(blockdev --getsize64 "$source"); else size=$(stat -Lc %s "$source"); fi
truncate -s "$size" "$work/replacement.img"
cd "$work"
run() { printf '$ ntbak %s\n' "$*"; "$ntbak" "$@"; }

step "1. The storage: a disk, an empty replacement of it, a tape drive, a copy manager"
options=(target --disk "system=$source,ro" --disk replacement=replacement.img
  --tape drive=cartridge.tap --listen 127.0.0.1:0)
printf '$ ntbak %s &\n' "${options[*]}"
"$ntbak" "${options[@]}" >urls 2>target.log &
server=$!
for _ in $(seq 100); do
  [ "$(wc -l <urls)" -ge 3 ] && break
  kill -0 "$server" 2>/dev/null || { cat target.log >&2; exit 1; }
  sleep 0.1
done
[ "$(wc -l <urls)" -ge 3 ] || { echo "the target is not ready after 10 s" >&2; exit 1; }
cat urls
disk=$(sed -n 1p urls | cut -d' ' -f1)
replacement=$(sed -n 2p urls | cut -d' ' -f1)
tape=$(sed -n 3p urls | cut -d' ' -f1)

step "2. What can this copy manager do?"
run probe "$disk" "$replacement" "$tape"

step "3. Backup: disk to tape by EXTENDED COPY"
run image "$disk" "$tape" --label DEMO01 --mover copy-manager --progress never | tee image.log

step "4. The tape is browsed like a volume"
first=$(sed -n 's/^Partition \([0-9]*\): NTFS.*/\1/p' image.log | head -1)
if [ -n "$first" ]; then run ls -l "$tape" "p$first:/"; else run info "$tape"; fi

step "5. Restore: tape to the replacement disk by EXTENDED COPY"
run restore "$tape" "$replacement" --mover copy-manager --yes --progress never | tee restore.log

step "6. Only now the host looks: tape against the replacement disk, every kept cluster"
run verify "$tape" --against replacement.img --progress never

step "What passed through the host"
show() { printf '%-8s' "$1"; sed -n 's/^  *\(Through here.*\)/\1/p' "$2"; }
show backup image.log
show restore restore.log
