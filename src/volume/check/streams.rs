//! The attributes of a file, joined from their pieces: mapping pairs, sizes
//! and clusters of each must agree.

use super::report::{Code, Issues};
use crate::error::{Error, Result};
use crate::units::{Place, RecordNo};
use crate::volume::attr::{ATTRIBUTE_LIST, Attribute, FILE_NAME, Form, type_name};
use crate::volume::extents::{ExtentMap, Spot};
use crate::volume::names::{Escaped, wtf8};
use crate::volume::open::Volume;

/// An attribute and the record it lies in.
pub(super) type Placed<'a> = (RecordNo, Attribute<'a>);

/// `$BadClus` and its stream.
const BAD_CLUSTERS: RecordNo = RecordNo(8);
const BAD: &[u8] = b"$\0B\0a\0d\0";

/// The value of an attribute.
pub(super) enum Body<'a> {
    /// In the record.
    Resident(&'a [u8]),
    /// In clusters.
    Clusters {
        /// Where.
        map: ExtentMap,
        /// Bytes.
        size: u64,
        /// Bytes behind which it reads as zeros.
        initialized: u64,
    },
}

impl<'a> Body<'a> {
    /// The attribute of this type and name; `None` when there is none, or only
    /// later pieces of it.
    pub fn find(attributes: &[Placed<'a>], type_code: u32, name: &[u8]) -> Option<Self> {
        let mut extents = Vec::new();
        let mut sizes = None;
        for (_, a) in attributes {
            if a.type_code != type_code || a.name != name {
                continue;
            }
            match a.form {
                Form::Resident { value } => return Some(Self::Resident(value)),
                Form::NonResident(n) => {
                    if n.lowest_vcn.0 == 0 {
                        sizes = Some((n.size, n.initialized));
                    }
                    extents.extend(n.runs().map_while(|r| r.ok()));
                }
            }
        }
        let (size, initialized) = sizes?;
        Some(Self::Clusters {
            map: ExtentMap::new(extents),
            size,
            initialized,
        })
    }

    /// Bytes of the value.
    pub fn size(&self) -> u64 {
        match self {
            Self::Resident(value) => value.len() as u64,
            Self::Clusters { size, .. } => *size,
        }
    }

    /// Bytes that have a run, holes counted.
    pub fn mapped(&self, volume: &Volume) -> u64 {
        match self {
            Self::Resident(value) => value.len() as u64,
            Self::Clusters { map, .. } => {
                let cluster = u64::from(volume.geometry().cluster_size);
                map.end().0.saturating_mul(cluster)
            }
        }
    }

    /// Reads bytes of the value.
    pub fn read(&self, volume: &Volume, at: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            Self::Resident(value) => {
                let end = at.saturating_add(buf.len() as u64);
                let part = usize::try_from(at)
                    .ok()
                    .zip(usize::try_from(end).ok())
                    .and_then(|(from, to)| value.get(from..to));
                let short = || Error::damaged("An attribute is shorter than what it must hold");
                buf.copy_from_slice(part.ok_or_else(short)?);
                Ok(())
            }
            Self::Clusters {
                map, initialized, ..
            } => {
                let valid = initialized.saturating_sub(at).min(buf.len() as u64) as usize;
                let (written, rest) = buf.split_at_mut(valid);
                rest.fill(0);
                volume.read_extents(map, at, written)
            }
        }
    }

