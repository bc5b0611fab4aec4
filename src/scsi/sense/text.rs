//! Sense data in words.

use super::{FieldPlace, Forwarded, Sense, SenseKey};
use crate::scsi::Status;
use std::fmt;

impl SenseKey {
    /// Its name as the standard writes it.
    pub fn name(self) -> &'static str {
        match self {
            SenseKey::NoSense => "NO SENSE",
            SenseKey::RecoveredError => "RECOVERED ERROR",
            SenseKey::NotReady => "NOT READY",
            SenseKey::MediumError => "MEDIUM ERROR",
            SenseKey::HardwareError => "HARDWARE ERROR",
            SenseKey::IllegalRequest => "ILLEGAL REQUEST",
            SenseKey::UnitAttention => "UNIT ATTENTION",
            SenseKey::DataProtect => "DATA PROTECT",
            SenseKey::BlankCheck => "BLANK CHECK",
            SenseKey::VendorSpecific => "VENDOR SPECIFIC",
            SenseKey::CopyAborted => "COPY ABORTED",
            SenseKey::AbortedCommand => "ABORTED COMMAND",
            SenseKey::Reserved => "RESERVED",
            SenseKey::VolumeOverflow => "VOLUME OVERFLOW",
            SenseKey::Miscompare => "MISCOMPARE",
            SenseKey::Completed => "COMPLETED",
        }
    }
}

