# Functions of the guest scripts; each runs as root in a Linux guest, its working directory
# is what scripts/test-linux.sh shares with it.
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2
shared=$PWD
bad=0
ok() { printf '  ok      %s\n' "$*"; }
fail() { printf '  FAILED  %s\n' "$*"; bad=$((bad + 1)); }
# try WORDS... -- COMMAND...: one check; shows what a failing command said
try() {
  local what=()
  while [ "$1" != -- ]; do what+=("$1"); shift; done
  shift
  if timeout 120 "$@" >/tmp/said 2>&1; then ok "${what[*]}"; else fail "${what[*]} (status $?)"; sed 's/^/          /' /tmp/said | tail -15; fi
}
# same WORDS... -- EXPECTED FOUND
same() {
  local what=()
  while [ "$1" != -- ]; do what+=("$1"); shift; done
  if [ "$2" = "$3" ]; then ok "${what[*]}: $3"; else fail "${what[*]}: found '$3', expected '$2'"; fi
}
# within SECONDS COMMAND...: until it is true
within() {
  local n=$(($1 * 10)); shift
  until "$@" >/dev/null 2>&1; do n=$((n - 1)); [ $n -gt 0 ] || return 1; sleep 0.1; done
}
# node LUN KIND (block, scsi_generic, scsi_tape, scsi_changer): the device of a unit
node() {
  local n
  for n in /sys/class/scsi_device/*:"$1"/device/"$2"/*; do
    n=${n##*/}
    case $n in
      '*' | st*) ;;
      nst*[a-z]) ;;
      *) echo "/dev/$n"; return ;;
    esac
  done
  return 1
}
# login ADDRESS:PORT IQN [digests]: the kernel initiator's session; the portal is the one given, since the
# address that discovery names is not reachable from a guest.
login() {
  modprobe -a iscsi_tcp sd_mod st sg ch 2>/dev/null
  echo InitiatorName=iqn.2026-11.org.ntbak:linux >/etc/iscsi/initiatorname.iscsi
  pidof iscsid >/dev/null || iscsid
  iscsiadm -m discovery -t sendtargets -p "$1" >/tmp/targets || return 1
  grep -q "$2" /tmp/targets && ok "discovery: $(head -1 /tmp/targets)" || fail "discovery does not name $2"
  iscsiadm -m node -T "$2" -p "$1" -o new >/dev/null 2>&1
  if [ "${3:-}" = digests ]; then
    for n in HeaderDigest DataDigest; do
      iscsiadm -m node -T "$2" -p "$1" -o update -n "node.conn[0].iscsi.$n" -v CRC32C
    done
  fi
  iscsiadm -m node -T "$2" -p "$1" --login >/tmp/said 2>&1 || { cat /tmp/said; return 1; }
  [ "${3:-}" != digests ] ||
    same header and data digests -- 2 "$(iscsiadm -m session -P 3 | grep -cE '(Header|Data)Digest: CRC32C')"
}
# finish: logs out, looks at the kernel's log, ends with the verdict
finish() {
  iscsiadm -m node -u >/dev/null 2>&1
  dmesg | grep -E 'Illegal Request|DID_|I/O error|detected conn error|Oops|BUG:' | grep -v "$allowed" >/tmp/log
  if [ -s /tmp/log ]; then fail "the kernel's log has complaints"; tail -10 /tmp/log; else ok "no complaint in the kernel's log"; fi
  exit $((bad > 0))
}
allowed='^nothing is allowed$'
