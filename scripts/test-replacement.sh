#!/usr/bin/env bash
# Restores to larger, smallest and random sizes, and holds the results against the source.
#
#   scripts/test-replacement.sh [OPTION...] [VOLUME...]
#     --quick        a few volumes, a few minutes
#     --random N     random volumes (default 7; --quick: 2)
#     --seed N       first seed of the random volumes and sizes (default 1)
#     --sizes N      random sizes between smallest and source (default 2; --quick: 1)
#     --minutes N    start nothing new after so long (default 120; --quick: 5)
#     --keep         keep what failed
#
# Each VOLUME (.img or .img.zst, with its .tsv or .golden.tsv beside it; default: the
# public ones in ../shared/volumes, testdata/ and random ones) is imaged; the archive is
# restored to 1.5 times its length, with --grow, to the smallest size, to one sector less
# (refused, with the right number), to sizes between, and with --defragment. Each result is
# read by ntfsresize --info, ntfsfix --no-action, ntfsinfo -m, ntbak verify --volume, and
# sgdisk or sfdisk --verify. Contents: `ntbak cat` of rows of the golden list, `ntbak diff`, every
# file and stream through ntfs-3g against the source and the golden list, and a reader
# of file records of its own (scripts/replacement/facts.py) for times, security ids, names, links,
# reparse points, object ids, EAs and all raw clusters. A tool that refuses the source already
# is not asked about the results; that counts as skipped.
#
# May differ: content of $MFT, $MFTMirr, $LogFile, $Volume, $Bitmap, $Boot and $BadClus, the
# sizes beside names in the root, and, where the plan says that they are dropped, shadow copies
# and hiberfil.sys. A volume whose $LogFile Windows had not finished with is marked to be checked;
# ntfsinfo reads it with --force then.
#
# NTBAK names the binary (default: target/release/ntbak, built if missing). Needs root,
# python3, zstd, losetup; ntfs-3g, gdisk and fdisk for their parts.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 0 ;; esac
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
export PYTHONDONTWRITEBYTECODE=1
if [[ -z ${NTBAK:-} ]]; then
  cargo build --release --locked --quiet
  NTBAK=${CARGO_TARGET_DIR:-target}/release/ntbak
fi
work=$(mktemp -d)
end() {
  ! mountpoint --quiet "$work/v/mnt" || umount --lazy "$work/v/mnt"
  rm -rf --one-file-system "$work"
}
trap end EXIT
trap 'exit 130' INT TERM
status=0
python3 scripts/replacement/run.py --ntbak "$(realpath "$NTBAK")" --work "$work" "$@" || status=$?
exit $status
