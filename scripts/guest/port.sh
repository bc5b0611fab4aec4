# ntbak by SG_IO and a copy manager that takes E0h descriptors only, so that a unit is named
# by its port and the number it has here: port.sh ADDRESS:PORT IQN DISK-LUN TAPE-LUN
. ./common.sh
login "$1" "$2" || exit 1
within 10 node "$4" scsi_tape || { fail "no tape unit"; exit 1; }
within 10 node "$3" block
a=$(node "$3" block) tape=$(node "$4" scsi_tape)
ga=$(node "$3" scsi_generic) gt=$(node "$4" scsi_generic)
within 10 test -c "$tape"
ntbak=$shared/ntbak
export XDG_STATE_HOME=/tmp/state
try mkntfs -- mkntfs -Q -F "$a"
try probe -- "$ntbak" probe "$ga" "$gt"
sed 's/^/          /' /tmp/said
same both units are reached -- 2 "$(grep -c 'Reaches .*: yes' /tmp/said)"
same unit types -- E0 "$(sed -n 's/^ *Unit types *//p' /tmp/said)"
try probe of one block to tape -- "$ntbak" probe --write-test --yes "$ga" "$gt"
try label -- "$ntbak" tape label "$tape" --name PORT1 --force
try image by the copy manager -- "$ntbak" image "$ga" "$gt" --mover copy-manager --progress never
sed 's/^/          /' /tmp/said | grep -E 'moves|Copied|Through'
try verify the tape against the disk -- "$ntbak" verify "$gt" --against "$a" --progress never
try scan the tape -- "$ntbak" tape scan "$tape"
finish
