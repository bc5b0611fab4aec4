//! Holding a source still before it is read: the quiet period and the snapshot
//! (`docs/snapshot.md`).

use super::left::tell;
use super::place::{Places, ReadPlace};
use super::unit::is_unit;
use crate::archive::{SnapshotInfo, Stillness};
use crate::device::guard::{DevNo, Stack, System, device_at};
use crate::device::{OpenOptions, SharedSource, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::iscsi::without_secret;
use crate::observe::{Observer, warning};
use crate::snapshot::counter::Counters;
use crate::snapshot::quiet::{Clock, Counter, Monotonic, POLL, Patience, Quiet, Seen, wait};
use crate::snapshot::{
    Choice, Entry, Held, Made, Name, Provider, Record, Records, Subject, Watch, Wishes, provider,
};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So long nothing may be written when nobody says.
pub const QUIET: Duration = Duration::from_secs(3);
/// So long is waited for that.
pub const TIMEOUT: Duration = Duration::from_secs(80);
/// Time between two looks at a snapshot while it is read.
const PULSE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Clone, Debug)]
pub struct StillOptions {
    /// The way to a snapshot; when nobody says, one is taken of a source that is
    /// mounted writable, if that can be.
    pub choice: Option<Choice>,
    /// How long it must be quiet; when nobody says, [`QUIET`] before a snapshot.
    pub quiet: Option<Duration>,
    /// How long to wait for that.
    pub timeout: Duration,
    /// A write between wait and snapshot repeats both.
    pub strict: bool,
    /// What the user says about snapshots.
    pub wishes: Wishes,
    /// The snapshot is not to be deleted.
    pub keep: bool,
    /// A source that others write is read as it is.
    pub live: bool,
    /// Where snapshots are recorded.
    pub records: Option<Records>,
}

/// A source that is held still.
pub struct Still {
    held: Option<Held>,
    source: PathBuf,
    /// What was looked at before anything was waited for.
    before: Option<Before>,
    /// What was done for that, for the archive.
    pub facts: Option<Stillness>,
}

/// The source as it was found at first.
#[derive(Clone, Copy)]
struct Before {
    bytes: u64,
    id: Option<Id>,
}

/// Which file or device a path leads to. Files by the numbers that `stat` gives: those
/// of Btrfs tell subvolumes, and so a snapshot from what it is of, apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    /// File system and inode.
    File(u64, u64),
    /// Numbers of a block device, and the kernel's number of its medium, which is
    /// another one whenever a loop device is attached.
    Block(DevNo, Option<u64>),
}

impl Id {
    fn of(path: &Path) -> Option<Self> {
        if let Some(dev) = device_at(path) {
            return Some(Self::Block(dev, Stack::new("/sys").medium(dev)));
        }
        let meta = path.metadata().ok()?;
        Some(Self::File(meta.dev(), meta.ino()))
    }
}

/// Looks now and then whether a snapshot is still good.
#[derive(Clone)]
pub struct Pulse {
    watch: Watch,
    last: Arc<Mutex<Instant>>,
}

impl Pulse {
    /// Looks, when it is time or when `now` says so.
    pub fn beat(&self, now: bool) -> Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !now && last.elapsed() < PULSE {
            return Ok(());
        }
        let done = self.watch.check();
        *last = Instant::now();
        done
    }
}

/// A snapshot that can be taken, and is recorded already: nothing must be written
/// between the end of the wait and the snapshot.
struct Prepared {
    provider: Box<dyn Provider>,
    record: Record,
    entry: Option<Entry>,
}

/// Is there time for such a period at all?
pub fn check_times(quiet: Duration, timeout: Duration) -> Result<()> {
    if quiet < timeout || quiet.is_zero() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "It cannot be quiet for {:.1} s within {:.1} s",
        quiet.as_secs_f64(),
        timeout.as_secs_f64()
    ))
    .hint("give a longer --quiet-timeout or a shorter --quiet"))
}

