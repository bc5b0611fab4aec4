//! `$LogFile`: only its two restart pages, which say whether the last user took
//! leave properly. The log itself is never replayed.
//!
//! | restart page | field |
//! |---|---|
//! | 0x00 | `RSTR`, or `CHKD` when chkdsk wrote it |
//! | 0x04 | place and length of the update sequence array |
//! | 0x10 | bytes of a restart page |
//! | 0x18 | place of the restart area |
//!
//! | restart area | field |
//! |---|---|
//! | 0x00 | current log sequence number |
//! | 0x0c | first client in use; 0xffff: none |
//! | 0x0e | flags; 2: the volume was left clean |
//!
//! (Linux-NTFS documentation, "$LogFile".)

use super::attr::{DATA, u16_at, u32_at, u64_at};
use super::file::FileStream;
use super::open::Volume;
use super::record::apply_fixups;
use crate::error::{Error, Result};
use crate::units::RecordNo;
use serde::{Deserialize, Serialize};

const RECORD: RecordNo = RecordNo(2);
/// Where the second restart page lies when the first cannot tell.
const PAGE: usize = 4096;
const MAX_PAGE: usize = 64 << 10;
const NO_CLIENT: u16 = 0xffff;
const CLEAN: u16 = 2;

/// What the restart pages of `$LogFile` say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum LogState {
    /// Left clean: nothing to replay.
    Clean,
    /// Not left clean: Windows will replay the log when it mounts the volume.
    NotClean,
    /// Filled with 0xff: reset by a driver that does not keep a log.
    Reset,
    /// Cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

impl LogState {
    /// Reads the restart pages. Never fails.
    pub fn read(volume: &Volume) -> Self {
        match Self::from_pages(|at| page(volume, at)) {
            Ok(state) => state,
            Err(e) => Self::Unknown { why: e.to_string() },
        }
    }

    /// `page` gives the page that lies at an offset, cut off at the end of the file.
    fn from_pages(page: impl Fn(usize) -> Result<Vec<u8>>) -> Result<Self> {
        let bytes = page(0)?;
        if !bytes.is_empty() && bytes[..bytes.len().min(PAGE)].iter().all(|&b| b == 0xff) {
            return Ok(Self::Reset);
        }
        let first = restart(&bytes);
        let second = restart(&page(first.map_or(PAGE, |p| p.page_size))?);
        let newest = first.into_iter().chain(second).max_by_key(|p| p.lsn);
        Ok(match newest {
            Some(p) if p.clean => Self::Clean,
            Some(_) => Self::NotClean,
            None => Self::Unknown {
                why: "Found no sound restart page in $LogFile".to_owned(),
            },
        })
    }
}

/// A page of the log: of the size that it states, where it states one.
fn page(volume: &Volume, at: usize) -> Result<Vec<u8>> {
    let file = volume.file(RECORD)?;
    let Some(FileStream::NonResident(joined)) = file.stream(DATA, &[]) else {
        let e = Error::damaged("Found no non-resident $DATA in file record 2, $LogFile");
        return Err(e.at(file.base().offset()));
    };
    let there = joined.header().size.saturating_sub(at as u64);
    let read = |len: usize| {
        let mut bytes = vec![0; there.min(len as u64) as usize];
        volume.read_extents(&joined.map, at as u64, &mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(PAGE)?;
    match stated_size(&bytes) {
        Some(size) if size > PAGE => read(size),
        _ => Ok(bytes),
    }
}

/// The page size of what begins like a restart page.
fn stated_size(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<0x20>()?;
    let size = u32_at(head, 0x10) as usize;
    let sound = matches!(&head[..4], b"RSTR" | b"CHKD")
        && size.is_power_of_two()
        && (512..=MAX_PAGE).contains(&size);
    sound.then_some(size)
}

#[derive(Clone, Copy)]
struct Restart {
    page_size: usize,
    lsn: u64,
    clean: bool,
}

fn restart(bytes: &[u8]) -> Option<Restart> {
    let page_size = stated_size(bytes)?;
    let mut page = bytes.get(..page_size)?.to_vec();
    apply_fixups(&mut page).ok()?;
    let area = page.get(usize::from(u16_at(&page, 0x18))..)?;
    let area = area.first_chunk::<0x10>()?;
    Some(Restart {
        page_size,
        lsn: u64_at(area, 0),
        clean: u16_at(area, 0x0c) == NO_CLIENT || u16_at(area, 0x0e) & CLEAN != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> LogState {
        LogState::from_pages(|at| Ok(bytes.get(at..).unwrap_or_default().to_vec())).unwrap()
    }

    fn page(lsn: u8, client: u16, flags: u16) -> Vec<u8> {
        let mut p = vec![0; PAGE];
        p[..8].copy_from_slice(b"RSTR\x1e\0\x09\0");
        p[0x11] = 0x10;
        p[0x18] = 0x30;
        p[0x30] = lsn;
        p[0x3c..0x3e].copy_from_slice(&client.to_le_bytes());
        p[0x3e..0x40].copy_from_slice(&flags.to_le_bytes());
        p
    }

    #[test]
    fn the_newer_page_counts() {
        let of = |a: Vec<u8>, b: Vec<u8>| read(&[a, b].concat());
        let (clean, in_use) = (page(1, NO_CLIENT, 0), page(2, 0, 0));
        assert_eq!(of(clean.clone(), in_use.clone()), LogState::NotClean);
        assert_eq!(of(in_use, page(3, 0, CLEAN)), LogState::Clean);
        assert_eq!(of(vec![0; PAGE], clean), LogState::Clean);
        assert_eq!(read(&[0xff; 9000]), LogState::Reset);
        assert!(matches!(read(&[]), LogState::Unknown { .. }));
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(
            mut p in prop::collection::vec(any::<u8>(), 0..2000), len in 0u16..3000) {
            if p.len() > 0x20 {
                p[..4].copy_from_slice(b"RSTR");
                p[0x10..0x14].copy_from_slice(&[0, 2, 0, 0]);
                p[0x18..0x1a].copy_from_slice(&len.to_le_bytes());
            }
            let _ = read(&p);
        }
    }
}
