//! What must hold for any plan of any volume, however damaged: the two directions
//! agree, the patches agree with each other, the new volume opens, and no file that
//! could be read before reads differently.

use crate::compare::SYSTEM;
use ntbak::device::{Rearranged, Rearrangement, SharedSource};
use ntbak::error::{Error, ErrorKind};
use ntbak::observe::Silent;
use ntbak::units::{Place, RecordNo};
use ntbak::volume::rework::{Survey, Wish, plan, survey};
use ntbak::volume::{FileRecords, Piece, Stream, Volume, attr};
use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Bytes of a stream that are compared: sizes of damaged records may say anything.
const MOST: u64 = 16 << 20;

/// What became of a volume.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Plans that hold.
    pub planned: u64,
    /// Streams that read the same from the new volume.
    pub streams: u64,
    /// What the reports of all plans say of changes.
    pub codes: BTreeSet<String>,
    /// Why there was no volume, survey or plan.
    pub refused: Vec<String>,
}

/// Runs it on a thread of its own; what does not end fails after minutes.
pub fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(done.send(work())));
    match wait.recv_timeout(Duration::from_secs(300)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: it does not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("{what}: ended without a result"),
        },
    }
}

/// A refusal is a sentence, and of a kind that a damaged volume may have.
fn clear(what: &str, e: &Error) -> String {
    let kind = matches!(
        e.kind(),
        ErrorKind::Refused | ErrorKind::Unsupported | ErrorKind::Damaged
    );
    assert!(kind, "{what}: {e:?}");
    let said = e.message();
    assert!(
        said.starts_with(|c: char| c.is_uppercase() || c == '$') && said.len() > 20,
        "{what}: {said}"
    );
    assert!(!said.contains("is not sound"), "{what}: {said}");
    format!("{:?}: {said}", e.kind())
}

/// The wishes; sizes that depend on the smallest one only where there is one.
fn wishes(len: u64, s: &Survey) -> Vec<(&'static str, Wish)> {
    let at = |bytes: u64, defragment: bool| Wish {
        new_bytes: Some(bytes),
        defragment,
        grow_file_system: true,
        ..Wish::default()
    };
    let mut all = vec![
        ("as it is", Wish::default()),
        (
            "defragmented",
            Wish {
                defragment: true,
                ..Wish::default()
            },
        ),
        (
            "other numbers",
            Wish {
                hidden_sectors: Some(4096),
                new_serial: Some(0x0123_4567_89ab_cdef),
                ..Wish::default()
            },
        ),
        ("larger", at(len + len / 2, false)),
        ("larger, defragmented", at(len + len / 2, true)),
        ("nothing", at(0, false)),
    ];
    if let Ok(smallest) = s.smallest() {
        all.push(("smallest", at(smallest, false)));
        all.push(("half way", at(smallest.midpoint(len), false)));
        all.push(("smallest, defragmented", at(smallest, true)));
    }
    all
}

/// Everything that must hold for this volume.
pub fn hold(what: &str, source: &SharedSource) -> Outcome {
    let mut outcome = Outcome::default();
    let old = match Volume::open(source.clone()) {
        Ok(old) => old,
        Err(e) => {
            outcome.refused.push(format!("not opened: {}", e.message()));
            return outcome;
        }
    };
    let s = match survey(&old, &Silent) {
        Ok(s) => s,
        Err(e) => {
            outcome.refused.push(clear(what, &e));
            return outcome;
        }
    };
    if let Err(e) = s.smallest() {
        outcome.refused.push(clear(what, &e));
    }
    let before = Files::read(&old);
    for (kind, wish) in wishes(source.len(), &s) {
        let what = format!("{what}, {kind}");
        let r = match plan(&s, &wish, &Silent) {
            Ok(r) => Arc::new(r),
            Err(e) => {
                outcome
                    .refused
                    .push(format!("{kind}: {}", clear(&what, &e)));
                continue;
            }
        };
        assert!(wish.new_bytes != Some(0), "{what}: a volume of no bytes");
        if let Some(bytes) = wish.new_bytes {
            let sector = u64::from(old.geometry().sector_size);
            assert_eq!(r.new_len(), bytes - bytes % sector, "{what}");
        }
        if r.new_len() < 1 << 26 && source.len() < 1 << 26 {
            crate::inverse(&what, &*r, source.len());
            laid_over(&what, &*r);
        }
        let dropped = r
            .report()
            .changes
            .iter()
            .any(|c| c.code == "shadow-storage-dropped");
        outcome
            .codes
            .extend(r.report().changes.iter().map(|c| c.code.to_string()));
        let new: SharedSource = Arc::new(Rearranged::new(source.clone(), r));
        let new = Volume::open(new).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        if let Some(serial) = wish.new_serial {
            assert_eq!(new.geometry().serial, serial, "{what}");
        }
        let after = Files::read(&new);
        assert!(!dropped, "{what}: these volumes have no shadow copies");
        outcome.streams += before.same(&what, &after);
        outcome.planned += 1;
    }
    outcome
}