/// Waits for a quiet period and takes a snapshot, as is asked for.
pub fn hold_still(
    places: &mut Places,
    source: &Path,
    options: &StillOptions,
    observer: &dyn Observer,
) -> Result<Still> {
    let mut nothing = Still::without(source);
    if let Some(records) = &options.records {
        tell(records, observer);
    }
    let choice = match &options.choice {
        Some(c) => c.clone(),
        None if options.live || !in_use(source) => Choice::None,
        None => Choice::Auto,
    };
    let quiet = match (options.quiet, &choice) {
        (Some(q), _) => q,
        (None, Choice::None) => Duration::ZERO,
        (None, _) => QUIET,
    };
    check_times(quiet, options.timeout)?;
    let w = &options.wishes;
    if choice == Choice::None
        && (options.keep || w.dir.is_some() || w.size.is_some() || w.qmp.is_some())
    {
        return Err(Error::usage(
            "Options for a snapshot are given, and none is taken of this source",
        )
        .hint("say which with --snapshot, or leave them out"));
    }
    if choice == Choice::None && quiet.is_zero() {
        if options.strict {
            observer.note("--quiet-strict: nothing is waited for, since neither --quiet nor --snapshot is given and the source is not in use");
        }
        return Ok(nothing);
    }
    // What cannot be read at all is said before anything is waited for.
    let id = Id::of(source);
    let open = OpenOptions {
        live: options.live || choice != Choice::None,
        ..OpenOptions::default()
    };
    let bytes = places.open(source, open)?.opened.source.len();
    nothing.before = Some(Before { bytes, id });
    let subject = subject(places, source)?;
    let patience = Patience {
        quiet,
        timeout: options.timeout,
        poll: POLL.min(quiet / 4).max(Duration::from_millis(10)),
    };
    let mut prepared = prepare(&choice, &subject, options, observer).map_err(|e| {
        match options.choice {
            // The rule for sources in use decides; this was the way around it.
            None => refusal(source, &e).unwrap_or(e),
            Some(_) => e,
        }
    })?;
    let mut counter = match counters(&subject) {
        Ok(c) => Some(c),
        Err(e) if !quiet.is_zero() => return Err(forget(prepared, e)),
        Err(e) => {
            observer.note(&format!("Writes are not counted: {e}"));
            None
        }
    };
    let clock = Monotonic::default();
    let started = clock.now();
    let mut seen = Seen::default();
    loop {
        if observer.cancelled() {
            return Err(forget(prepared, Error::interrupted()));
        }
        let waited = match &mut counter {
            Some(c) => wait_told(&patience, started, seen, &clock, c, observer),
            None => Ok(None),
        };
        let waited = match waited {
            Ok(w) => w,
            Err(e) => return Err(forget(prepared, e)),
        };
        let mut facts = facts(&patience, waited.as_ref(), counter.as_ref());
        let Some(p) = prepared else {
            return Ok(Still {
                facts: Some(facts),
                ..nothing
            });
        };
        let mut late = None;
        let held = Held::take(p.provider, p.record, p.entry, &mut || {
            if let (Some(c), Some(w)) = (&mut counter, &waited) {
                late = Some(c.sample()?.own_since(&w.last));
            }
            match observer.cancelled() {
                true => Err(Error::interrupted()),
                false => Ok(()),
            }
        })?;
        let is_self = is_source(&subject, id, held.made());
        if held.kind() == "command" && is_self {
            return Err(
                Error::refused("What is named as the snapshot is the source itself")
                    .of(held.made().place.clone()),
            );
        }
        facts.late_writes = late;
        facts.snapshot = Some(SnapshotInfo {
            provider: held.kind().into(),
            name: held.name().to_string(),
            label: held.made().label.clone(),
            // Only what is all of the source, and not it, can be named instead of it.
            place: (held.made().part.is_none_or(|p| p.0 == 0) && !is_self)
                .then(|| without_secret(&held.made().place)),
            taken: super::now(),
            naa: held.made().naa.clone(),
        });
        match late {
            Some(n) if n > 0 && options.strict => {
                let command = (options.records.as_ref()).map(|r| r.command(held.name()));
                held.end(false).map_err(|e| match command {
                    Some(c) => e.hint(format!("`{c}` removes the snapshot that is left")),
                    None => e,
                })?;
                seen = waited.map_or(seen, |w| w.seen);
                seen.writes += n;
                seen.last = Some(clock.now());
                prepared = prepare(&choice, &subject, options, observer)?;
            }
            _ => {
                if let Some(n) = late.filter(|n| *n > 0) {
                    let what = if n == 1 { "write" } else { "writes" };
                    let when = match quiet.is_zero() {
                        true => "while the snapshot was made",
                        false => {
                            "between the end of the quiet period and the end of the snapshot call"
                        }
                    };
                    let text = format!("{n} {what} came {when}");
                    observer.warn(warning("late-writes", text));
                }
                return Ok(Still {
                    held: Some(held),
                    facts: Some(facts),
                    ..nothing
                });
            }
        }
    }
}

