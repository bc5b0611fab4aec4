#!/usr/bin/env bash
# bench-serverless.sh: what a backup by EXTENDED COPY costs, beside `cp` of the same bytes,
# beside the same backup through the host, and the disk unit of `ntbak target` beside tgt's.
#
#   scripts/bench-serverless.sh [OPTION...]
#     --volume FILE      NTFS volume to back up (default: one that bench.sh makes, 3 GiB)
#     --rounds N         interleaved rounds (default 5)
#     --seconds N        of each iscsi-perf run (default 4)
#     --with-sync        let everything flush to disk (default: flushing is free for all)
#     --work DIR         where copies and cartridges go (default: the cache of bench.sh)
#     --report FILE      also write the Markdown report there
#
# NTBAK names the binary (default: target/release/ntbak). Needs python3 and cc; parts whose
# tools are missing are skipped and said so: iscsi-perf (Debian: libiscsi-bin), tgtd and
# tgtadm (tgt; tgtadm wants root). Everything listens on 127.0.0.1 only. The work takes
# twice the size of the volume.
set -euo pipefail
here=$(cd "$(dirname "$0")/bench" && pwd)
PATH=$PATH:/usr/sbin:/sbin
export PYTHONDONTWRITEBYTECODE=1
volume= rounds=5 seconds=4 sync=0 work= report=
while [ $# -gt 0 ]; do
  case $1 in
    --volume) volume=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --with-sync) sync=1 ;;
    --work) work=$2; shift ;;
    --report) report=$2; shift ;;
    -h | --help) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 0 ;;
    *) echo "bench-serverless.sh: unknown option $1 (--help)" >&2; exit 2 ;;
  esac
  shift
done
for need in cc python3; do
  command -v $need >/dev/null || { echo "bench-serverless.sh: $need is needed (see --help)" >&2; exit 2; }
done
: "${NTBAK:=$here/../../target/release/ntbak}"
[ -x "$NTBAK" ] || { echo "bench-serverless.sh: no $NTBAK; cargo build --release --locked" >&2; exit 2; }
if [ -z "$volume" ]; then
  made=$("$here/../bench.sh" --build-only --profile mixed)
  volume=${made#mixed=}
fi
: "${work:=${BENCH_CACHE:-${TMPDIR:-/tmp}/ntbak-bench}}"
mkdir -p "$work"
area=$(mktemp -d "$work/serverless.XXXXXX")
trap 'rm -rf "$area"' EXIT
shim=
if [ $sync = 0 ]; then
  cc -O2 -shared -fPIC -o "$area/nosync.so" "$here/nosync.c"
  shim=$area/nosync.so
fi
python3 "$here/serverless.py" --ntbak "$NTBAK" --volume "$volume" --rounds "$rounds" \
  --seconds "$seconds" --shim "$shim" --work "$area" | tee ${report:+"$report"}
