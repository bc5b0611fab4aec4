#!/usr/bin/env bash
# make-testdata.sh [NAME...]
#
# Rebuilds every file of testdata/ (or only the named volumes) from nothing.
#
# Needs root (FUSE mounts, loop devices for the 4096-byte-sector disk), about
# 3 GiB of space under ${TMPDIR:-/tmp} on a file system with sparse files of more than
# 2 TiB (ext4, xfs), and on Debian 12:
#   apt-get install ntfs-3g sleuthkit gdisk fdisk dosfstools e2fsprogs exfatprogs faketime \
#                   psmisc zstd python3 python3-venv
# plus dissect.ntfs 3.16 from PyPI, which it installs into a scratch venv.  None
# of these are needed to build or test the program itself.
#
# The clock is frozen and all content follows fixed seeds, so that the same tool
# versions make the same bytes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/.." && pwd)/testdata
[ "$(id -u)" = 0 ] || { echo "make-testdata.sh: needs root" >&2; exit 2; }
for tool in mkntfs ntfs-3g fsstat sgdisk sfdisk losetup mkfs.fat mkfs.exfat mkfs.ext4 fuser ntfsresize faketime zstd python3; do
  command -v "$tool" >/dev/null || { echo "make-testdata.sh: $tool is missing" >&2; exit 2; }
done
tmp=$(mktemp -d)
trap 'if mountpoint -q "$tmp/mnt"; then umount "$tmp/mnt"; fi; rm -rf "$tmp"' EXIT
python=${TESTDATA_PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv "$tmp/venv"
  "$tmp/venv/bin/pip" install -q dissect.ntfs==3.16
  python=$tmp/venv/bin/python
fi
export TZ=UTC LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mkdir -p "$out"
"$python" "$here/make_testdata.py" "$out" "$tmp" "$@"