/// True when the snapshot is read where the source is: right for a file that QEMU does
/// not write any more, and wrong when a program of the user's says so.
fn is_source(subject: &Subject, id: Option<Id>, made: &Made) -> bool {
    match &subject.unit {
        Some(_) => made.place == subject.text,
        None => id.is_some() && Id::of(Path::new(&made.place)) == id,
    }
}

/// A file, a block device or a logical unit.
fn subject(places: &mut Places, source: &Path) -> Result<Subject> {
    match source.to_str().filter(|t| is_unit(t)) {
        Some(text) => Ok(Subject::of_unit(text, places.unit(text)?.unit)),
        None => Subject::of_path(source),
    }
}

fn counters(subject: &Subject) -> Result<Counters> {
    match (&subject.unit, &subject.path) {
        (Some(u), _) => Counters::of_unit(u.clone()),
        (None, Some(p)) => Counters::of_path(p),
        (None, None) => Err(Error::usage("There is nothing to count writes of")),
    }
}

/// True when a file or device is mounted writable, or its swap is in use.
fn in_use(source: &Path) -> bool {
    let unit = source.to_str().is_some_and(is_unit);
    !unit && System::read().is_ok_and(|s| s.check_source(source, false).is_err())
}

/// The refusal of a source in use, with why a snapshot is no way out.
fn refusal(source: &Path, why: &Error) -> Option<Error> {
    let e = System::read().ok()?.check_source(source, false).err()?;
    Some(
        Error::refused(e.message())
            .of(source.display().to_string())
            .hint(format!(
                "unmount it or remount it read-only, name a way to a snapshot with --snapshot, or accept a picture that may not be of one moment with --live ({})",
                why.message()
            )),
    )
}

/// Nothing was taken, and nothing is to be remembered.
fn forget(prepared: Option<Prepared>, e: Error) -> Error {
    if let Some(entry) = prepared.and_then(|p| p.entry) {
        // A record that stays is named at the next run.
        let _ = entry.remove();
    }
    e
}

fn prepare(
    choice: &Choice,
    subject: &Subject,
    options: &StillOptions,
    observer: &dyn Observer,
) -> Result<Option<Prepared>> {
    if *choice == Choice::None {
        return Ok(None);
    }
    // Those of other runs that are recorded here are told of already, or live.
    let known = options.records.as_ref().and_then(|r| r.list().ok());
    let known: Vec<Name> = known.map_or_else(Vec::new, |(all, _)| {
        all.into_iter().map(|(r, _)| r.name).collect()
    });
    let name = Name::new()?;
    let (mut provider, data) = provider(choice, subject, &options.wishes, &name)?;
    match provider.strays() {
        Ok(all) => {
            for s in all.iter().filter(|s| !known.contains(&s.name)) {
                let text = format!(
                    "There is a snapshot that no record here knows: {}; unless another run uses it, `{}` removes it",
                    s.label, s.remove
                );
                observer.warn(warning("stale-snapshot", text));
            }
        }
        Err(e) => observer.note(&format!("Old snapshots were not looked for: {e}")),
    }
    let record = Record {
        schema: 1,
        name,
        provider: provider.kind().into(),
        source: match &subject.unit {
            Some(u) => u.name().to_string(),
            None => match &subject.path {
                Some(p) => p.display().to_string(),
                None => subject.text.clone(),
            },
        },
        created: super::now(),
        kept: false,
        made: None,
        data,
    };
    let entry = match options.records.as_ref().map(|r| r.begin(&record)) {
        Some(Ok(e)) => Some(e),
        Some(Err(e)) => {
            let text = format!(
                "The snapshot is not recorded, so the next run does not know of it should this one be killed: {e}"
            );
            observer.warn(warning("snapshot-record", text));
            None
        }
        None => {
            let text = "Nothing says where snapshots are recorded (XDG_STATE_HOME, HOME or --inventory), so the next run does not know of this one should it be left";
            observer.warn(warning("snapshot-record", text));
            None
        }
    };
    Ok(Some(Prepared {
        provider,
        record,
        entry,
    }))
}