/// Codes that disks, tapes, changers and copy managers use, ascending.
const CODES: &[(u16, &str)] = &[
    (0x0001, "a filemark was met"),
    (0x0002, "the end of the medium is reached or near"),
    (0x0004, "the beginning of the medium was met"),
    (0x0005, "the end of the data was met"),
    (0x0006, "the command was ended before its time"),
    (0x0007, "the programmable early warning was met"),
    (0x0016, "the operation is still in progress"),
    (0x0017, "cleaning is requested"),
    (0x0020, "information about an extended copy"),
    (0x0300, "a fault while writing at the device"),
    (0x0302, "too much current to the write heads"),
    (0x0400, "not ready, no reason given"),
    (0x0401, "it is becoming ready"),
    (0x0402, "it waits for a start command"),
    (0x0403, "it needs somebody to attend to it"),
    (0x0404, "it is being formatted"),
    (0x0407, "an operation is in progress"),
    (0x040b, "this path is in standby"),
    (0x040c, "this path is unavailable"),
    (0x0412, "it is offline"),
    (0x0500, "the unit does not answer selection"),
    (0x0800, "communication with the unit failed"),
    (0x0801, "communication with the unit timed out"),
    (0x0804, "the unit named in the copy cannot be reached"),
    (0x0900, "track following failed"),
    (0x0a00, "an error log overflowed"),
    (0x0b01, "warning: too hot"),
    (0x0c00, "write error"),
    (0x0c02, "write error, reassigning failed"),
    (0x0c03, "write error, a reassignment is advised"),
    (0x0d00, "the copy manager's own command failed"),
    (0x0d01, "a unit that takes part in the copy failed"),
    (
        0x0d02,
        "a unit that takes part in the copy cannot be reached",
    ),
    (
        0x0d03,
        "a unit that takes part in the copy has another device type",
    ),
    (
        0x0d04,
        "a unit that takes part in the copy gave too little data",
    ),
    (
        0x0d05,
        "a unit that takes part in the copy gave too much data",
    ),
    (0x0e03, "the commands of the copy do not fit together"),
    (0x1000, "checksum error of a block"),
    (0x1100, "unrecovered read error"),
    (0x1101, "the retries to read are used up"),
    (0x1102, "the error is too long to be corrected"),
    (0x1104, "unrecovered read error, reassigning failed"),
    (0x1108, "a block was read incompletely"),
    (0x110b, "unrecovered read error, a reassignment is advised"),
    (0x1112, "the auxiliary memory cannot be read"),
    (0x1115, "unrecoverable, marked so by the host"),
    (0x1200, "no address mark for the block"),
    (0x1400, "the block or mark was not found"),
    (0x1401, "the record was not found"),
    (0x1402, "the filemark was not found"),
    (0x1403, "the end of the data was not found"),
    (0x1404, "the blocks are out of sequence"),
    (0x1500, "positioning failed"),
    (0x1501, "mechanical positioning failed"),
    (0x1700, "data recovered by retries"),
    (0x1800, "data recovered by error correction"),
    (0x1a00, "the parameter list has a wrong length"),
    (0x1b00, "a synchronous transfer failed"),
    (0x1d00, "the data compared is different"),
    (0x2000, "the command is unknown"),
    (0x2002, "access is denied, no rights"),
    (0x2100, "the block address is out of range"),
    (0x2101, "the element address is invalid"),
    (0x2102, "the address is invalid for writing"),
    (0x2400, "a field of the command block is invalid"),
    (0x2500, "there is no such logical unit"),
    (0x2600, "a field of the parameter list is invalid"),
    (0x2601, "a parameter is not supported"),
    (0x2602, "the value of a parameter is invalid"),
    (0x2604, "the persistent reservation cannot be released"),
    (0x2606, "there are too many CSCD descriptors"),
    (0x2607, "the type of a CSCD descriptor is not supported"),
    (0x2608, "there are too many segment descriptors"),
    (0x2609, "the type of a segment descriptor is not supported"),
    (0x260a, "a segment ended with data left over"),
    (0x260b, "there is more inline data than allowed"),
    (
        0x260c,
        "the operation does not fit the source or destination of the copy",
    ),
    (0x260d, "the length of a segment violates the granularity"),
    (0x260f, "the data changed during the copy"),
    (0x2615, "the source of the copy is not authorised"),
    (0x2616, "the destination of the copy is not authorised"),
    (0x2700, "it is write protected"),
    (0x2701, "the hardware is write protected"),
    (0x2702, "the unit is write protected by software"),
    (0x2707, "no room is left in the thin pool"),
    (0x2800, "the medium may have been changed"),
    (0x2801, "an element of the changer was accessed"),
    (0x2900, "switched on, or reset"),
    (0x2901, "switched on"),
    (0x2902, "the bus was reset"),
    (0x2903, "it was reset as a device"),
    (0x2904, "it was reset by itself"),
    (0x2907, "the connection was lost"),
    (0x2a00, "parameters were changed"),
    (0x2a01, "mode parameters were changed"),
    (0x2a02, "log parameters were changed"),
    (0x2a03, "a reservation was taken away"),
    (0x2a04, "reservations were released"),
    (0x2a05, "registrations were taken away"),
    (0x2a06, "the state of a path changed"),
    (0x2a09, "the capacity changed"),
    (0x2c00, "the commands are out of sequence"),
    (0x2f00, "commands were cleared by another initiator"),
    (0x2f01, "commands were cleared by a loss of power"),
    (0x2f02, "commands were cleared by the unit"),
    (0x3000, "the medium does not fit the device"),
    (0x3001, "the medium cannot be read: its format is unknown"),
    (
        0x3002,
        "the medium cannot be read: its format is not supported",
    ),
    (0x3003, "a cleaning cartridge is loaded"),
    (
        0x3005,
        "the medium cannot be written: its format is not supported",
    ),
    (0x300c, "the medium is write once and was written already"),
    (0x3100, "the format of the medium is damaged"),
    (0x3200, "no spare place for a bad block is left"),
    (0x3300, "the length of the tape is wrong"),
    (0x3700, "a parameter was rounded"),
    (0x3807, "the threshold of thin provisioning was met"),
    (0x3900, "saving parameters is not supported"),
    (0x3a00, "there is no medium"),
    (0x3a01, "there is no medium, the tray is closed"),
    (0x3a02, "there is no medium, the tray is open"),
    (0x3a04, "there is no medium, but its memory can be read"),
    (0x3b00, "the position of the tape is lost"),
    (
        0x3b01,
        "the position is lost at the beginning of the medium",
    ),
    (0x3b02, "the position is lost at the end of the medium"),
    (0x3b08, "repositioning failed"),
    (0x3b0d, "the destination element is full"),
    (0x3b0e, "the source element is empty"),
    (0x3b11, "the magazine is not accessible"),
    (0x3b12, "the magazine was removed"),
    (0x3d00, "reserved bits are set in the identify message"),
    (0x3e00, "the unit has not configured itself yet"),
    (0x3e01, "the unit has failed"),
    (0x3f00, "operating conditions changed"),
    (0x3f01, "its microcode was changed"),
    (0x3f03, "its inquiry data changed"),
    (0x3f0e, "the list of logical units changed"),
    (0x4400, "internal failure"),
    (0x4700, "parity error"),
    (0x4703, "checksum error of a transferred unit"),
    (0x4900, "invalid message"),
    (0x4b00, "an error in the data phase"),
    (0x4e00, "overlapped commands"),
    (0x5000, "appending failed"),
    (0x5001, "appending failed, the position is wrong"),
    (0x5100, "erasing failed"),
    (0x5200, "the cartridge is faulty"),
    (0x5300, "loading or ejecting failed"),
    (0x5302, "removal of the medium is prevented"),
    (0x5500, "a resource of the unit is exhausted"),
    (0x5501, "a buffer of the unit is full"),
    (0x5503, "resources are insufficient"),
    (0x550c, "memory for the parameters is insufficient"),
    (0x5a01, "somebody asked to remove the medium"),
    (0x5a02, "somebody set the write protection"),
    (0x5d00, "the drive expects to fail soon"),
    (0x6500, "the voltage is wrong"),
    (0x8200, "the tape was unloaded with an error"),
];

