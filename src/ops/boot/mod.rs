//! What firmware and Windows' loader look for on a disk, and what a planned
//! disk changes of it.

pub mod bcd;
mod fat;

#[cfg(test)]
mod tests;

use crate::device::SharedSource;
use crate::disk::replace::{Arrangement, Placed};
use crate::disk::{Content, Guid, Layout, Partition, PartitionType, TableKind};
use crate::error::{ErrorKind, Result};
use crate::volume::{Tree, Volume, VolumePath};
use bcd::Named;
use serde::Serialize;
use std::sync::Arc;

/// Where the store is: of a BIOS, of UEFI.
const STORES: [&str; 2] = ["/Boot/BCD", "/EFI/Microsoft/Boot/BCD"];
/// Longest store that is read, bytes; usual are some tens of thousands.
const MAX_STORE: u64 = 16 << 20;
/// Boot code of a master boot record, bytes.
const CODE: usize = 440;

/// What is on a disk to start from.
#[derive(Debug, Default, Serialize)]
pub struct Boot {
    /// The first sector has code in front of its table.
    pub boot_code: bool,
    /// Partitions that are marked as active.
    pub active: Vec<u32>,
    /// EFI system partitions.
    pub efi: Vec<u32>,
    /// Windows' boot configuration data.
    pub stores: Vec<Store>,
    /// What could not be looked at, in sentences.
    pub unseen: Vec<String>,
}

/// A store of boot configuration data.
#[derive(Debug, Serialize)]
pub struct Store {
    /// Number of the partition it is on.
    pub partition: u32,
    /// Its path there.
    pub path: &'static str,
    /// What it names.
    pub names: Vec<Reference>,
}

/// A partition that a store names.
#[derive(Debug, Serialize)]
pub struct Reference {
    /// How.
    pub named: Named,
    /// Its number, when it is one of this disk.
    pub partition: Option<u32>,
}

/// Looks at a disk, which may be an archive ([`WholeDisk`](super::whole::WholeDisk)).
/// What cannot be read is said in `unseen`.
pub fn look(layout: &Layout, disk: &SharedSource) -> Result<Boot> {
    look_at(layout, disk, None)
}

/// The same for one partition, or all.
pub fn look_at(layout: &Layout, disk: &SharedSource, only: Option<u32>) -> Result<Boot> {
    let mut boot = Boot::default();
    if layout.table != TableKind::None && disk.len() >= CODE as u64 {
        let mut code = [0; CODE];
        match disk.read_at(0, &mut code) {
            Ok(()) => boot.boot_code = code.iter().any(|&b| b != 0),
            Err(e) => boot.unseen.push(e.to_string()),
        }
    }
    let wanted = |p: &&Partition| only.is_none_or(|n| n == p.number);
    for p in layout.partitions.iter().filter(wanted) {
        if p.bootable {
            boot.active.push(p.number);
        }
        if is_efi(p) {
            boot.efi.push(p.number);
        }
        let source: SharedSource = Arc::new(p.open(disk)?);
        for path in STORES {
            match content(p, &source, path) {
                Ok(None) => {}
                Ok(Some(bytes)) => boot.add(layout, p.number, path, &bytes),
                Err(e) => {
                    boot.unseen.push(format!(
                        "Whether partition {} has {path} is not known: {e}",
                        p.number
                    ));
                    break;
                }
            }
        }
    }
    Ok(boot)
}

fn is_efi(p: &Partition) -> bool {
    p.kind == PartitionType::Mbr(0xef) || p.kind.name() == Some("EFI system")
}

/// The content of a file in a partition, if it has one.
fn content(p: &Partition, source: &SharedSource, path: &str) -> Result<Option<Vec<u8>>> {
    match p.content {
        Content::Ntfs | Content::NtfsByBackup { .. } => {
            let volume = Volume::open(source.clone())?;
            let tree = Tree::new(&volume);
            let found = match tree.lookup(&VolumePath::parse(path.as_bytes())?) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                found => found?,
            };
            tree.open(&found)?.read_all(MAX_STORE).map(Some)
        }
        Content::Fat12 | Content::Fat16 | Content::Fat32 => {
            fat::read(source, path.trim_start_matches('/'), MAX_STORE)
        }
        _ => Ok(None),
    }
}

impl Boot {
    fn add(&mut self, layout: &Layout, partition: u32, path: &'static str, bytes: &[u8]) {
        let Some(names) = bcd::names(bytes) else {
            self.unseen.push(format!(
                "{path} on partition {partition} is no registry hive; what it names is not known"
            ));
            return;
        };
        let names = (names.into_iter())
            .map(|named| Reference {
                named,
                partition: owner(layout, &named),
            })
            .collect();
        self.stores.push(Store {
            partition,
            path,
            names,
        });
    }

