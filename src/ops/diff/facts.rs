//! What is compared of a file beside its rows: its descriptor, the set of its
//! names, and the attributes that few files have.

use super::path_key;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::RecordNo;
use crate::volume::Volume;
use crate::volume::digest::digest;
use crate::volume::listing::{Detail, Kind, Listing, Node, short};
use crate::volume::security::{Descriptor, Descriptors};
use crate::volume::stream::Stream;
use rayon::prelude::*;
use std::collections::HashMap;

/// Digests of one file's facts; 0: it has none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileFacts {
    pub security: u64,
    pub links: u64,
    pub short_name: u64,
    pub reparse: u64,
    pub object_id: u64,
    pub ea: u64,
    pub efs: u64,
    /// What of it cannot be read.
    pub unreadable: Unreadable,
}

/// The facts that can be unreadable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub security: bool,
    pub reparse: bool,
    pub object_id: bool,
    pub ea: bool,
    pub efs: bool,
}

impl Unreadable {
    pub fn any(self) -> bool {
        self != Self::default()
    }

    pub fn or(self, o: Self) -> Self {
        Self {
            security: self.security || o.security,
            reparse: self.reparse || o.reparse,
            object_id: self.object_id || o.object_id,
            ea: self.ea || o.ea,
            efs: self.efs || o.efs,
        }
    }
}

impl FileFacts {
    pub fn hash(&self, into: &mut blake3::Hasher) {
        for n in [
            self.security,
            self.links,
            self.short_name,
            self.reparse,
            self.object_id,
            self.ea,
            self.efs,
        ] {
            into.update(&n.to_le_bytes());
        }
    }
}

/// The facts of a volume's files. As large as the number of attributes of these
/// kinds and of files with several names.
pub(super) struct Facts {
    details: Vec<Detail>,
    descriptors: Descriptors,
    /// Sum over the paths of a file, of files with several.
    links: HashMap<u32, u64>,
}

impl Facts {
    pub fn new(volume: &Volume, listing: &mut Listing, observer: &dyn Observer) -> Result<Self> {
        let mut details = listing.take_details();
        if observer.cancelled() {
            return Err(Error::interrupted());
        }
        // Few files have such values in clusters, and only those are read.
        details
            .par_iter_mut()
            .filter(|d| d.digest.is_none())
            .for_each(|d| d.digest = value(volume, d).ok().map(short));
        let mut links = HashMap::new();
        listing.for_each(|row| {
            if row.node.links > 1 && row.stream.is_none() {
                let sum: &mut u64 = links.entry(row.node.record).or_default();
                *sum = sum.wrapping_add(path_key(row) as u64);
            }
        });
        Ok(Self {
            details,
            descriptors: Descriptors::read(volume),
            links,
        })
    }

    pub fn of(&self, node: &Node) -> FileFacts {
        let mut f = FileFacts {
            links: self.links.get(&node.record).copied().unwrap_or_default(),
            ..FileFacts::default()
        };
        let from = self.details.partition_point(|d| d.record < node.record);
        let mine = self.details[from..]
            .iter()
            .take_while(|d| d.record == node.record)
            .filter(|d| d.sequence == node.sequence);
        for d in mine {
            let slot = match d.kind {
                // The id goes first.
                Kind::Security if node.security_id != 0 => continue,
                Kind::Security => &mut f.security,
                Kind::ShortName => &mut f.short_name,
                Kind::Reparse => &mut f.reparse,
                Kind::ObjectId => &mut f.object_id,
                Kind::Ea | Kind::EaInformation => &mut f.ea,
                Kind::Efs => &mut f.efs,
            };
            match d.digest {
                // An attribute that is there is never 0; the two of $EA are told apart.
                Some(n) => {
                    let n = n.rotate_left(u32::from(d.kind == Kind::EaInformation)) | 1;
                    *slot = slot.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n);
                }
                None => match d.kind {
                    Kind::Security => f.unreadable.security = true,
                    Kind::Reparse => f.unreadable.reparse = true,
                    Kind::ObjectId => f.unreadable.object_id = true,
                    Kind::Ea | Kind::EaInformation => f.unreadable.ea = true,
                    Kind::Efs => f.unreadable.efs = true,
                    // Always in the record.
                    Kind::ShortName => {}
                },
            }
        }
        if node.security_id != 0 {
            match self.descriptors.get(node.security_id) {
                Descriptor::Known(n) => f.security = n | 1,
                // Nothing but the id is left of it. Even, so no descriptor is like it.
                Descriptor::Missing => f.security = u64::from(node.security_id) << 1,
                Descriptor::Unreadable => f.unreadable.security = true,
            }
        }
        f
    }
}

fn value(volume: &Volume, d: &Detail) -> Result<[u8; 32]> {
    let file = volume.file(RecordNo(d.record.into()))?;
    let (type_code, name) = d.kind.attribute();
    let stream = Stream::open(volume, &file, type_code, name)?
        .ok_or_else(|| Error::damaged("The attribute is gone"))?;
    digest(&stream)
}
