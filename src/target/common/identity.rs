//! Who a unit is: the names by which initiators and copy managers know it
//! again, whatever path they come by.

use super::cdb::text;
use crate::target::copy::port_name;

/// Vendor identification of every unit.
pub const VENDOR: &str = "NTBAK";

/// Company id inside our NAA designators. The bit that marks it as locally
/// administered is set, since no registered one is used.
const COMPANY: u64 = 0x02_4e_54;

/// The identity of a unit, derived from the names of target and unit only, so
/// that it is the same after every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    target: String,
    name: String,
    naa: [u8; 16],
    serial: String,
}

impl Identity {
    /// Of a unit with a name, in a target with an iSCSI name.
    pub fn new(target: &str, name: &str) -> Self {
        let mut h = blake3::Hasher::new();
        h.update(target.as_bytes());
        h.update(&[0]);
        h.update(name.as_bytes());
        let digest = h.finalize();
        // NAA 6h, company id, 36 + 64 bits of the digest.
        let mut naa = [0; 16];
        naa.copy_from_slice(&digest.as_bytes()[..16]);
        let head = 0x6 << 28 | (COMPANY << 4) as u32 | u32::from(naa[3] & 0xf);
        naa[..4].copy_from_slice(&head.to_be_bytes());
        let serial = digest.to_hex()[32..48].to_ascii_uppercase();
        Self {
            target: target.into(),
            name: name.into(),
            naa,
            serial,
        }
    }

    /// iSCSI name of the target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Name of the unit.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// NAA designator.
    pub fn naa(&self) -> &[u8; 16] {
        &self.naa
    }

    /// Unit serial number.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Content of VPD page 83h.
    pub fn designators(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Binary NAA of the unit.
        designator(&mut out, 0x01, 0x03, &self.naa);
        // ASCII T10 vendor id of the unit.
        let mut t10 = text(VENDOR, 8);
        t10.extend_from_slice(self.serial.as_bytes());
        designator(&mut out, 0x02, 0x01, &t10);
        // Relative target port 1 (binary), and the names of port and target
        // (SCSI name strings), all for iSCSI.
        designator(&mut out, 0x51, 0x94, &[0, 0, 0, 1]);
        // Name of the port, for CSCD descriptors of type E0h.
        designator(&mut out, 0x51, 0x93, &port_name(&self.target).to_be_bytes());
        designator(
            &mut out,
            0x53,
            0x98,
            &name_string(&format!("{},t,0x0001", self.target)),
        );
        designator(&mut out, 0x53, 0xa8, &name_string(&self.target));
        out
    }
}

fn designator(out: &mut Vec<u8>, code_set: u8, kind: u8, value: &[u8]) {
    let value = value.get(..255).unwrap_or(value);
    out.extend_from_slice(&[code_set, kind, 0, value.len() as u8]);
    out.extend_from_slice(value);
}

/// A name with a zero behind it, in whole groups of four.
pub fn name_string(name: &str) -> Vec<u8> {
    let mut v = name.as_bytes().to_vec();
    v.resize((v.len() / 4 + 1) * 4, 0);
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_stable_and_apart() {
        let a = Identity::new("iqn.2026-11.org.ntbak:target", "disk");
        assert_eq!(a, Identity::new("iqn.2026-11.org.ntbak:target", "disk"));
        let b = Identity::new("iqn.2026-11.org.ntbak:target", "disk2");
        assert_ne!(a.naa, b.naa);
        assert_ne!(a.serial, b.serial);
        assert_eq!(a.naa[..3], [0x60, 0x24, 0xe5]);
        assert_eq!(a.naa[3] >> 4, 4);
        assert_eq!(a.serial.len(), 16);
        // Walk what page 83h says.
        let d = a.designators();
        let mut at = 0;
        let mut kinds = Vec::new();
        while at < d.len() {
            kinds.push(d[at + 1] & 0x3f);
            at += 4 + usize::from(d[at + 3]);
        }
        assert_eq!(at, d.len());
        assert_eq!(kinds, [0x03, 0x01, 0x14, 0x13, 0x18, 0x28]);
        assert_eq!(name_string("abc"), b"abc\0");
        assert_eq!(name_string("abcd"), b"abcd\0\0\0\0");
    }
}
