//! What a volume holds and where, as far as changing its layout asks: one
//! parallel look at every record.

use super::shadow;
use super::surgery::examine;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::{ClusterSet, Place};
use crate::volume::attr::{Attribute, DATA, FILE_NAME, Form, INDEX_ALLOCATION};
use crate::volume::bitmap::ClusterBitmap;
use crate::volume::logfile::LogState;
use crate::volume::names::FileName;
use crate::volume::open::Volume;
use crate::volume::record::RecordView;
use crate::volume::scan::Scanned;
use std::ops::Range;
use std::sync::OnceLock;

/// Bytes at the start of a volume that never move: boot sector and boot code.
const BOOT_AREA: u64 = 8192;
/// `$Bad`, UTF-16.
pub(super) const BAD: &[u8] = b"$\0B\0a\0d\0";

/// What an attribute is to the layout, in the order in which a volume is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// `$MFT::$DATA`.
    Mft,
    /// `$Bitmap::$DATA`, which is made anew.
    Bitmap,
    /// Of the other files of NTFS.
    System,
    /// An index.
    Directory,
    /// Of a file.
    File,
    /// `$MFTMirr`, as far from `$MFT` as the data reaches.
    Mirror,
}

/// A run of clusters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub lcn: u64,
    pub len: u64,
}

/// An attribute, or a piece of one that several records share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Place of its first run; they go on to the next piece's.
    pub first: u32,
    /// The record that holds it.
    pub record: u32,
    /// The base record of its file.
    pub base: u32,
    /// Tells the streams of a file apart; only the order depends on it.
    pub tag: u16,
    pub class: Class,
}

/// What [`survey`] found.
pub struct Survey {
    pub(super) volume: Volume,
    pub(super) runs: Vec<Run>,
    /// In the order of the records.
    pub(super) pieces: Vec<Piece>,
    /// First VCN of the pieces that do not begin at 0, by place in `pieces`.
    pub(super) later: Vec<(u32, u64)>,
    /// Clusters that cannot change their place.
    pub(super) pinned: ClusterSet,
    /// Clusters that one sound record owns.
    pub(super) movable: ClusterSet,
    /// Clusters on the list of bad ones that nobody owns.
    pub(super) bad: ClusterSet,
    /// Base records of shadow-copy storage.
    pub(super) shadow: Vec<u32>,
    /// Files of such storage that have several records, and stay as they are.
    pub(super) shadow_kept: u64,
    /// A sound record names clusters behind the end of the volume.
    pub(super) outside: bool,
    /// Clusters that records in use name and `$Bitmap` calls free.
    pub(super) called_free: u64,
    /// Records in use that cannot be followed.
    pub(super) damaged: u64,
    /// Damaged records that have a sound copy in `$MFTMirr`.
    pub(super) mended: u64,
    pub(super) log: LogState,
    pub(super) tight: OnceLock<super::Tight>,
}

#[derive(Default)]
struct Batch {
    runs: Vec<Run>,
    pieces: Vec<Piece>,
    later: Vec<(u32, u64)>,
    fixed: Vec<Range<u64>>,
    bad: Vec<Range<u64>>,
    stores: Vec<(u32, u64)>,
    outside: bool,
    damaged: u64,
    mended: u64,
}

