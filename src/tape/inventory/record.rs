//! A set as the inventory has it.

use super::super::label::{Id, LabelKind};
use super::super::part::PartMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VERSION: u32 = 1;
/// More cartridges than a set ever has.
const MOST_PARTS: usize = 10_000;
/// More files of the stream than a cartridge ever has.
const MOST_FILES: usize = 64;

/// What a set is a backup of: the facts of its Head record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetFacts {
    /// RFC 3339, UTC.
    pub created: String,
    /// Program that made it.
    pub program: String,
    /// What was read: path as it was given.
    pub source: String,
    /// Its length in bytes.
    pub source_bytes: u64,
    /// Its model.
    #[serde(default)]
    pub model: Option<String>,
    /// Its serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// Digest of the plan.
    #[serde(default)]
    pub plan: String,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    /// Version of this file.
    pub version: u32,
    /// Its id, which is that of the archive.
    pub set: Id,
    /// Bytes of a stream block.
    pub block_bytes: u32,
    /// What it is a backup of; none until its first cartridge was seen.
    #[serde(default)]
    pub facts: Option<SetFacts>,
    /// True when its end is on the last cartridge; false when the set is not
    /// finished; none until that was seen.
    #[serde(default)]
    pub complete: Option<bool>,
    /// Cartridges by their number in the set.
    pub parts: BTreeMap<u32, PartMap>,
}

impl SetRecord {
    pub(super) fn new(set: Id, block_bytes: u32) -> Self {
        Self {
            version: VERSION,
            set,
            block_bytes,
            facts: None,
            complete: None,
            parts: BTreeMap::new(),
        }
    }

    /// Bytes of the stream on the cartridges that are known.
    pub fn stream_bytes(&self) -> u64 {
        let of = |p: &PartMap| p.end().saturating_sub(p.start());
        self.parts.values().fold(0, |n, p| n.saturating_add(of(p)))
    }

    /// Numbers of cartridges that are missing, as far as that can be told.
    pub fn missing(&self) -> Vec<u32> {
        let last = self.parts.last_key_value();
        let end = last.map_or(0, |(n, p)| n.saturating_add(p.continued.into()));
        (1..=end)
            .filter(|n| !self.parts.contains_key(n))
            .take(MOST_PARTS)
            .collect()
    }

    pub(super) fn take(&mut self, map: &PartMap, facts: Option<&SetFacts>, complete: Option<bool>) {
        self.block_bytes = map.block_bytes();
        if let Some(f) = facts {
            self.facts = Some(f.clone());
        }
        let sequence = map.sequence();
        self.parts.insert(sequence, map.clone());
        if map.continued {
            // It is for a later cartridge to say that the set is complete.
            if self
                .parts
                .last_key_value()
                .is_some_and(|(n, _)| *n == sequence)
            {
                self.complete = complete.filter(|c| !c);
            }
        } else {
            // Nothing can stand behind the last one.
            self.parts.retain(|n, _| *n <= sequence);
            self.complete = complete;
        }
    }

    /// What is wrong with it. It was read from a file that anybody may have
    /// written, and the arithmetic of [`PartMap`] relies on it.
    pub(super) fn check(&self, id: Id) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!(
                "has version {}, this program reads {VERSION}",
                self.version
            ));
        }
        if self.set != id {
            return Err("is about another set".into());
        }
        if self.parts.len() > MOST_PARTS {
            return Err(format!("lists {} cartridges", self.parts.len()));
        }
        for (n, p) in &self.parts {
            sound(p).map_err(|what| format!("lists cartridge {n}, which {what}"))?;
            if p.set() != Some(id) || p.sequence() != *n || p.block_bytes() != self.block_bytes {
                return Err(format!("lists cartridge {n}, which belongs elsewhere"));
            }
        }
        Ok(())
    }
}

fn sound(p: &PartMap) -> Result<(), &'static str> {
    // What cannot be encoded breaks a rule of labels.
    p.label.encode().map_err(|_| "has an impossible label")?;
    if p.label.kind != LabelKind::Label || p.files.len() > MOST_FILES {
        return Err("has an impossible label or too many files");
    }
    let block = u64::from(p.block_bytes());
    let (mut object, mut at) = (2, p.start());
    for f in &p.files {
        if f.first_object < object || f.stream_offset != at || f.blocks == 0 {
            return Err("has files that do not follow each other");
        }
        (object, at) = f
            .first_object
            .checked_add(f.blocks)
            .zip(f.blocks.checked_mul(block).and_then(|n| at.checked_add(n)))
            .ok_or("holds more than can be")?;
    }
    Ok(())
}
