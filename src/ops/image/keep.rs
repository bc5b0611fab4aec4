//! What of a region goes into the backup, as sets of clusters.

use crate::archive::RunKind;
use crate::units::ClusterSet;

/// A stretch of a region and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte inside the region.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// What becomes of it.
    pub kind: RunKind,
}

/// The part of a region that is kept, in grains: the clusters of an NTFS
/// volume. What lies behind the last grain (the backup boot sector) is kept.
pub struct Keep {
    grain: u64,
    grains_end: u64,
    len: u64,
    /// Kept as data; `None` is everything.
    data: Option<ClusterSet>,
    skipped: ClusterSet,
    mft: Vec<(u64, u64)>,
}

impl Keep {
    /// Everything of a region of `len` bytes.
    pub fn everything(len: u64) -> Self {
        Self {
            grain: 1 << 20,
            grains_end: 0,
            len,
            data: None,
            skipped: ClusterSet::new(0),
            mft: Vec::new(),
        }
    }

    /// The clusters in `wanted`; of these, those in `skipped` are left out, and
    /// the extents of `mft` (bytes: start, length) go into Mft records.
    pub fn clusters(
        len: u64,
        cluster: u32,
        mut wanted: ClusterSet,
        mut skipped: ClusterSet,
        mft: impl IntoIterator<Item = (u64, u64)>,
    ) -> Self {
        let grain = u64::from(cluster);
        let grains_end = (wanted.limit() * grain).min(len / grain * grain);
        // Hostile extents may name a cluster twice; each goes out once.
        let mut once = ClusterSet::new(grains_end / grain);
        let mut extents: Vec<(u64, u64)> = Vec::new();
        for (lcn, n) in mft {
            let mut at = lcn;
            let end = lcn.saturating_add(n).min(once.limit());
            let taken: Vec<_> = once.runs(at..end).collect();
            for t in taken.into_iter().chain(std::iter::once(end..end)) {
                if at < t.start {
                    extents.push((at * grain, (t.start - at) * grain));
                }
                at = t.end;
            }
            once.insert(lcn..end);
        }
        for r in once.runs(0..u64::MAX) {
            wanted.remove(r.clone());
            skipped.remove(r);
        }
        for r in skipped.runs(0..u64::MAX) {
            wanted.remove(r);
        }
        wanted.remove(grains_end / grain..u64::MAX);
        Self {
            grain,
            grains_end,
            len,
            data: Some(wanted),
            skipped,
            mft: extents,
        }
    }

    /// Extents that go into Mft records, in the order of the stream: `(start,
    /// length)` in bytes.
    pub fn mft(&self) -> &[(u64, u64)] {
        &self.mft
    }

    /// Bytes that will be read and kept, file records included.
    pub fn data_bytes(&self) -> u64 {
        self.mft_bytes()
            + match &self.data {
                None => self.len,
                Some(d) => d.count() * self.grain + (self.len - self.grains_end),
            }
    }

    /// Bytes of the Mft records.
    pub fn mft_bytes(&self) -> u64 {
        self.mft.iter().map(|&(_, n)| n).sum()
    }

