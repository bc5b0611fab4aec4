#!/usr/bin/env bash
# Restores with relocation beside the plain restore of the same archive.
#
#   scripts/bench-replacement.sh [OPTION...] [VOLUME]
#     --quick        a tenth of the size, three rounds
#     --rounds N     interleaved rounds (default 5)
#     --amount N     per mille of the full volume of 3 GiB (default 300; --quick: 100)
#     --seed N       another volume (default 20240611)
#     --with-sync    let the runs flush to disk (default: flushing is free for all)
#
# VOLUME: an image; without one the volume `mixed` of scripts/bench.sh is built once and kept in
# ${BENCH_CACHE:-${TMPDIR:-/tmp}/ntbak-bench}. Each round restores it plainly, with --defragment,
# to the smallest size, and to half of the way there; ratios are those within a round, medians of them
# are printed. NTBAK names the binary (default: target/release/ntbak). Needs cc, python3, ntfs-3g and
# its headers. No root.
set -euo pipefail
here=$(cd "$(dirname "$0")/bench" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/volume.sh"
PATH=$PATH:/usr/sbin:/sbin
export PYTHONDONTWRITEBYTECODE=1
rounds= amount= seed=20240611 sync=0 volume= quick=0
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1 ;;
    --rounds) rounds=$2; shift ;;
    --amount) amount=$2; shift ;;
    --seed) seed=$2; shift ;;
    --with-sync) sync=1 ;;
    -h | --help) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 0 ;;
    -*) echo "bench-replacement.sh: unknown option $1 (--help)" >&2; exit 2 ;;
    *) volume=$1 ;;
  esac
  shift
done
: "${rounds:=$([ $quick = 1 ] && echo 3 || echo 5)}" "${amount:=$([ $quick = 1 ] && echo 100 || echo 300)}"
: "${NTBAK:=$root/target/release/ntbak}"
[ -x "$NTBAK" ] || { echo "bench-replacement.sh: no $NTBAK: cargo build --release" >&2; exit 2; }
cache=${BENCH_CACHE:-${TMPDIR:-/tmp}/ntbak-bench}
mkdir -p "$cache"
tools=$(mktemp -d "${TMPDIR:-/tmp}/ntbak-bench-tools.XXXXXX")
area=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$tools" "$area"' EXIT
bench_tools "$tools" "$([ -n "$volume" ] || echo all)"
if [ -z "$volume" ]; then
  version=$(cat "$here/volgen.c" "$here/clock.c" "$here/volume.sh" | sha256sum | cut -c1-8)
  volume=$cache/mixed-$amount-$seed-$version.ntfs
  [ -e "$volume" ] || make_volume "$tools" "$volume" mixed "$amount" "$seed"
fi
[ $sync = 1 ] || export BENCH_PRELOAD=$tools/nosync.so
"$NTBAK" image "$volume" "$area/a.ntbak" >/dev/null
python3 "$here/replacement.py" "$NTBAK" "$area" "$rounds"