/// Looks at every record of a volume. Fails when the source is far shorter than
/// the volume that its boot sector claims, or cannot be read at all.
pub fn survey(volume: &Volume, observer: &dyn Observer) -> Result<Survey> {
    let total = volume.geometry().total_clusters;
    let limit = volume.cluster_limit();
    let records = volume.mft().record_count;
    if limit < total || records > u64::from(u32::MAX) {
        return Err(Error::unsupported(format!(
            "The volume claims {total} clusters and {records} file records, far more than its source can hold"
        ))
        .hint("Restore it as it is"));
    }
    let ClusterBitmap {
        used: mut pinned,
        unknown,
        ..
    } = ClusterBitmap::read(volume);
    pinned.union(&unknown);
    drop(unknown);
    let whole_mft = mft_is_whole(volume);
    let mut all = Batch::default();
    let mut owned = ClusterSet::new(total);
    let mut fixed = ClusterSet::new(total);
    let mut bad = ClusterSet::new(total);
    observer.begin("Reading file records", Some(records));
    let scanned = volume.scan(
        observer,
        |_| Batch::default(),
        |batch, scanned| batch.take(scanned, total, whole_mft),
        |batch| {
            for r in &batch.runs {
                let range = r.lcn..r.lcn + r.len;
                for twice in owned.runs(range.clone()) {
                    fixed.insert(twice);
                }
                owned.insert(range);
            }
            for r in batch.fixed {
                fixed.insert(r);
            }
            for r in batch.bad {
                bad.insert(r);
            }
            let (first, index) = (all.runs.len(), all.pieces.len());
            if u32::try_from(first + batch.runs.len()).is_err() {
                return Err(Error::unsupported(
                    "Found more than 2^32 runs, expected fewer",
                ));
            }
            let moved = batch.pieces.iter().map(|p| Piece {
                first: p.first + first as u32,
                ..*p
            });
            all.pieces.extend(moved);
            let later = batch.later.iter().map(|(i, vcn)| (i + index as u32, *vcn));
            all.later.extend(later);
            all.runs.extend(batch.runs);
            all.stores.extend(batch.stores);
            all.outside |= batch.outside;
            all.damaged += batch.damaged;
            all.mended += batch.mended;
            Ok(())
        },
    );
    observer.end();
    scanned?;
    let cluster = u64::from(volume.geometry().cluster_size);
    let mut called_free = owned.without(&pinned);
    called_free.union(&fixed.without(&pinned));
    let called_free = called_free.count();
    fixed.insert(0..BOOT_AREA.div_ceil(cluster).min(total));
    let bad = bad.without(&owned).without(&fixed);
    let mut pinned = pinned.without(&owned).without(&bad);
    pinned.union(&fixed);
    let movable = owned.without(&pinned);
    drop((owned, fixed));
    all.runs.shrink_to_fit();
    all.pieces.shrink_to_fit();
    let (shadow, shadow_kept) = shadow::stores(volume, all.stores);
    Ok(Survey {
        shadow,
        shadow_kept,
        volume: volume.clone(),
        runs: all.runs,
        pieces: all.pieces,
        later: all.later,
        pinned,
        movable,
        bad,
        outside: all.outside,
        called_free,
        damaged: all.damaged,
        mended: all.mended,
        log: LogState::read(volume),
        tight: OnceLock::new(),
    })
}

/// False when a part of the MFT could not be followed: then it does not move.
pub(super) fn mft_is_whole(volume: &Volume) -> bool {
    const HURT: [&str; 5] = [
        "mft-runs",
        "mft-short",
        "extension-record",
        "attribute-list",
        "stream-pieces",
    ];
    let notes = volume.notes();
    !notes.iter().any(|n| HURT.contains(&&*n.code))
}

/// True when a record's clusters can move: everything in it is sound.
pub(super) fn can_change(view: &RecordView<'_>, total: u64, whole_mft: bool) -> bool {
    let base = view.base().map_or(view.number(), |b| b.record);
    (base.0 != 0 || whole_mft) && examine(view, total).is_ok()
}

/// What an attribute is to the layout; `None` for the list of bad clusters.
pub(super) fn class(base: u64, directory: bool, a: &Attribute<'_>) -> Option<Class> {
    let unnamed = a.type_code == DATA && a.name.is_empty();
    Some(match base {
        0 if unnamed => Class::Mft,
        1 if unnamed => Class::Mirror,
        6 if unnamed => Class::Bitmap,
        8 if a.type_code == DATA && a.name == BAD => return None,
        0..24 => Class::System,
        _ if directory || a.type_code == INDEX_ALLOCATION => Class::Directory,
        _ => Class::File,
    })
}