    /// Bytes left out on request.
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped.count() * self.grain
    }

    /// Number of stretches of neighbouring kept clusters.
    pub fn extents(&self) -> u64 {
        self.data
            .as_ref()
            .map_or(1, |d| d.runs(0..u64::MAX).count() as u64)
            + self.mft.len() as u64
    }

    /// What becomes of the bytes `from..to`, in order; what is not named is
    /// free or stands in an Mft record.
    pub fn pieces(&self, from: u64, to: u64) -> Vec<Piece> {
        let mut out = Vec::new();
        let Some(data) = &self.data else {
            if from < to {
                out.push(Piece {
                    start: from,
                    len: to - from,
                    kind: RunKind::Data,
                });
            }
            return out;
        };
        let stop = to.min(self.grains_end);
        if from < stop {
            let grains = from / self.grain..stop.div_ceil(self.grain);
            let mut add = |r: std::ops::Range<u64>, kind| {
                let start = (r.start * self.grain).max(from);
                let end = (r.end * self.grain).min(stop);
                out.push(Piece {
                    start,
                    len: end - start,
                    kind,
                });
            };
            data.runs(grains.clone())
                .for_each(|r| add(r, RunKind::Data));
            let plain = self.skipped.limit() == 0;
            if !plain {
                self.skipped
                    .runs(grains)
                    .for_each(|r| add(r, RunKind::Skipped));
                out.sort_by_key(|p| p.start);
            }
        }
        let tail = from.max(self.grains_end);
        if tail < to {
            match out.last_mut() {
                Some(p) if p.kind == RunKind::Data && p.start + p.len == tail => p.len += to - tail,
                _ => out.push(Piece {
                    start: tail,
                    len: to - tail,
                    kind: RunKind::Data,
                }),
            }
        }
        out
    }

    /// First byte at or behind `from` that is kept or skipped, else `to`.
    pub fn next_piece(&self, from: u64, to: u64) -> u64 {
        let Some(data) = &self.data else { return from };
        if from >= self.grains_end {
            return from;
        }
        let stop = to.min(self.grains_end).div_ceil(self.grain);
        let first = |s: &ClusterSet| s.runs(from / self.grain..stop).next().map(|r| r.start);
        match first(data).into_iter().chain(first(&self.skipped)).min() {
            Some(g) => (g * self.grain).max(from),
            None => self.grains_end.min(to),
        }
    }

    /// Feeds what is kept into a digest, so that two plans can be compared.
    pub fn digest(&self, h: &mut blake3::Hasher) {
        let mut put = |n: u64| {
            h.update(&n.to_le_bytes());
        };
        [self.grain, self.grains_end, self.len]
            .into_iter()
            .for_each(&mut put);
        for &(a, b) in &self.mft {
            put(a);
            put(b);
        }
        for set in self.data.iter().chain([&self.skipped]) {
            put(u64::MAX);
            for r in set.runs(0..u64::MAX) {
                put(r.start);
                put(r.end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(limit: u64, ranges: &[std::ops::Range<u64>]) -> ClusterSet {
        let mut s = ClusterSet::new(limit);
        ranges.iter().for_each(|r| {
            s.insert(r.clone());
        });
        s
    }

    #[test]
    fn file_records_and_skipped_files_leave_the_data() {
        let k = Keep::clusters(
            100 * 4096 + 512,
            4096,
            set(100, &[0..10, 20..40]),
            set(100, &[30..35, 22..23]),
            [(22, 2), (23, 4), (90, 1 << 40)],
        );
        assert_eq!(
            k.mft(),
            [
                (22 * 4096, 2 * 4096),
                (24 * 4096, 3 * 4096),
                (90 * 4096, 10 * 4096)
            ]
        );
        let got: Vec<_> = k
            .pieces(0, 100 * 4096 + 512)
            .iter()
            .map(|p| (p.start / 4096, p.len, p.kind == RunKind::Data))
            .collect();
        assert_eq!(
            got,
            [
                (0, 10 * 4096, true),
                (20, 2 * 4096, true),
                (27, 3 * 4096, true),
                (30, 5 * 4096, false),
                (35, 5 * 4096, true),
                (100, 512, true)
            ]
        );
        assert_eq!(k.next_piece(11 * 4096, 1 << 40), 20 * 4096);
        assert_eq!(k.skipped_bytes(), 5 * 4096);
    }

    #[test]
    fn everything_is_one_piece() {
        let k = Keep::everything(5000);
        assert_eq!(
            k.pieces(10, 20),
            [Piece {
                start: 10,
                len: 10,
                kind: RunKind::Data
            }]
        );
        assert_eq!(k.data_bytes(), 5000);
    }
}
