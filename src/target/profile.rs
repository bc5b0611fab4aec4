//! `--profile NAME[,FAULT]…`: which copy manager the target impersonates, and
//! what it is to do wrong (`docs/copy.md` section 6).

use crate::copy::profile::{self, Profile};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What happens inside a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The source cannot read: MEDIUM ERROR.
    Source,
    /// The destination cannot write: MEDIUM ERROR.
    Destination,
    /// The destination writes a block and reports early warning.
    EarlyWarning,
    /// The source (or else the destination) has a unit attention.
    Attention,
    /// The destination is BUSY.
    Busy,
    /// The destination is reserved by somebody else.
    Reserved,
}

/// What happens, where and how often.
#[derive(Debug)]
pub struct SegmentFault {
    /// Only in this command, counted from 1; none is any.
    command: Option<u64>,
    /// Number of the segment.
    pub segment: usize,
    /// Bytes of the segment that are moved before.
    pub at: u64,
    /// What happens.
    pub what: What,
    left: AtomicU32,
}

/// Something done to a whole command.
#[derive(Debug)]
struct CommandFault {
    kind: Kind,
    left: AtomicU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Busy,
    Attention,
    LostId,
    DiscardHeld,
}

/// Everything that was asked for.
#[derive(Debug)]
pub struct CopyProfile {
    /// The copy manager.
    pub profile: &'static Profile,
    segments: Vec<SegmentFault>,
    commands: Vec<CommandFault>,
    late: Duration,
    count: AtomicU64,
}

impl Default for CopyProfile {
    fn default() -> Self {
        Self::of(profile::find(profile::DEFAULT).unwrap_or(&profile::all()[0]))
    }
}

fn claim(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
}

impl CopyProfile {
    /// A copy manager that does nothing wrong.
    pub fn of(profile: &'static Profile) -> Self {
        Self {
            profile,
            segments: Vec::new(),
            commands: Vec::new(),
            late: Duration::ZERO,
            count: AtomicU64::new(0),
        }
    }

    /// From the command line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = text.split(',');
        let name = words.next().unwrap_or_default();
        let found = profile::find(name).ok_or_else(|| {
            let names: Vec<_> = profile::all().iter().map(|p| p.name).collect();
            Error::usage(format!("There is no profile {name:?}"))
                .hint(format!("the profiles are {}", names.join(", ")))
        })?;
        let mut out = Self::of(found);
        for word in words {
            out.add(word).ok_or_else(|| {
                Error::usage(format!("The fault {word:?} is not understood")).hint(
                    "faults look like fail=segment:3@65536:source, fail=command:2/segment:0@0:busy*3, \
                     busy=2, attention=1, lost-id=1, discard-held=1, late-status=500",
                )
            })?;
        }
        Ok(out)
    }

    fn add(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        let kind = match key {
            "fail" => {
                self.segments.push(segment_fault(value)?);
                return Some(());
            }
            "late-status" => {
                self.late = Duration::from_millis(value.parse::<u32>().ok()?.into());
                return Some(());
            }
            "busy" => Kind::Busy,
            "attention" => Kind::Attention,
            "lost-id" => Kind::LostId,
            "discard-held" => Kind::DiscardHeld,
            _ => return None,
        };
        let left = AtomicU32::new(value.parse().ok()?);
        self.commands.push(CommandFault { kind, left });
        Some(())
    }

    fn command(&self, kind: Kind) -> bool {
        let mut all = self.commands.iter().filter(|f| f.kind == kind);
        all.any(|f| claim(&f.left))
    }

    /// True when this EXTENDED COPY is to be answered with BUSY.
    pub fn busy(&self) -> bool {
        self.command(Kind::Busy)
    }

    /// True when it is to be answered with a unit attention.
    pub fn attention(&self) -> bool {
        self.command(Kind::Attention)
    }

    /// True when its results are to be forgotten.
    pub fn loses_id(&self) -> bool {
        self.command(Kind::LostId)
    }

    /// True when its held data is to be discarded.
    pub fn discards_held(&self) -> bool {
        self.command(Kind::DiscardHeld)
    }

    /// How long its status is kept back.
    pub fn late_status(&self) -> Duration {
        self.late
    }

    /// Counts a command of so many segments, and gives what fails in it.
    pub fn arm(&self, segments: usize) -> Option<&SegmentFault> {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut all = self.segments.iter();
        all.find(|f| {
            f.segment < segments && f.command.is_none_or(|c| c == number) && claim(&f.left)
        })
    }
}

/// `[command:C/]segment:K@N:WHAT[*TIMES]`
fn segment_fault(text: &str) -> Option<SegmentFault> {
    let (text, times) = match text.split_once('*') {
        Some((t, n)) => (t, n.parse().ok()?),
        None => (text, 1),
    };
    let (command, text) = match text.strip_prefix("command:") {
        Some(t) => {
            let (c, t) = t.split_once('/')?;
            (Some(c.parse().ok()?), t)
        }
        None => (None, text),
    };
    let (segment, rest) = text.strip_prefix("segment:")?.split_once('@')?;
    let (at, what) = rest.split_once(':')?;
    Some(SegmentFault {
        command,
        segment: segment.parse().ok()?,
        at: at.parse().ok()?,
        what: match what {
            "source" => What::Source,
            "destination" | "tape" => What::Destination,
            "early-warning" => What::EarlyWarning,
            "attention" => What::Attention,
            "busy" => What::Busy,
            "reserved" => What::Reserved,
            _ => return None,
        },
        left: AtomicU32::new(times),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_counted() {
        let p = CopyProfile::parse(
            "router-spc2,fail=segment:3@65536:source,fail=command:2/segment:0@0:busy*2,lost-id=1,late-status=5",
        )
        .unwrap();
        assert_eq!(p.profile.name, "router-spc2");
        assert!(p.arm(3).is_none());
        let f = p.arm(4).unwrap();
        assert_eq!((f.segment, f.at, f.what), (3, 65_536, What::Source));
        assert!(p.arm(4).is_none());
        assert!(p.loses_id() && !p.loses_id() && !p.busy());
        assert_eq!(p.late_status(), Duration::from_millis(5));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for bad in [
            "nobody",
            "tiny,fail",
            "tiny,fail=segment:1",
            "tiny,fail=segment:1@x:source",
            "tiny,fail=segment:1@0:gremlin",
            "tiny,busy=often",
            "tiny,",
        ] {
            assert!(CopyProfile::parse(bad).is_err(), "{bad}");
        }
        assert!(CopyProfile::parse("full-ntbak").is_ok());
    }
}
