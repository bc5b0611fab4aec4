# mtx with the medium changer: changer.sh ADDRESS:PORT IQN TAPE-LUN CHANGER-LUN
. ./common.sh
login "$1" "$2" || exit 1
within 10 node "$4" scsi_generic || { fail "no changer unit"; exit 1; }
within 10 node "$3" scsi_tape
c=$(node "$4" scsi_generic) tape=$(node "$3" scsi_tape)
status() { mtx -f "$c" status; }
try inquiry -- mtx -f "$c" inquiry
sed 's/^/          /' /tmp/said
try status -- mtx -f "$c" status
sed 's/^/          /' /tmp/said
full() { status | sed -n 's/^ *Storage Element \([0-9]*\)[^:]*:Full.*/\1/p'; }
first=$(full | sed -n 1p) second=$(full | sed -n 2p)
[ -n "$second" ] || { fail "two full slots are needed"; status; exit 1; }
for slot in $first $second; do
  try load slot "$slot" -- mtx -f "$c" load "$slot" 0
  try status says so -- sh -c "mtx -f $c status | grep -q 'Data Transfer Element 0:Full (Storage Element $slot Loaded)'"
  try mt finds a cartridge -- sh -c "mt -f $tape rewind; mt -f $tape status | grep -q ONLINE"
  try write on it -- sh -c "echo cartridge $slot | dd of=$tape bs=512 conv=sync status=none"
  mt -f "$tape" offline
  try unload to slot "$slot" -- mtx -f "$c" unload "$slot" 0
done
try load slot "$first" again -- mtx -f "$c" load "$first" 0
mt -f "$tape" rewind
same what is on it -- "cartridge $first" "$(dd if="$tape" bs=512 count=1 status=none | tr -d '\0')"
if mtx -f "$c" load "$second" 0 >/tmp/said 2>&1; then fail "a full drive was loaded"; else ok "a full drive is not loaded: $(head -1 /tmp/said)"; fi
try transfer slot "$second" to the empty slot "$first" -- mtx -f "$c" transfer "$second" "$first"
mt -f "$tape" offline
try unload to slot "$second" -- mtx -f "$c" unload "$second" 0
same cartridges afterwards -- "4 in slots" "$(full | wc -l) in slots"
finish
