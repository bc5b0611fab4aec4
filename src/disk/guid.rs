//! Globally unique identifiers as Microsoft stores them: the first three
//! fields little-endian, the other eight bytes in order.

use std::fmt;

/// A GUID in its stored form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// From the five numbers of its usual text form.
    pub const fn of(a: u32, b: u16, c: u16, d: u16, e: u64) -> Self {
        let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        let (d, e) = (d.to_be_bytes(), e.to_be_bytes());
        Self([
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], e[2], e[3], e[4], e[5],
            e[6], e[7],
        ])
    }

    /// From its usual text form.
    pub fn parse(text: &str) -> Option<Self> {
        let lens = [8, 4, 4, 4, 12];
        let parts: Vec<&str> = text.split('-').collect();
        if parts.len() != 5 || parts.iter().zip(lens).any(|(p, l)| p.len() != l) {
            return None;
        }
        let part = |i: usize| match parts[i].bytes().all(|b| b.is_ascii_hexdigit()) {
            true => u64::from_str_radix(parts[i], 16).ok(),
            false => None,
        };
        // Their lengths bound them.
        let (a, b, c) = (part(0)? as u32, part(1)? as u16, part(2)? as u16);
        Some(Self::of(a, b, c, part(3)? as u16, part(4)?))
    }

    /// True when all bytes are zero: an unused entry.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = &self.0;
        write!(
            f,
            "{:08X}-{:04X}-{:04X}-{:02X}{:02X}-",
            u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            u16::from_le_bytes([b[4], b[5]]),
            u16::from_le_bytes([b[6], b[7]]),
            b[8],
            b[9]
        )?;
        b[10..].iter().try_for_each(|x| write!(f, "{x:02X}"))
    }
}

impl serde::Serialize for Guid {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Basic data of Windows: NTFS, FAT, exFAT.
pub(super) const BASIC_DATA: Guid = Guid::of(0xEBD0_A0A2, 0xB9E5, 0x4433, 0x87C0, 0x68B6_B726_99C7);

/// The EFI system partition.
pub(super) const EFI_SYSTEM: Guid = Guid::of(0xC12A_7328, 0xF81F, 0x11D2, 0xBA4B, 0x00A0_C93E_C93B);
/// Recovery tools of Windows.
pub(super) const RECOVERY: Guid = Guid::of(0xDE94_BBA4, 0x06D1, 0x4D40, 0xA16A, 0xBFD5_0179_D6AC);
/// Boot loader of GRUB on a BIOS.
pub(super) const BIOS_BOOT: Guid = Guid::of(0x2168_6148, 0x6449, 0x6E6F, 0x744E, 0x6565_6445_4649);
/// Linux file systems.
pub(super) const LINUX_DATA: Guid = Guid::of(0x0FC6_3DAF, 0x8483, 0x4772, 0x8E79, 0x3D69_D847_7DE4);
/// Linux swap.
pub(super) const LINUX_SWAP: Guid = Guid::of(0x0657_FD6D, 0xA4AB, 0x43C4, 0x84E5, 0x0933_C84B_4F4F);
/// Linux LVM.
pub(super) const LINUX_LVM: Guid = Guid::of(0xE6D6_D379, 0xF507, 0x44C2, 0xA23C, 0x238F_2A3D_F928);
/// Linux RAID.
pub(super) const LINUX_RAID: Guid = Guid::of(0xA19D_880F, 0x05FC, 0x4D3B, 0xA006, 0x743F_0F84_911E);
/// Linux LUKS.
pub(super) const LINUX_LUKS: Guid = Guid::of(0xCA7D_7CCB, 0x63ED, 0x4C53, 0x861C, 0x1742_5360_59CC);
/// Apple HFS+.
pub(super) const APPLE_HFS: Guid = Guid::of(0x4846_5300, 0x0000, 0x11AA, 0xAA11, 0x0030_6543_ECAC);
/// Apple APFS.
pub(super) const APPLE_APFS: Guid = Guid::of(0x7C34_57EF, 0x0000, 0x11AA, 0xAA11, 0x0030_6543_ECAC);

const TYPES: [(Guid, &str); 17] = [
    (BASIC_DATA, "Windows basic data"),
    (EFI_SYSTEM, "EFI system"),
    (
        Guid::of(0xE3C9_E316, 0x0B5C, 0x4DB8, 0x817D, 0xF92D_F002_15AE),
        "Microsoft reserved",
    ),
    (RECOVERY, "Windows recovery"),
    (
        Guid::of(0x5808_C8AA, 0x7E8F, 0x42E0, 0x85D2, 0xE1E9_0434_CFB3),
        "Windows dynamic disk metadata",
    ),
    (
        Guid::of(0xAF9B_60A0, 0x1431, 0x4F62, 0xBC68, 0x3311_714A_69AD),
        "Windows dynamic disk data",
    ),
    (
        Guid::of(0xE75C_AF8F, 0xF680, 0x4CEE, 0xAFA3, 0xB001_E56E_FC2D),
        "Windows storage spaces",
    ),
    (
        Guid::of(0x558D_43C5, 0xA1AC, 0x43C0, 0xAAC8, 0xD147_2B29_23D1),
        "Windows storage replica",
    ),
    (BIOS_BOOT, "BIOS boot"),
    (LINUX_DATA, "Linux data"),
    (
        Guid::of(0x4F68_BCE3, 0xE8CD, 0x4DB1, 0x96E7, 0xFBCA_F984_B709),
        "Linux root",
    ),
    (LINUX_SWAP, "Linux swap"),
    (LINUX_LVM, "Linux LVM"),
    (LINUX_RAID, "Linux RAID"),
    (LINUX_LUKS, "Linux LUKS"),
    (APPLE_HFS, "Apple HFS+"),
    (APPLE_APFS, "Apple APFS"),
];

/// What a partition type is called, if it is a known one.
pub(super) fn type_name(guid: Guid) -> Option<&'static str> {
    TYPES.iter().find(|(g, _)| *g == guid).map(|(_, n)| *n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_and_written_form() {
        assert_eq!(
            BASIC_DATA.to_string(),
            "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
        );
        assert_eq!(BASIC_DATA.0[..4], [0xa2, 0xa0, 0xd0, 0xeb]);
        assert_eq!(type_name(BASIC_DATA), Some("Windows basic data"));
        assert_eq!(Guid::parse(&BASIC_DATA.to_string()), Some(BASIC_DATA));
        for wrong in [
            "",
            "EBD0A0A2",
            "EBD0A0A2-B9E5-4433-87C0-68B6B72699C",
            "+BD0A0A2-B9E5-4433-87C0-68B6B72699C7",
        ] {
            assert_eq!(Guid::parse(wrong), None);
        }
        assert!(Guid::default().is_zero() && type_name(Guid::default()).is_none());
    }
}