/// Waits, and shows how far it is.
fn wait_told(
    patience: &Patience,
    started: Duration,
    before: Seen,
    clock: &dyn Clock,
    counter: &mut Counters,
    observer: &dyn Observer,
) -> Result<Option<Quiet>> {
    observer.note(&format!("Writes are counted: {}", counter.name()));
    if !patience.quiet.is_zero() {
        observer.begin("quiet period", None);
    }
    let done = wait(patience, started, before, clock, counter, &mut |w| {
        observer.waiting(w);
        match observer.cancelled() {
            true => Err(Error::interrupted()),
            false => Ok(()),
        }
    });
    if !patience.quiet.is_zero() {
        observer.end();
    }
    done.map(Some).map_err(|e| match e.kind() {
        // What it was waiting for failed because it is to end.
        _ if observer.cancelled() => Error::interrupted(),
        ErrorKind::NotQuiet => e.hint(format!(
            "nothing was written; stop what writes, or give other times with --quiet and --quiet-timeout ({})",
            counter.name()
        )),
        _ => e,
    })
}

fn facts(patience: &Patience, waited: Option<&Quiet>, counter: Option<&Counters>) -> Stillness {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let waited = waited.filter(|_| !patience.quiet.is_zero());
    Stillness {
        quiet_ms: waited.map(|w| ms(w.quiet)),
        waited_ms: waited.map(|w| ms(w.waited)),
        writes: waited.map(|w| w.seen.writes),
        late_writes: None,
        counter: counter.map(Counter::name),
        snapshot: None,
    }
}

impl Still {
    /// Nothing was done.
    pub fn without(source: &Path) -> Self {
        Self {
            held: None,
            source: source.to_path_buf(),
            before: None,
            facts: None,
        }
    }

    /// The snapshot, if one was taken.
    pub fn made(&self) -> Option<&Made> {
        self.held.as_ref().map(Held::made)
    }

    /// Its name.
    pub fn name(&self) -> Option<&Name> {
        self.held.as_ref().map(Held::name)
    }

    /// For whoever reads it for long.
    pub fn pulse(&self) -> Option<Pulse> {
        self.held.as_ref().map(|h| Pulse {
            watch: h.watch(),
            last: Arc::new(Mutex::new(Instant::now())),
        })
    }

    /// The path that is read: the snapshot's, else the source's.
    pub fn path(&self) -> &Path {
        self.made().map_or(&self.source, |m| Path::new(&m.place))
    }

    /// Opens the snapshot, or the source where there is none. What is known of the
    /// source stays what is known of the source.
    pub fn open(&self, places: &mut Places, options: OpenOptions) -> Result<ReadPlace> {
        if let Some(id) = self.before.and_then(|b| b.id)
            && Id::of(&self.source) != Some(id)
        {
            return Err(Error::refused(
                "The path leads to another file or device than when the wait began, which nobody watched",
            )
            .of(self.source.display().to_string())
            .hint("run it again, with a path that stays"));
        }
        let Some(made) = self.made() else {
            return places.open(&self.source, options);
        };
        let live = OpenOptions {
            live: true,
            ..options
        };
        let mut original = places.open(&self.source, live)?.opened.identity;
        let of_snapshot = OpenOptions {
            sector_size: Some(original.sector_size),
            ..live
        };
        let mut place = places.open(self.path(), of_snapshot)?;
        let opened = &mut place.opened;
        opened.usage.clear();
        // The snapshot is of a moment between these two; the source may have grown or
        // shrunk since, and an array's unit may be larger than what it is a copy of.
        let before = self.before.map_or(original.size, |b| b.bytes);
        let (least, most) = (before.min(original.size), before.max(original.size));
        let there = opened.source.len();
        let (start, len) = made.part.unwrap_or((0, most.min(there)));
        if start.checked_add(len).is_none_or(|end| end > there) {
            return Err(Error::refused(format!(
                "The source is to be {len} bytes from byte {start} on of the snapshot, which has {there}"
            ))
            .of(made.label.clone()));
        }
        if len < least {
            return Err(Error::refused(format!(
                "The snapshot has {len} bytes, fewer than the source's {least}"
            ))
            .of(made.label.clone()));
        }
        if (start, len) != (0, there) {
            let name = opened.source.name().to_string();
            let part = Window::new(opened.source.clone(), start, len, name)?;
            let part: SharedSource = Arc::new(part);
            opened.source = part;
        }
        original.size = len;
        opened.identity = original;
        Ok(place)
    }

    /// Why reading failed: a snapshot that is worth nothing any more fails in many ways.
    pub fn reason(&self, e: Error) -> Error {
        let lost = self.pulse().and_then(|p| p.beat(true).err());
        match e.kind() {
            ErrorKind::Interrupted => e,
            _ => lost.unwrap_or(e),
        }
    }

    /// Deletes the snapshot, or lets it be. Nothing may read it any more.
    pub fn end(self, keep: bool) -> Result<()> {
        self.held.map_or(Ok(()), |h| h.end(keep))
    }
}
