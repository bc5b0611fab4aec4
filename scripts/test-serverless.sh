#!/usr/bin/env bash
# test-serverless.sh: the long part of tests/serverless.
#
#   scripts/test-serverless.sh [FILTER]
#
# Every public volume through every copy manager, the whole matrix of faults (tests/serverless/matrix.rs)
# at more places, kill -9 at more random points (NTBAK_POINTS of each kind, NTBAK_SEED for others), and a volume
# of some GB: NTBAK_VOLUME, or one that scripts/bench makes (needs ntfs-3g; skipped where
# it is not installed). Fails when anything differs.
set -euo pipefail
cd "$(dirname "$0")/.."
export NTBAK_LONG=1
PATH=$PATH:/usr/sbin:/sbin
if [ -z "${NTBAK_VOLUME:-}" ] && type mkntfs python3 cc >/dev/null 2>&1; then
  here=$PWD/scripts/bench
  . "$here/volume.sh"
  made=$(realpath -m "${CARGO_TARGET_DIR:-target}")/serverless
  export NTBAK_VOLUME=$made/volume.ntfs
  mkdir -p "$made"
  if [ ! -s "$NTBAK_VOLUME" ]; then
    bench_tools "$made" volgen
    make_volume "$made" "$NTBAK_VOLUME" mixed 1000 20240611
  fi
fi
exec cargo test --locked --test serverless -- --test-threads=1 "$@"
