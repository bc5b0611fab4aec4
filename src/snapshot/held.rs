//! A snapshot that is deleted on every way out: at its end, on an error, while a
//! panic unwinds.

use super::provider::{Made, Name, Provider};
use super::record::{Entry, Record};
use crate::error::Result;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A snapshot that exists.
pub struct Held {
    inner: Arc<Mutex<Inner>>,
    made: Made,
    kind: &'static str,
    name: Name,
}

struct Inner {
    provider: Box<dyn Provider>,
    record: Record,
    entry: Option<Entry>,
    over: bool,
}

/// Looks whether the snapshot is still what it was.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<Inner>>);

fn lock(m: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn save(&self) -> Result<()> {
        self.entry.as_ref().map_or(Ok(()), |e| e.save(&self.record))
    }

    /// Once: who fails is told of, and the record stays for the next attempt.
    fn delete(&mut self) -> Result<()> {
        self.over = true;
        self.provider.delete(&self.record.data)?;
        self.entry.take().map_or(Ok(()), Entry::remove)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.over {
            // What fails here is found by its record at the next run.
            let _ = self.delete();
        }
    }
}

impl Held {
    /// Takes the snapshot and finds out where it is. Whatever fails, nothing is left.
    /// `record` has the data of `prepare`, and `entry` its file; `taken` is called as
    /// soon as the snapshot exists.
    pub fn take(
        provider: Box<dyn Provider>,
        record: Record,
        entry: Option<Entry>,
        taken: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let (kind, name) = (provider.kind(), record.name.clone());
        let mut inner = Inner {
            provider,
            record,
            entry,
            over: false,
        };
        let made = match inner.make(taken) {
            Ok(m) => m,
            Err(e) => {
                return Err(match inner.delete() {
                    Ok(()) => e,
                    Err(left) => e.hint(format!("{name} is left: {left}")),
                });
            }
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            made,
            kind,
            name,
        })
    }

    /// Where it is read.
    pub fn made(&self) -> &Made {
        &self.made
    }

    /// Its provider.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// For whoever reads it.
    pub fn watch(&self) -> Watch {
        Watch(self.inner.clone())
    }

    /// Deletes it, or lets it be. Nothing may read it any more.
    pub fn end(self, keep: bool) -> Result<()> {
        let mut inner = lock(&self.inner);
        if !keep {
            return inner.delete();
        }
        inner.over = true;
        inner.record.kept = true;
        inner.save()
    }
}

impl Inner {
    fn make(&mut self, taken: &mut dyn FnMut() -> Result<()>) -> Result<Made> {
        let created = self.provider.create(&mut self.record.data);
        let created = created.and_then(|()| taken());
        // Also what a failed attempt learned is needed to delete it.
        self.save()?;
        created?;
        let made = self.provider.describe(&self.record.data)?;
        self.record.made = Some(made.clone());
        self.save()?;
        Ok(made)
    }
}

impl Watch {
    /// Fails when the snapshot is worth nothing any more.
    pub fn check(&self) -> Result<()> {
        let inner = &mut *lock(&self.0);
        match inner.over {
            true => Ok(()),
            false => inner.provider.check(&inner.record.data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::snapshot::Records;
    use serde_json::Value;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    /// Counts what is done to it.
    #[derive(Clone, Default)]
    struct Mock {
        made: Arc<AtomicU32>,
        deleted: Arc<AtomicU32>,
        fails: Option<&'static str>,
    }

    impl Mock {
        fn step(&self, what: &str) -> Result<()> {
            match self.fails == Some(what) {
                true => Err(Error::refused(format!("{what} fails"))),
                false => Ok(()),
            }
        }
    }

    impl Provider for Mock {
        fn kind(&self) -> &'static str {
            "mock"
        }
        fn prepare(&mut self, _: &Name) -> Result<Value> {
            Ok(Value::Null)
        }
        fn create(&mut self, data: &mut Value) -> Result<()> {
            *data = 7.into();
            self.made.fetch_add(1, SeqCst);
            self.step("create")
        }
        fn describe(&mut self, data: &Value) -> Result<Made> {
            assert_eq!(data, 7);
            self.step("describe")?;
            Ok(Made {
                place: "x".into(),
                part: None,
                label: "x".into(),
                naa: None,
            })
        }
        fn delete(&mut self, data: &Value) -> Result<()> {
            assert_eq!(data, 7, "what create learned is known");
            self.deleted.fetch_add(1, SeqCst);
            self.step("delete")
        }
    }

    fn take(mock: &Mock, records: &Records) -> Result<Held> {
        let record = Record {
            schema: 1,
            name: Name::new()?,
            provider: "mock".into(),
            source: "s".into(),
            created: String::new(),
            kept: false,
            made: None,
            data: Value::Null,
        };
        let entry = records.begin(&record)?;
        Held::take(Box::new(mock.clone()), record, Some(entry), &mut || Ok(()))
    }

    #[test]
    fn deleted_on_every_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().into());
        let mock = Mock::default();
        let deleted = || mock.deleted.load(SeqCst);
        let left = || records.list().unwrap().0;
        // The end.
        let held = take(&mock, &records).unwrap();
        assert!(left()[0].1 && left()[0].0.made.is_some());
        held.end(false).unwrap();
        assert_eq!((deleted(), left().len()), (1, 0));
        // An error somewhere: it is dropped.
        drop(take(&mock, &records).unwrap());
        assert_eq!((deleted(), left().len()), (2, 0));
        // A panic.
        let unwound = std::panic::catch_unwind(|| {
            let _held = take(&mock, &records).unwrap();
            panic!("on purpose");
        });
        assert!(unwound.is_err());
        assert_eq!((deleted(), left().len()), (3, 0));
        // Kept: named by its record.
        let held = take(&mock, &records).unwrap();
        held.end(true).unwrap();
        assert_eq!(deleted(), 3);
        assert!(left()[0].0.kept && !left()[0].1);
        records
            .lock(&left()[0].0.name)
            .unwrap()
            .unwrap()
            .remove()
            .unwrap();
        // Half made.
        for what in ["create", "describe"] {
            let mock = Mock {
                fails: Some(what),
                ..mock.clone()
            };
            let before = deleted();
            let e = take(&mock, &records).err().unwrap();
            assert!(e.to_string().contains(what), "{e}");
            assert_eq!((deleted(), left().len()), (before + 1, 0));
        }
        // It cannot be deleted: the record stays and tells.
        let mock = Mock {
            fails: Some("delete"),
            ..Mock::default()
        };
        let held = take(&mock, &records).unwrap();
        assert!(held.end(false).is_err());
        assert_eq!(mock.deleted.load(SeqCst), 1, "once");
        assert_eq!(left().len(), 1);
        assert!(!left()[0].1 && !left()[0].0.kept);
    }
}