/// `patch_into` gives what `patches` tells, in ranges that begin and end anywhere.
fn laid_over(what: &str, r: &dyn Rearrangement) {
    let len = r.new_len() as usize;
    let mut want: Vec<u8> = (0..len).map(|i| (i * 7 + i / 253) as u8).collect();
    let mut have = want.clone();
    let mut end = 0;
    r.patches(&mut |at, bytes| {
        assert!(
            at as usize >= end,
            "{what}: a patch at {at}, one before ends at {end}"
        );
        end = at as usize + bytes.len();
        want[at as usize..end].copy_from_slice(bytes);
        Ok(())
    })
    .unwrap();
    let (mut at, mut step) = (0, 1);
    while at < len {
        let now = step.min(len - at);
        r.patch_into(at as u64, &mut have[at..at + now]).unwrap();
        at += now;
        step = step * 5 % 400_009;
    }
    if let Some(at) = (0..len).find(|&i| want[i] != have[i]) {
        panic!(
            "{what}: byte {at} is {:#x} in patches, else {:#x}",
            want[at], have[at]
        );
    }
}

/// A stream by record, type and name, and what it reads as.
type Read = ((u64, u32, Vec<u8>), (u64, [u8; 32]));

/// Streams that can be read completely.
struct Files(Vec<Read>);

impl Files {
    fn read(volume: &Volume) -> Self {
        let theirs = rewritten(volume);
        let mut all = Vec::new();
        for n in 0..volume.mft().record_count {
            let Ok(file) = volume.file(RecordNo(n)) else {
                continue;
            };
            let view = file.base().view();
            if !view.in_use() || view.base().is_some() || SYSTEM.contains(&n) {
                continue;
            }
            let streams: BTreeSet<(u32, Vec<u8>)> = file
                .attributes()
                .map(|(_, a)| (a.type_code, a.name.to_vec()))
                .collect();
            for (code, name) in streams {
                if let Some(is) = content(volume, &file, code, &name, &theirs) {
                    all.push(((n, code, name), is));
                }
            }
        }
        Self(all)
    }

    fn same(&self, what: &str, new: &Self) -> u64 {
        let there: std::collections::BTreeMap<_, _> = new.0.iter().map(|(k, v)| (k, v)).collect();
        for (key, is) in &self.0 {
            let found = there.get(key);
            assert!(
                found == Some(&is),
                "{what}: {key:?} was {is:?}, is now {found:?}"
            );
        }
        self.0.len() as u64
    }
}

/// Clusters that a plan may write: the boot area, and those of NTFS' own files.
/// A damaged record may call them its own as well.
fn rewritten(volume: &Volume) -> BTreeSet<u64> {
    let g = volume.geometry();
    let mut all: BTreeSet<u64> = (0..8192u64.div_ceil(u64::from(g.cluster_size))).collect();
    let mut add = |records: &[RecordNo]| {
        for &n in records {
            let Ok(record) = volume.record(n) else {
                continue;
            };
            for a in record.view().attributes().flatten() {
                let Some(runs) = a.non_resident() else {
                    continue;
                };
                for e in runs.runs().map_while(Result::ok) {
                    if let Place::At(lcn) = e.place
                        && lcn.0 < g.total_clusters
                    {
                        all.extend(lcn.0..(lcn.0 + e.len.0).min(g.total_clusters));
                    }
                }
            }
        }
    };
    let all_records = (0..volume.mft().record_count).map(RecordNo);
    let theirs: Vec<RecordNo> = all_records
        .filter(|&n| {
            let Ok(record) = volume.record(n) else {
                return false;
            };
            let base = record.view().base().map_or(n.0, |b| b.record.0);
            // The list of bad clusters covers the volume.
            base != 8 && SYSTEM.contains(&base)
        })
        .collect();
    add(&theirs);
    let at = |lcn: u64, bytes: u64| lcn..lcn + bytes.div_ceil(u64::from(g.cluster_size));
    all.extend(at(g.mftmirr_lcn.0, 4 * u64::from(g.record_size)));
    for e in volume.mft().extents.as_slice() {
        if let Place::At(lcn) = e.place {
            all.extend(lcn.0..(lcn.0 + e.len.0).min(g.total_clusters));
        }
    }
    all
}

/// Length and digest; `None` for what cannot be read to its end.
fn content(
    volume: &Volume,
    file: &FileRecords,
    code: u32,
    name: &[u8],
    theirs: &BTreeSet<u64>,
) -> Option<(u64, [u8; 32])> {
    let stream = Stream::open(volume, file, code, name).ok()??;
    let total = volume.geometry().total_clusters;
    for e in stream.extents() {
        if let Place::At(lcn) = e.place {
            let end = lcn.0.checked_add(e.len.0)?;
            if end > total || theirs.range(lcn.0..end).next().is_some() {
                return None;
            }
        }
    }
    if code == attr::ATTRIBUTE_LIST {
        return None;
    }
    let mut hash = blake3::Hasher::new();
    let (zeros, mut read) = ([0; 4096], 0);
    let done = stream.copy(|piece| {
        match piece {
            Piece::Data(b) => {
                hash.update(b);
                read += b.len() as u64;
            }
            Piece::Zero(n) => {
                let mut left = n.min(MOST);
                read += n;
                while left > 0 {
                    let now = left.min(4096);
                    hash.update(&zeros[..now as usize]);
                    left -= now;
                }
            }
            Piece::Unreadable(_, e) => return Err(e),
        }
        match read < MOST {
            true => Ok(()),
            false => Err(Error::interrupted()),
        }
    });
    match done {
        Err(e) if e.kind() != ErrorKind::Interrupted => None,
        _ => Some((stream.len(), *hash.finalize().as_bytes())),
    }
}
