//! What this host remembers of tapes, as the verbs use it. It is a
//! convenience: what cannot be read or written is told, and nothing fails.

use super::verify::lookup;
use crate::archive::{Archive, Head, ReadBack};
use crate::error::{Error, Result};
use crate::observe::{Observer, warning};
use crate::tape::{Digests, Id, Inventory, PartMap, SetFacts, SetRecord};
use std::path::Path;
use std::sync::Arc;

/// The inventory, or why there is none.
#[derive(Clone, Default)]
pub struct Recall {
    inventory: Option<Inventory>,
}

/// What is known about data that has no digest in the archive itself.
#[derive(Clone)]
pub struct Seen {
    /// Digests of when it was read back.
    pub digests: Arc<Digests>,
    /// True when there is such data and nobody has read it back.
    pub never_checked: bool,
}

impl Seen {
    /// As readers ask for them; none where the archive has all of them.
    pub fn read_back(&self) -> Option<ReadBack> {
        (!self.digests.is_empty()).then(|| lookup(&self.digests))
    }
}

impl Recall {
    /// The inventory of a directory, or of the usual one. Without a place for
    /// it nothing is remembered.
    pub fn open(dir: Option<&Path>) -> Self {
        Self {
            inventory: Inventory::open(dir).ok(),
        }
    }

    /// All cartridges that are known.
    pub fn parts(&self) -> Vec<PartMap> {
        let sets = self.sets().into_iter();
        sets.flat_map(|s| s.parts.into_values()).collect()
    }

    /// The cartridges that nobody writes on any more: the last one of an
    /// unfinished set may hold more by now.
    pub fn settled(&self) -> Vec<PartMap> {
        let last_of = |s: &SetRecord| match s.complete {
            Some(false) => s.parts.last_key_value().map(|(n, _)| *n),
            _ => None,
        };
        let settled = |s: SetRecord| {
            let last = last_of(&s);
            let parts = s.parts.into_iter();
            parts.filter_map(move |(n, p)| (Some(n) != last).then_some(p))
        };
        self.sets().into_iter().flat_map(settled).collect()
    }

    /// The unfinished sets that were begun with this plan, by its digest.
    pub fn unfinished(&self, plan: &str) -> Vec<Id> {
        self.sets()
            .into_iter()
            .filter(|s| s.complete == Some(false))
            .filter(|s| s.facts.as_ref().is_some_and(|f| f.plan == plan))
            .map(|s| s.set)
            .collect()
    }

    fn sets(&self) -> Vec<SetRecord> {
        let all = self.inventory.as_ref().and_then(|i| i.list().ok());
        all.map_or_else(Vec::new, |l| l.sets)
    }

    /// Names of the cartridges that are labelled and hold no set.
    pub fn blank_names(&self) -> Vec<String> {
        let all = self.inventory.as_ref().and_then(|i| i.list().ok());
        all.map_or_else(Vec::new, |l| l.blank.into_iter().map(|b| b.name).collect())
    }

    /// What is known about the data of an archive.
    pub fn seen(&self, archive: &Archive, observer: &dyn Observer) -> Seen {
        let id = archive.head().id.parse().unwrap_or(Id([0; 16]));
        let mut digests = Digests::new(id);
        if archive.has_unseen()
            && let Some(i) = &self.inventory
        {
            match i.digests(id) {
                Ok(d) => digests = d,
                Err(e) => observer.warn(warning("inventory", words(&e))),
            }
        }
        Seen {
            never_checked: archive.has_unseen() && digests.is_empty(),
            digests: Arc::new(digests),
        }
    }

    /// Remembers the cartridges of a set, in their order. `complete`: the end of
    /// the set is on the last one; else the set is not finished.
    pub fn record(
        &self,
        parts: &[PartMap],
        facts: Option<&SetFacts>,
        complete: bool,
        observer: &dyn Observer,
    ) {
        let done = self.known().and_then(|i| {
            for (n, p) in (1..).zip(parts) {
                let last = n == parts.len();
                i.record(p, facts, (last || !p.continued).then_some(complete))?;
            }
            Ok(())
        });
        if let Err(e) = done {
            let what = format!("The set is not remembered: {}", words(&e));
            observer.warn(warning("inventory", what));
        }
    }

    /// Keeps digests. False when that failed, which is told.
    pub fn store(&self, digests: &Digests, observer: &dyn Observer) -> bool {
        match self.known().and_then(|i| i.store_digests(digests)) {
            Ok(()) => true,
            Err(e) => {
                let what = format!("The digests are not kept: {}", words(&e));
                observer.warn(warning("inventory", what));
                false
            }
        }
    }

    fn known(&self) -> Result<&Inventory> {
        self.inventory.as_ref().ok_or_else(|| {
            Error::usage("neither XDG_STATE_HOME nor HOME says where the tape inventory is")
        })
    }
}

fn words(e: &Error) -> String {
    match std::error::Error::source(e) {
        Some(cause) => format!("{e} ({cause})"),
        None => e.to_string(),
    }
}

/// The facts of a set that its Head record tells.
pub fn facts(head: &Head) -> SetFacts {
    SetFacts {
        created: head.created.clone(),
        program: head.program.clone(),
        source: head.source.path.clone(),
        source_bytes: head.source.bytes,
        model: head.source.model.clone(),
        serial: head.source.serial.clone(),
        plan: head.plan.clone(),
    }
}
