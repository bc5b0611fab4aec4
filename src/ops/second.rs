//! A second opinion: the `ntfs` crate looks at the same volume, and what the two
//! readers see differently is reported. It never decides anything: that crate
//! does not follow an attribute list of `$MFT`, nor the first extents of a file
//! that has an attribute list.

use crate::device::SharedSource;
use crate::error::Result;
use crate::observe::Observer;
use crate::units::RecordNo;
use crate::volume::attr::DATA;
use crate::volume::{FileStream, Volume};
use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Differences that are listed; the count goes on.
const LISTED: usize = 100;

/// What the other reader said.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct SecondOpinion {
    /// Name and version line of the other reader.
    pub reader: String,
    /// File records both looked at.
    pub records: u64,
    /// Records on which both agree.
    pub agreed: u64,
    /// Records on which they do not.
    pub differed: u64,
    /// Records the other one could not read.
    pub not_read: u64,
    /// The first differences, in words.
    pub differences: Vec<String>,
}

/// A source as the other crate wants it: a cursor over one aligned buffer.
struct Cursor {
    source: SharedSource,
    at: u64,
    buffer: Vec<u8>,
    start: u64,
}

const BUFFER: u64 = 64 << 10;

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.source.len();
        if self.at >= len || out.is_empty() {
            return Ok(0);
        }
        let inside = self
            .at
            .checked_sub(self.start)
            .filter(|&o| o < self.buffer.len() as u64);
        let from = match inside {
            Some(o) => o as usize,
            None => {
                self.start = self.at / BUFFER * BUFFER;
                self.buffer.resize(BUFFER.min(len - self.start) as usize, 0);
                if let Err(e) = self.source.read_at(self.start, &mut self.buffer) {
                    self.buffer.clear();
                    return Err(io::Error::other(e));
                }
                (self.at - self.start) as usize
            }
        };
        let n = out.len().min(self.buffer.len() - from);
        out[..n].copy_from_slice(&self.buffer[from..from + n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(d) => self.source.len().checked_add_signed(d),
            SeekFrom::Current(d) => self.at.checked_add_signed(d),
        };
        self.at = place.ok_or_else(|| io::Error::other("seek before the start"))?;
        Ok(self.at)
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// While it lives, panics of this thread say nothing: they are caught and counted.
struct Quiet;

impl Quiet {
    fn begin() -> Self {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if !QUIET.get() {
                    before(info);
                }
            }));
        });
        QUIET.set(true);
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.set(false);
    }
}

/// Compares geometry, and for every file record in use its flags, sequence
/// number and the size of its unnamed stream.
pub fn second_opinion(volume: &Volume, observer: &dyn Observer) -> Result<SecondOpinion> {
    let mut out = SecondOpinion {
        reader: "crate ntfs 0.4".into(),
        ..SecondOpinion::default()
    };
    let mut cursor = Cursor {
        source: volume.source().clone(),
        at: 0,
        buffer: Vec::new(),
        start: u64::MAX,
    };
    let say = |differences: &mut Vec<String>, text: String| {
        if differences.len() < LISTED {
            differences.push(text);
        }
    };
    // Mutated volumes make the other crate panic now and then; that is an answer too.
    let _quiet = Quiet::begin();
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut n = ntfs::Ntfs::new(&mut cursor)?;
        // Looking up streams panics without it.
        n.read_upcase_table(&mut cursor)?;
        Ok::<_, ntfs::NtfsError>(n)
    }));
    let other = match opened {
        Ok(Ok(n)) => n,
        Ok(Err(e)) => {
            say(
                &mut out.differences,
                format!("It does not open the volume: {e}"),
            );
            return Ok(out);
        }
        Err(_) => {
            say(
                &mut out.differences,
                "It panicked when opening the volume".into(),
            );
            return Ok(out);
        }
    };
    let g = volume.geometry();
    let facts = [
        (
            "cluster size",
            u64::from(other.cluster_size()),
            u64::from(g.cluster_size),
        ),
        (
            "sector size",
            u64::from(other.sector_size()),
            u64::from(g.sector_size),
        ),
        (
            "file record size",
            u64::from(other.file_record_size()),
            u64::from(g.record_size),
        ),
        ("serial number", other.serial_number(), g.serial),
    ];
    for (what, its, ours) in facts {
        if its != ours {
            say(
                &mut out.differences,
                format!("{what}: it says {its}, ntbak {ours}"),
            );
        }
    }
    let count = volume.mft().record_count;
    observer.begin("second opinion", Some(count));
    for n in 0..count {
        if observer.cancelled() {
            return Err(crate::error::Error::interrupted());
        }
        observer.advance(1);
        let Ok(file) = volume.file(RecordNo(n)) else {
            continue;
        };
        let view = file.base().view();
        if !view.in_use() || view.base().is_some() {
            continue;
        }
        out.records += 1;
        let its = catch_unwind(AssertUnwindSafe(
            || -> ntfs::Result<(u16, bool, Option<u64>)> {
                let f = other.file(&mut cursor, n)?;
                let size = match f.data(&mut cursor, "") {
                    None => None,
                    Some(item) => Some(item?.to_attribute()?.value_length()),
                };
                Ok((f.sequence_number(), f.is_directory(), size))
            },
        ));
        let (sequence, directory, size) = match its {
            Ok(Ok(v)) => v,
            Ok(Err(e)) => {
                out.not_read += 1;
                say(
                    &mut out.differences,
                    format!("file record {n}: it does not read it: {e}"),
                );
                continue;
            }
            Err(_) => {
                out.not_read += 1;
                say(
                    &mut out.differences,
                    format!("file record {n}: it panicked"),
                );
                continue;
            }
        };
        let ours = match file.stream(DATA, &[]) {
            None => None,
            Some(FileStream::Resident(_, value)) => Some(value.len() as u64),
            Some(FileStream::NonResident(joined)) => Some(joined.header().size),
        };
        let mut words = Vec::new();
        if sequence != view.sequence() {
            words.push(format!(
                "sequence number {sequence}, ntbak {}",
                view.sequence()
            ));
        }
        if directory != view.is_directory() {
            words.push(format!(
                "directory {directory}, ntbak {}",
                view.is_directory()
            ));
        }
        if size != ours {
            let text = |s: Option<u64>| s.map_or("no data".into(), |n| format!("{n} bytes"));
            words.push(format!("{}, ntbak {}", text(size), text(ours)));
        }
        if words.is_empty() {
            out.agreed += 1;
        } else {
            out.differed += 1;
            say(
                &mut out.differences,
                format!("file record {n}: it says {}", words.join("; ")),
            );
        }
    }
    observer.end();
    Ok(out)
}
