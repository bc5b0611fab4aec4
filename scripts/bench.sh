#!/usr/bin/env bash
# bench.sh: ntbak beside the tools one would use instead, and beside the floor.
#
#   scripts/bench.sh [OPTION...]
#     --quick            a tenth of the size, two rounds: does it all work?
#     --profile LIST     of mixed,small,scan (default: all three)
#     --only REGEX       only cases whose name matches
#     --rounds N         interleaved rounds (default 5; --quick: 2)
#     --slow-rounds N    rounds of the slow peers (default 2; --quick: 1)
#     --level N          zstd level, the same for every case (default 3)
#     --records N        MFT records of the scan volume (default 600000)
#     --seed N           another set of volumes (default 20240611)
#     --work DIR         where archives and restored volumes go (default: the cache)
#     --with-sync        let the tools flush to disk (default: flushing is free for all)
#     --report FILE      also write the Markdown report there
#     --build-only       build the volumes and stop
#
# Volumes (3 GiB mixed: files of log-normal size, half of the bytes incompressible,
# LZNT1, sparse, streams, hard links, attribute lists, dirty free space; 3 GiB of
# 200,000 small files; a $MFT of 600,000 records) are built once, by one seed, bit for
# bit the same, and kept in ${BENCH_CACHE:-${TMPDIR:-/tmp}/ntbak-bench}. The full set
# takes 8 GiB there and 8 GiB for the work.
#
# NTBAK names the binary (default: target/release/ntbak; without it only the peers
# run). MFT_DUMP names mft_dump (`cargo install mft`). A peer that is not installed is
# skipped and said so. Needs: cc, python3, zstd, ntfs-3g and its headers
# (Debian: gcc libc6-dev ntfs-3g ntfs-3g-dev python3 zstd; peers: partclone wimtools
# sleuthkit). No root, no mount.
set -euo pipefail
here=$(cd "$(dirname "$0")/bench" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/volume.sh"
PATH=$PATH:/usr/sbin:/sbin
export PYTHONDONTWRITEBYTECODE=1

quick=0 profiles=mixed,small,scan only=. rounds= slow= level=3 records= seed=20240611
work= sync=0 report= build=0
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1 ;;
    --profile) profiles=$2; shift ;;
    --only) only=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --slow-rounds) slow=$2; shift ;;
    --level) level=$2; shift ;;
    --records) records=$2; shift ;;
    --seed) seed=$2; shift ;;
    --work) work=$2; shift ;;
    --with-sync) sync=1 ;;
    --report) report=$2; shift ;;
    --build-only) build=1 ;;
    -h | --help) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 0 ;;
    *) echo "bench.sh: unknown option $1 (--help)" >&2; exit 2 ;;
  esac
  shift
done
permille=$([ $quick = 1 ] && echo 100 || echo 1000)
: "${rounds:=$([ $quick = 1 ] && echo 2 || echo 5)}" "${slow:=$([ $quick = 1 ] && echo 1 || echo 2)}"
: "${records:=$([ $quick = 1 ] && echo 60000 || echo 600000)}"

for need in cc python3 zstd mkntfs; do
  command -v $need >/dev/null || { echo "bench.sh: $need is needed (see --help)" >&2; exit 2; }
done
cache=${BENCH_CACHE:-${TMPDIR:-/tmp}/ntbak-bench}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
: "${work:=$cache}"
tools=$(mktemp -d "${TMPDIR:-/tmp}/ntbak-bench-tools.XXXXXX")
area=$(mktemp -d "$work/run.XXXXXX")
trap 'rm -rf "$tools" "$area"' EXIT
bench_tools "$tools" all

# one volume per profile, size, seed and version of the generator
version=$(cat "$here/volgen.c" "$here/clock.c" "$here/volume.sh" | sha256sum | cut -c1-8)
volumes=()
for profile in ${profiles//,/ }; do
  amount=$permille
  [ "$profile" = scan ] && amount=$records
  volume=$cache/$profile-$amount-$seed-$version.ntfs
  exec 9>"$cache/lock"
  flock 9
  if [ ! -e "$volume" ]; then
    echo "building $volume" >&2
    nice -n 10 bash -c 'here=$1; shift; . "$here/volume.sh"; make_volume "$@"' - \
      "$here" "$tools" "$volume" "$profile" "$amount" "$seed"
  fi
  exec 9>&-
  volumes+=("$profile=$volume")
done
if [ $build = 1 ]; then
  printf '%s\n' "${volumes[@]}"
  exit 0
fi

: "${NTBAK:=$root/target/release/ntbak}"
results=$cache/results-$(date -u +%Y%m%dT%H%M%SZ).jsonl
status=0
python3 "$here/run.py" --tools "$tools" --work "$area" --ntbak "$NTBAK" --mft-dump "${MFT_DUMP:-mft_dump}" \
  --level "$level" --rounds "$rounds" --slow-rounds "$slow" --only "$only" --sync $sync \
  --results "$results" "${volumes[@]}" || status=$? # 1: ntbak failed or lost something
echo "results: $results" >&2
python3 "$here/table.py" "$results" | tee ${report:+"$report"}
exit $status
