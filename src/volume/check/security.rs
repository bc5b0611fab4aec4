//! `$Secure`: the descriptors in `$SDS`, and the two indexes that lead to them
//! by id (`$SII`) and by hash (`$SDH`).
//!
//! The entries of `$SDS` are `volume::security`'s subject. Every entry stands a
//! second time 256 KiB further on. Both indexes hold its header as data.
//! (Linux-NTFS documentation, "$Secure".)

use super::Context;
use super::btree::{self, Entry, Index};
use super::report::{Code, Issues};
use super::streams::Body;
use crate::units::RecordNo;
use crate::volume::attr::{BITMAP, DATA, INDEX_ALLOCATION, INDEX_ROOT, u32_at};
use crate::volume::security::{BLOCK, HEADER, Header, MOST, SDS, SECURE};
use std::collections::HashMap;

const SII: &[u8] = b"$\0S\0I\0I\0";
const SDH: &[u8] = b"$\0S\0D\0H\0";

/// Checks them and that each id in `used` is there. Returns how many
/// descriptors there are.
pub(super) fn check(
    cx: &Context<'_>,
    used: &HashMap<u32, (RecordNo, u64)>,
    issues: &mut Issues,
) -> u64 {
    if cx.volume.info().is_some_and(|i| i.version.0 < 3) {
        return 0;
    }
    // A damaged record was said by the scan.
    let Ok(file) = cx.volume.file(SECURE) else {
        return 0;
    };
    let attributes: Vec<_> = file.attributes().collect();
    let problem = |issues: &mut Issues, what: String| {
        issues.push(Code::Security, Some(SECURE), None, || what);
    };
    let mut lists = [Vec::new(), Vec::new()];
    let mut sound = true;
    for (name, list) in [SII, SDH].into_iter().zip(&mut lists) {
        let root = attributes
            .iter()
            .find(|p| p.1.type_code == INDEX_ROOT && p.1.name == name);
        let Some(root) = root.and_then(|p| p.1.resident()) else {
            problem(issues, "$Secure lacks one of its indexes".to_owned());
            return 0;
        };
        let index = Index {
            volume: cx.volume,
            upcase: cx.upcase,
            root,
            blocks: Body::find(&attributes, INDEX_ALLOCATION, name),
            bitmap: Body::find(&attributes, BITMAP, name),
        };
        let mut bad = 0u64;
        let mut each = |e: Entry<'_>| {
            let key = match name == SII {
                true => e.key.first_chunk::<4>().map(|k| (None, u32_at(k, 0))),
                false => (e.key.first_chunk::<8>()).map(|k| (Some(u32_at(k, 0)), u32_at(k, 4))),
            };
            match (key, Header::of(e.data)) {
                (Some((hash, id)), Some(h))
                    if h.id == id && hash.is_none_or(|hash| hash == h.hash) =>
                {
                    if list.len() < MOST {
                        list.push(h);
                    }
                }
                _ => bad += 1,
            }
        };
        // Damage of the tree was said by the scan.
        btree::walk(&index, &|bytes| cx.pay(bytes), &mut each, &mut |_| {
            sound = false
        });
        if bad > 0 {
            issues.many(Code::Security, bad, Some(SECURE), None, || {
                format!("Found {bad} entries of a security index whose data does not fit the key")
            });
        }
    }
    let [mut ids, mut hashes] = lists;
    ids.sort_unstable();
    hashes.sort_unstable();
    if ids.len() == MOST {
        issues.push(Code::Budget, Some(SECURE), None, || {
            format!("Only {MOST} security descriptors were checked")
        });
    }
    if sound && ids != hashes {
        let what = format!(
            "$SII has {} entries and $SDH has {}, expected the same in both",
            ids.len(),
            hashes.len()
        );
        problem(issues, what);
    }
    match Body::find(&attributes, DATA, SDS) {
        Some(sds) => ids.iter().for_each(|h| descriptor(cx, &sds, h, issues)),
        None if ids.is_empty() => {}
        None => problem(issues, "$Secure lacks its stream $SDS".to_owned()),
    }
    if sound && ids.len() < MOST {
        let mut used: Vec<_> = used.iter().collect();
        used.sort_unstable();
        for (id, (n, files)) in used {
            // 0: the descriptor is in the file record.
            if *id != 0 && ids.binary_search_by_key(id, |h| h.id).is_err() {
                issues.push(Code::SecurityId, Some(*n), None, || {
                    format!(
                        "File {n} has security id {id}, which $SII does not have ({files} files have it)"
                    )
                });
            }
        }
    }
    ids.len() as u64
}

/// One entry of `$SDS` and its copy.
fn descriptor(cx: &Context<'_>, sds: &Body<'_>, h: &Header, issues: &mut Issues) {
    let mut problem = |what: String| {
        issues.push(Code::Security, Some(SECURE), None, || {
            format!("Security id {}: {what}", h.id)
        });
    };
    // No descriptor is longer than the blocks of `$SDS`.
    if !(HEADER as u64..=BLOCK).contains(&h.size.into()) {
        return problem(format!("found an entry of {} bytes in $SDS", h.size));
    }
    if !cx.pay(u64::from(h.size)) {
        return;
    }
    let mut entry = vec![0; h.size as usize];
    let mut copy = entry.clone();
    let read = sds
        .read(cx.volume, h.offset, &mut entry)
        .and_then(|()| sds.read(cx.volume, h.offset.saturating_add(BLOCK), &mut copy));
    if let Err(e) = read {
        return issues.failed(
            Code::Security,
            Some(SECURE),
            &format!("Security id {}", h.id),
            &e,
        );
    }
    if Header::of(&entry) != Some(*h) {
        problem(format!("$SDS has another entry at byte {}", h.offset));
    } else if hash(&entry[HEADER..]) != h.hash {
        problem("the hash of its descriptor is wrong".to_owned());
    } else if entry != copy {
        problem("the copy of its entry in $SDS is not the same".to_owned());
    }
}

/// The sum that NTFS calls the hash of a descriptor.
fn hash(descriptor: &[u8]) -> u32 {
    let words = descriptor.as_chunks::<4>().0.iter();
    words.fold(0u32, |h, w| {
        h.rotate_left(3).wrapping_add(u32::from_le_bytes(*w))
    })
}
