//! Whose clusters are these? Names the files behind bad sectors or behind
//! damaged parts of an archive.

use super::attr::{DATA, Form};
use super::open::Volume;
use super::scan::Scanned;
use crate::error::Result;
use crate::observe::Observer;
use crate::units::{ByteRange, Place, RecordNo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges that are kept for one owner; the bytes go on counting.
pub const RANGE_CAP: usize = 1000;

/// A stream that has some of the clusters asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Base record of the file.
    pub record: RecordNo,
    /// Type of the attribute.
    pub type_code: u32,
    /// Its name; empty for the unnamed one.
    pub name: String,
    /// The bytes of the stream that lie in the clusters asked for.
    pub bytes: u64,
    /// Where they are in the stream: the first [`RANGE_CAP`] ranges. They end at a
    /// cluster's end, maybe behind the end of the stream.
    pub ranges: Vec<ByteRange>,
    /// For `$MFT::$DATA`: the file records that lie in these ranges, partly at least.
    pub records: Vec<Range<u64>>,
}

/// Key in the order of the result: record, type, name.
type Key = (RecordNo, u32, Vec<u8>);

/// Finds the owners of `clusters` (any order, may touch) by one parallel scan.
/// Clusters that nobody owns give nothing.
pub fn owners(
    volume: &Volume,
    clusters: &[Range<u64>],
    observer: &dyn Observer,
) -> Result<Vec<Owner>> {
    let wanted = merged(clusters);
    let cluster_size = u64::from(volume.geometry().cluster_size);
    let mut found: BTreeMap<Key, (u64, Vec<ByteRange>)> = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    observer.begin("Looking for owners", Some(volume.mft().record_count));
    let scanned = volume.scan(
        observer,
        |_| Vec::new(),
        |hits: &mut Vec<(Key, ByteRange)>, scanned| {
            let (Scanned::Record(view) | Scanned::Mirror(view)) = scanned else {
                return;
            };
            if !view.in_use() {
                return;
            }
            for a in view.attributes().flatten() {
                let Form::NonResident(n) = a.form else {
                    continue;
                };
                for e in n.runs().map_while(|run| run.ok()) {
                    let Place::At(lcn) = e.place else {
                        continue;
                    };
                    let end = lcn.0 + e.len.0;
                    let from = wanted.partition_point(|w| w.end <= lcn.0);
                    let touched = wanted[from..].iter().take_while(|w| w.start < end);
                    for w in touched.take(RANGE_CAP) {
                        let (first, last) = (w.start.max(lcn.0), w.end.min(end));
                        let vcn = e.vcn.0 + (first - lcn.0);
                        let start = vcn.checked_mul(cluster_size);
                        let len = (last - first).checked_mul(cluster_size);
                        let range = start.zip(len).and_then(|(s, l)| ByteRange::new(s, l));
                        if let Some(range) = range {
                            let record = view.base().map_or(view.number(), |b| b.record);
                            hits.push(((record, a.type_code, a.name.to_vec()), range));
                        }
                    }
                }
            }
        },
        |hits| {
            for (key, range) in hits {
                let (bytes, ranges) = found.entry(key).or_default();
                *bytes = bytes.saturating_add(range.len());
                if ranges.len() < RANGE_CAP {
                    ranges.push(range);
                }
            }
            Ok(())
        },
    );
    observer.end();
    scanned?;
    let record_size = u64::from(volume.geometry().record_size);
    let mft_end = volume.mft().record_count;
    let owners = found
        .into_iter()
        .map(|((record, type_code, name), (bytes, mut ranges))| {
            ranges.sort();
            let mut records = Vec::new();
            if (record, type_code) == (RecordNo(0), DATA) && name.is_empty() {
                let of =
                    |r: &ByteRange| r.start / record_size..r.end.div_ceil(record_size).min(mft_end);
                records = ranges.iter().map(of).filter(|r| !r.is_empty()).collect();
            }
            let units = name
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| u16::from_le_bytes(*b));
            let name = char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}'));
            Owner {
                record,
                type_code,
                name: name.collect(),
                bytes,
                ranges,
                records,
            }
        });
    Ok(owners.collect())
}

/// In order, without empty or touching ranges.
fn merged(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<_> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
    all.sort_by_key(|r| r.start);
    let mut out: Vec<Range<u64>> = Vec::with_capacity(all.len());
    for r in all {
        match out.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => out.push(r),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::reversed_empty_ranges)]
    fn ranges_merge() {
        assert_eq!(merged(&[9..10, 0..4, 7..3, 2..6, 6..7]), [0..7, 9..10]);
    }
}