impl Batch {
    fn take(&mut self, scanned: Scanned<'_>, total: u64, whole_mft: bool) {
        let (view, copy) = match scanned {
            Scanned::Record(view) if view.in_use() => (view, false),
            Scanned::Mirror(view) => (view, true),
            Scanned::Bad { .. } => {
                self.damaged += 1;
                return;
            }
            Scanned::Record(_) | Scanned::Free(_) => return,
        };
        let base = view.base().map_or(view.number(), |b| b.record).0;
        let sound = can_change(&view, total, whole_mft);
        if copy && sound {
            // It was just met as bad.
            self.damaged = self.damaged.saturating_sub(1);
            self.mended += 1;
        }
        self.damaged += u64::from(!sound && !copy);
        // The boot sector's place is fixed, whatever its file says.
        let pinned = !sound || base == 7;
        for a in view.attributes().flatten() {
            if a.type_code == FILE_NAME
                && let Some(name) = a.resident().and_then(FileName::parse)
                && shadow::is_store_name(&name.wtf8())
                && let Ok(base) = u32::try_from(base)
            {
                self.stores.push((base, name.parent.record.0));
            }
            let Form::NonResident(n) = a.form else {
                continue;
            };
            let class = class(base, view.is_directory(), &a);
            let (start, piece) = (self.runs.len(), self.pieces.len());
            let mut budget = total;
            for e in n.runs().map_while(|e| e.ok()) {
                let Place::At(lcn) = e.place else { continue };
                let end = lcn.0.saturating_add(e.len.0);
                self.outside |= end > total;
                let end = end.min(total);
                if lcn.0 >= end || end - lcn.0 > budget {
                    continue;
                }
                budget -= end - lcn.0;
                if pinned {
                    self.fixed.push(lcn.0..end);
                } else if class.is_none() {
                    self.bad.push(lcn.0..end);
                } else {
                    let len = end - lcn.0;
                    self.runs.push(Run { lcn: lcn.0, len });
                }
            }
            if self.runs.len() == start {
                continue;
            }
            let (Some(class), Ok(base)) = (class, u32::try_from(base)) else {
                continue;
            };
            if n.lowest_vcn.0 != 0 {
                self.later.push((piece as u32, n.lowest_vcn.0));
            }
            self.pieces.push(Piece {
                first: start as u32,
                record: view.number().0 as u32,
                base,
                tag: tag(&a),
                class,
            });
        }
    }
}

fn tag(a: &Attribute<'_>) -> u16 {
    let name = a.name.iter().fold(a.type_code, |h, &b| {
        h.wrapping_mul(0x0100_0193) ^ u32::from(b)
    });
    (a.type_code as u16) << 8 | (name ^ name >> 16) as u16 & 0xff
}

impl Survey {
    /// The runs of a piece, in the order of its VCNs.
    pub(super) fn runs_of(&self, piece: u32) -> &[Run] {
        let at = piece as usize;
        let end = self
            .pieces
            .get(at + 1)
            .map_or(self.runs.len(), |p| p.first as usize);
        &self.runs[self.pieces[at].first as usize..end]
    }

    /// Pieces in the order in which a volume is laid out: those of one stream
    /// follow each other by VCN.
    pub(super) fn order(&self) -> Vec<u32> {
        let vcn = |i: u32| match self.later.binary_search_by_key(&i, |l| l.0) {
            Ok(at) => self.later[at].1,
            Err(_) => 0,
        };
        let mut order: Vec<u32> = (0..self.pieces.len() as u32).collect();
        order.sort_unstable_by_key(|&i| {
            let p = &self.pieces[i as usize];
            (p.class, p.base, p.tag, vcn(i))
        });
        order
    }

    /// True for storage of shadow copies.
    pub(super) fn is_store(&self, base: u32) -> bool {
        self.shadow.binary_search(&base).is_ok()
    }

    /// Clusters of shadow-copy storage.
    pub(super) fn store_clusters(&self) -> ClusterSet {
        let mut set = ClusterSet::new(self.movable.limit());
        for (i, p) in self.pieces.iter().enumerate() {
            if self.is_store(p.base) {
                for r in self.runs_of(i as u32) {
                    set.insert(r.lcn..r.lcn + r.len);
                }
            }
        }
        set.without(&self.pinned)
    }

    /// The cluster behind the last one that is in use.
    pub(super) fn end_in_place(&self) -> u64 {
        let mut end = self.pinned_end();
        let stores = self.store_clusters();
        if let Some(r) = self.movable.without(&stores).runs(0..u64::MAX).last() {
            end = end.max(r.end);
        }
        end
    }

    /// The cluster behind the last one that cannot move.
    pub(super) fn pinned_end(&self) -> u64 {
        self.pinned.runs(0..u64::MAX).last().map_or(0, |r| r.end)
    }
}