    /// The first bytes, at most `limit`.
    pub fn read_up_to(&self, volume: &Volume, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.size().min(limit) as usize];
        self.read(volume, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Byte position on the volume of byte `at` of the value.
    pub fn place(&self, volume: &Volume, at: u64) -> Option<u64> {
        let Self::Clusters { map, .. } = self else {
            return None;
        };
        match volume.medium().spot(map, at, 1).ok()? {
            (Spot::Byte(at), _) => Some(at),
            (Spot::Hole, _) => None,
        }
    }
}

/// The name of an attribute for people: type and name.
pub(super) fn title(a: &Attribute<'_>) -> String {
    let kind = match type_name(a.type_code) {
        Some(name) => name.to_owned(),
        None => format!("attribute {:#x}", a.type_code),
    };
    match a.name {
        [] => kind,
        name => format!("{kind} {}", Escaped(&wtf8(name))),
    }
}

/// Checks every attribute of a file, all pieces of it.
pub(super) fn check(
    volume: &Volume,
    file: RecordNo,
    attributes: &[Placed<'_>],
    issues: &mut Issues,
) {
    let mut order: Vec<&Placed<'_>> = attributes.iter().collect();
    order.sort_by(|a, b| (a.1.type_code, a.1.name).cmp(&(b.1.type_code, b.1.name)));
    for group in order.chunk_by(|a, b| (a.1.type_code, a.1.name) == (b.1.type_code, b.1.name)) {
        check_group(volume, file, group.to_vec(), issues);
    }
}

fn check_group(volume: &Volume, file: RecordNo, group: Vec<&Placed<'_>>, issues: &mut Issues) {
    let Some(&&(record, first)) = group.first() else {
        return;
    };
    let at = |n: RecordNo, a: &Attribute<'_>| Some(volume.record_offset(n)? + u64::from(a.offset));
    let resident = group.iter().filter(|p| p.1.resident().is_some()).count();
    if resident > 0 {
        if group.len() > 1 && (first.type_code != FILE_NAME || resident < group.len()) {
            issues.push(Code::Attributes, Some(file), at(record, &first), || {
                format!(
                    "Found {} of file {file} {} times",
                    title(&first),
                    group.len()
                )
            });
        }
        return;
    }
    let cluster = u64::from(volume.geometry().cluster_size);
    let mut pieces = group;
    pieces.sort_by_key(|p| p.1.non_resident().map(|n| n.lowest_vcn));
    let (mut next, mut real, mut holes, mut sound) = (0u64, 0u64, false, true);
    for (n, a) in &pieces {
        let Some(piece) = a.non_resident() else {
            continue;
        };
        if piece.lowest_vcn.0 != next {
            sound = false;
            issues.push(Code::MappingPairs, Some(file), at(*n, a), || {
                format!(
                    "Found a piece of {} of file {file} from VCN {}, expected VCN {next}",
                    title(a),
                    piece.lowest_vcn
                )
            });
        }
        let mut end = piece.lowest_vcn.0;
        for run in piece.runs() {
            // A broken pair is a damaged attribute, which is said elsewhere.
            let Ok(e) = run else {
                sound = false;
                break;
            };
            end = e.vcn.0.saturating_add(e.len.0);
            match e.place {
                Place::Hole => holes = true,
                Place::At(_) => real = real.saturating_add(e.len.0),
            }
        }
        if sound && end != piece.end_vcn().0 {
            sound = false;
            issues.push(Code::MappingPairs, Some(file), at(*n, a), || {
                format!(
                    "Found runs of {} of file {file} up to VCN {end}, expected up to VCN {}",
                    title(a),
                    piece.end_vcn()
                )
            });
        }
        next = end.max(next);
    }
    let Some(&(record, first)) = pieces.first().copied() else {
        return;
    };
    let (Some(head), true) = (first.non_resident(), sound) else {
        return;
    };
    let bad = file == BAD_CLUSTERS && first.name == BAD;
    let (flags, place) = (first.flags, at(record, &first));
    let mut wrong = |what: String| {
        issues.push(Code::Sizes, Some(file), place, || {
            format!("{what} in {} of file {file}", title(&first))
        });
    };
    let mapped = next.checked_mul(cluster);
    if Some(head.allocated) != mapped && !(bad && head.allocated == 0) {
        wrong(format!(
            "Found an allocated size of {} bytes, expected {} for {next} clusters",
            head.allocated,
            mapped.unwrap_or(u64::MAX)
        ));
    }
    if head.size > head.allocated {
        wrong(format!(
            "Found a size of {} bytes, expected at most the allocated {}",
            head.size, head.allocated
        ));
    }
    if head.initialized > head.size {
        wrong(format!(
            "Found {} initialised bytes, expected at most the size, {}",
            head.initialized, head.size
        ));
    }
    if let Some(total) = head.compressed_total
        && Some(total) != real.checked_mul(cluster)
    {
        wrong(format!(
            "Found {total} bytes of clusters, expected {} for {real} clusters",
            real.saturating_mul(cluster)
        ));
    }
    if holes && !flags.sparse() && !flags.compressed() && !bad {
        wrong("Found a hole without the sparse or compressed flag".to_owned());
    }
    if flags.compressed() && !(1..=8).contains(&head.compression_unit) {
        wrong(format!(
            "Found a compression unit of 2^{} clusters, expected 2^4",
            head.compression_unit
        ));
    }
    if first.type_code == ATTRIBUTE_LIST && pieces.len() > 1 {
        wrong("Found several pieces".to_owned());
    }
}