    /// What will not be found any more on the planned disk, in sentences.
    /// `layout` is that of the old disk.
    pub fn warnings(&self, layout: &Layout, plan: &Arrangement) -> Vec<String> {
        let mut out = Vec::new();
        let lost = |number: u32| place(layout, plan, number).is_none();
        for store in &self.stores {
            if lost(store.partition) {
                continue;
            }
            for r in &store.names {
                let Some(number) = r.partition else { continue };
                if let Some(why) = broken(layout, plan, number, &r.named) {
                    out.push(format!(
                        "Windows' loader will not find partition {number}: {} on partition {} names it by {}, {why}; run bcdboot from a recovery medium",
                        store.path, store.partition, said(&r.named)
                    ));
                }
            }
        }
        for &number in &self.efi {
            if lost(number) {
                continue;
            }
            if plan.table != layout.table {
                out.push(format!(
                    "A boot entry of the firmware names EFI system partition {number} by what stands in its old table, and the new disk has another kind of table: the firmware finds \\EFI\\BOOT there only, or needs a new entry"
                ));
            } else if has_new_id(layout, plan, number) {
                out.push(format!(
                    "A boot entry of the firmware names EFI system partition {number} by its GUID, which is new: the firmware finds \\EFI\\BOOT there only, or needs a new entry"
                ));
            }
        }
        out
    }

    /// What is to be known of a partition whose old disk is not known, in
    /// sentences.
    pub fn unknown(&self) -> Vec<String> {
        let stores = self.stores.iter().filter(|s| !s.names.is_empty());
        stores
            .map(|s| format!(
                "Windows' loader may not find its partitions: {} names them by their old disk, which the archive does not hold; run bcdboot from a recovery medium if it does not start",
                s.path
            ))
            .collect()
    }
}

fn signature(layout: &Layout) -> Option<u32> {
    u32::from_str_radix(layout.disk_id.as_deref()?, 16).ok()
}

fn is(text: Option<&str>, id: &[u8; 16]) -> bool {
    text.is_some_and(|t| t == Guid(*id).to_string())
}

/// The partition of this disk that is named.
fn owner(layout: &Layout, named: &Named) -> Option<u32> {
    let found = layout.partitions.iter().find(|p| match *named {
        Named::Mbr {
            signature: s,
            start,
        } => layout.table == TableKind::Mbr && signature(layout) == Some(s) && p.start == start,
        Named::Gpt { disk, partition } => {
            layout.table == TableKind::Gpt
                && is(layout.disk_id.as_deref(), &disk)
                && p.id == Some(Guid(partition))
        }
    });
    found.map(|p| p.number)
}

/// Where a partition of the old disk goes.
fn place<'a>(layout: &Layout, plan: &'a Arrangement, number: u32) -> Option<&'a Placed> {
    let old = layout.partition(number).ok()?;
    plan.partitions.iter().find(|p| p.old.start == old.start)
}

/// True for a partition with a new GUID.
fn has_new_id(layout: &Layout, plan: &Arrangement, number: u32) -> bool {
    place(layout, plan, number)
        .is_some_and(|p| plan.new_ids.iter().any(|i| i.partition == Some(p.number)))
}

/// Why a name does not lead to its partition any more.
fn broken(layout: &Layout, plan: &Arrangement, number: u32, named: &Named) -> Option<String> {
    let Some(p) = place(layout, plan, number) else {
        return Some("and it is not on the new disk".to_owned());
    };
    if plan.table != layout.table {
        return Some("and the new disk has another kind of table".to_owned());
    }
    if plan.new_ids.iter().any(|i| i.partition.is_none()) {
        return Some("and the new disk has another identity".to_owned());
    }
    match named {
        Named::Mbr { start, .. } if p.new.start != *start => {
            Some(format!("and it will begin at byte {:#x}", p.new.start))
        }
        Named::Gpt { .. } if has_new_id(layout, plan, number) => {
            Some("and it will have another one".to_owned())
        }
        _ => None,
    }
}

fn said(named: &Named) -> String {
    match named {
        Named::Mbr { signature, start } => {
            format!("disk signature {signature:08x} and byte {start:#x}")
        }
        Named::Gpt { disk, partition } => {
            format!("disk {} and partition {}", Guid(*disk), Guid(*partition))
        }
    }
}