/// Words for codes whose qualifiers all mean the same to us.
fn family(asc: u8) -> Option<&'static str> {
    Some(match asc {
        0x04 => "not ready",
        0x08 => "communication with the unit failed",
        0x0b => "a warning",
        0x0c => "write error",
        0x0d => "the copy met an error at a third party",
        0x11 => "unrecovered read error",
        0x14 => "something recorded was not found",
        0x15 => "positioning failed",
        0x17 | 0x18 => "data recovered",
        0x20 => "access is denied",
        0x24 => "a field of the command block is invalid",
        0x26 => "a field of the parameter list is invalid",
        0x27 => "it is write protected",
        0x28 => "the medium may have been changed",
        0x29 => "switched on, or reset",
        0x2a => "parameters were changed",
        0x2f => "commands were cleared",
        0x30 => "the medium does not fit the device",
        0x3a => "there is no medium",
        0x3b => "the position is wrong",
        0x3f => "operating conditions changed",
        0x44 => "internal failure",
        0x53 => "loading or ejecting failed",
        0x55 => "a resource of the unit is exhausted",
        0x5d => "the drive expects to fail soon",
        _ => return None,
    })
}

/// What an additional sense code and its qualifier mean, if that is known.
pub fn code_text(asc: u8, ascq: u8) -> Option<&'static str> {
    let code = u16::from(asc) << 8 | u16::from(ascq);
    match CODES.binary_search_by_key(&code, |c| c.0) {
        Ok(i) => CODES.get(i).map(|c| c.1),
        Err(_) => family(asc),
    }
}

/// `MEDIUM ERROR, unrecovered read error (3/11/00)`, and what else is told.
impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.deferred {
            f.write_str("about an earlier command: ")?;
        }
        f.write_str(self.key.name())?;
        for (set, word) in [
            (self.filemark, "filemark"),
            (self.eom, "end of medium"),
            (self.ili, "wrong length"),
        ] {
            if set {
                write!(f, ", {word}")?;
            }
        }
        if let Some(text) = code_text(self.asc, self.ascq) {
            write!(f, ", {text}")?;
        }
        let key = self.key as u8;
        write!(f, " ({key:X}/{:02X}/{:02X})", self.asc, self.ascq)?;
        if let Some(n) = self.segment() {
            write!(f, " in segment {n}")?;
        }
        if let Some(field) = self.field() {
            let place = match field.place {
                FieldPlace::Cdb => "the command block",
                FieldPlace::Parameters => "the parameter list",
                FieldPlace::Segment => "the segment descriptor",
            };
            write!(f, ", byte {} of {place}", field.byte)?;
            if let Some(bit) = field.bit {
                write!(f, ", bit {bit}")?;
            }
        }
        for (who, area) in [("source", &self.source), ("destination", &self.destination)] {
            if let Some(area) = area {
                write!(f, "; the {who} said {area}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Another forwarding inside is not followed: one level is all there is.
        match Sense::decode(&self.sense) {
            Some(mut s) => {
                s.source = None;
                s.destination = None;
                write!(f, "{s}")
            }
            None => write!(f, "{}", Status::of(self.status)),
        }
    }
}

/// Bytes in hex, for whoever asked for more words.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(bytes.len() * 3);
    for (i, b) in bytes.iter().enumerate() {
        let _ = write!(out, "{}{b:02x}", if i == 0 { "" } else { " " });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ascends_so_that_it_can_be_searched() {
        assert!(CODES.windows(2).all(|w| w[0].0 < w[1].0));
        assert_eq!(
            code_text(0x26, 0x0a),
            Some("a segment ended with data left over")
        );
        assert_eq!(code_text(0x11, 0x77), Some("unrecovered read error"));
        assert_eq!(code_text(0x99, 0), None);
    }

    #[test]
    fn sense_reads_as_a_sentence() {
        let s = Sense::new(SenseKey::MediumError, 0x11, 0).with_information(7);
        assert_eq!(
            s.to_string(),
            "MEDIUM ERROR, unrecovered read error (3/11/00)"
        );
        let mut s = Sense::copy_aborted(0x0d, 0x01, 3);
        let mut tape = Sense::new(SenseKey::NoSense, 0, 2);
        tape.eom = true;
        s.destination = Some(Forwarded {
            status: 2,
            sense: tape.encode_fixed().into(),
        });
        assert_eq!(
            s.to_string(),
            "COPY ABORTED, a unit that takes part in the copy failed (A/0D/01) in segment 3; \
             the destination said NO SENSE, end of medium, \
             the end of the medium is reached or near (0/00/02)"
        );
        s.destination = Some(Forwarded {
            status: 0x18,
            sense: Box::default(),
        });
        assert!(s.to_string().ends_with("said RESERVATION CONFLICT"), "{s}");
        let s = Sense::invalid_field_in_cdb(1, Some(4));
        assert!(
            s.to_string()
                .ends_with("byte 1 of the command block, bit 4"),
            "{s}"
        );
    }
}
