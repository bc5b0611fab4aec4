//! A test copy: a header and one disk block to the tape and back, compared by
//! the host.

use super::{Answer, Known, Offload, ProbeOptions, no, sentence};
use crate::copy::limits::segment;
use crate::copy::{Body, Cscd, HeaderWay, Limits, List, ListId, Segment};
use crate::error::{Error, ErrorKind, Result};
use crate::scsi::unit::{LONG, succeeded};
use crate::scsi::{Capacity, Data, Reach, Unit, op};
use crate::tape::{LABEL_BYTES, Label};
use serde::Serialize;

/// What a test copy showed.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Header and block stand on the tape as they should.
    pub to_tape: Answer,
    /// The copy manager passes over the header and takes the block from the tape.
    /// Missing when it offers no way to try.
    pub from_tape: Option<Answer>,
    /// It also wrote the block back to the disk, where it was.
    pub wrote_disk: bool,
    /// Bytes of the tape blocks that were used.
    pub block_bytes: u64,
    /// What the test left on the cartridge, if it could not take it away.
    pub left_behind: Option<String>,
}

impl Trial {
    /// What was tried and did not work is not possible.
    pub(super) fn correct(&self, row: &mut Offload) {
        if !self.to_tape.possible {
            row.backup = self.to_tape.clone();
        }
        if let Some(back) = self.from_tape.as_ref().filter(|b| !b.possible) {
            for answer in [&mut row.restore, &mut row.files] {
                // Why it is not even announced says more.
                if answer.possible {
                    *answer = back.clone();
                }
            }
        }
    }
}

/// The first bytes of the test header.
const MARK: &[u8] = b"ntbak test copy; nothing of value\n";

/// Does it. What a copy manager or drive refuses is in the answers; an error is
/// a refusal of ours, or a tape that cannot be handled.
pub(super) fn run(
    manager: &Unit,
    limits: &Limits,
    disk: &Known,
    tape: &Known,
    options: ProbeOptions,
) -> Result<Trial> {
    let Some(capacity) = disk.capacity else {
        return no("the disk is not ready");
    };
    let drive = Drive(tape.unit.careful());
    let place = drive.prepare(options.overwrite)?;
    let mut test = Test::plan(limits, capacity)?;
    test.cscds = vec![
        Cscd::disk(disk.address(limits)?, capacity.block_len),
        Cscd::tape(tape.address(limits)?),
    ];
    disk.unit
        .read_blocks(Reach::Long, test.lba, capacity.block_len, &mut test.data)?;

    let to_tape = Answer::of(test.write(manager, limits, &drive, place));
    let way_back = limits.has(segment::STREAM_TO_DISCARD);
    let from_tape = way_back.then(|| match to_tape.possible {
        true => Answer::of(test.read(manager, limits, &drive, place, options.write_disk)),
        false => Answer {
            possible: false,
            why: Some("nothing to read came to the tape".into()),
        },
    });
    let wrote_disk =
        way_back && to_tape.possible && options.write_disk && limits.has(segment::STREAM_TO_BLOCK);
    if wrote_disk {
        test.check_disk(&disk.unit, capacity.block_len)?;
    }
    let left_behind = drive.clean_up(place).err().map(|e| {
        let why = sentence(&e);
        format!("A test block is left on the cartridge ({why}): label it again before it is used")
    });
    Ok(Trial {
        to_tape,
        from_tape,
        wrote_disk,
        block_bytes: test.transfer.into(),
        left_behind,
    })
}

/// The test block: header, data, zeros.
struct Test {
    cscds: Vec<Cscd>,
    header: Vec<u8>,
    data: Vec<u8>,
    transfer: u32,
    lba: u64,
    blocks: u16,
}

impl Test {
    fn plan(limits: &Limits, disk: Capacity) -> Result<Self> {
        let fit = |n: u64| n <= 1 << 20;
        let block = u64::from(disk.block_len);
        let len = limits.data_unit().max(block);
        let header = match limits.header_way() {
            Some(HeaderWay::Inline) => limits.inline_unit().max(512),
            Some(HeaderWay::Embedded) => limits.data_unit().max(512),
            None => return no("no way for a header"),
        };
        let t = match limits.check_block(64 << 10) {
            Ok(()) => 64 << 10,
            Err(_) => limits.choose_block()?,
        };
        let blocks = len / block;
        if !fit(len) || !fit(header) || header + len > t || blocks > disk.blocks {
            return no("header and block do not fit one tape block");
        }
        let mut head = MARK.to_vec();
        head.resize(header as usize, b'.');
        Ok(Self {
            cscds: Vec::new(),
            header: head,
            data: vec![0; len as usize],
            transfer: u32::try_from(t).unwrap_or(u32::MAX),
            lba: disk.blocks - blocks,
            blocks: u16::try_from(blocks).unwrap_or(u16::MAX),
        })
    }

    fn send(&self, manager: &Unit, id: u8, segments: &[Segment], inline: &[u8]) -> Result<()> {
        let list = List {
            usage: ListId::Discard,
            cscds: &self.cscds,
            segments,
            inline,
        };
        manager.careful().extended_copy(&list.encode(id)?, LONG)
    }

    /// Backs up, and has the host look at the tape.
    fn write(&self, manager: &Unit, limits: &Limits, drive: &Drive, place: Place) -> Result<()> {
        drive.locate(place.object)?;
        let transfer = self.transfer;
        let (head, inline) = match limits.header_way() {
            Some(HeaderWay::Embedded) => (
                Body::Embedded {
                    transfer,
                    data: self.header.clone(),
                },
                &[][..],
            ),
            _ => (
                Body::Inline {
                    transfer,
                    offset: 0,
                    bytes: self.header.len() as u32,
                },
                self.header.as_slice(),
            ),
        };
        let mut segments = vec![
            Segment {
                cat: true,
                source: 0,
                destination: 1,
                body: head,
            },
            Segment {
                cat: false,
                source: 0,
                destination: 1,
                body: Body::BlockToStream {
                    hold: false,
                    transfer,
                    blocks: self.blocks,
                    lba: self.lba,
                },
            },
        ];
        let mark = Segment {
            cat: false,
            source: 0,
            destination: 1,
            body: Body::Filemarks {
                immediate: false,
                count: 1,
            },
        };
        let by_manager = limits.has(segment::FILEMARKS) && limits.segments >= 3;
        if by_manager {
            segments.push(mark);
        }
        self.send(manager, 1, &segments, inline)?;
        if !by_manager {
            drive.filemark()?;
        }
        drive.locate(place.object)?;
        let mut want = self.header.clone();
        want.extend(&self.data);
        want.resize(transfer as usize, 0);
        let found = drive.read(transfer as usize)?;
        if found.as_deref() != Some(want.as_slice()) {
            return wrong("the tape does not hold what was copied");
        }
        match drive.read(transfer as usize)? {
            None => Ok(()),
            Some(_) => wrong("there is more on the tape than was copied"),
        }
    }

    /// Restores: over the header, then the block.
    fn read(
        &self,
        manager: &Unit,
        limits: &Limits,
        drive: &Drive,
        place: Place,
        write_disk: bool,
    ) -> Result<()> {
        let (transfer, header) = (self.transfer, self.header.len() as u32);
        let back = match limits.has(segment::STREAM_TO_BLOCK) && write_disk {
            true => Body::StreamToBlock {
                hold: false,
                transfer,
                blocks: self.blocks,
                lba: self.lba,
            },
            false => Body::Discard {
                hold: false,
                transfer,
                bytes: self.data.len() as u32,
            },
        };
        drive.locate(place.object)?;
        let over = Body::Discard {
            hold: false,
            transfer,
            bytes: header,
        };
        let segments = [(true, over), (false, back)].map(|(cat, body)| Segment {
            cat,
            source: 1,
            destination: 0,
            body,
        });
        self.send(manager, 2, &segments, &[])?;
        // It read one tape block, so the filemark comes next.
        match drive.read(transfer as usize)? {
            None => Ok(()),
            Some(_) => wrong("the tape stands elsewhere than it should after the copy"),
        }
    }

    /// What the copy manager wrote to the disk has to be what was there.
    fn check_disk(&self, disk: &Unit, block_len: u32) -> Result<()> {
        let mut now = vec![0; self.data.len()];
        disk.read_blocks(Reach::Long, self.lba, block_len, &mut now)?;
        if now == self.data {
            return Ok(());
        }
        disk.write_blocks(Reach::Long, self.lba, block_len, &self.data)?;
        disk.synchronize_cache(Reach::Long)?;
        let at = self.lba.saturating_mul(block_len.into());
        Err(Error::new(
            ErrorKind::Mismatch,
            "The copy manager wrote something else back than it had read; the host has put it right",
        )
        .of(disk.name())
        .at(at))
    }
}

fn wrong<T>(why: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Mismatch, why))
}

/// Where on the cartridge the test goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    object: u32,
}

/// The few tape commands of the test.
struct Drive(Unit);

impl Drive {
    /// Finds the place: the beginning of a blank cartridge, or behind an empty
    /// label. Anything else is refused unless it may be lost.
    fn prepare(&self, overwrite: bool) -> Result<Place> {
        self.plain("REWIND", [op::REWIND, 0, 0, 0, 0, 0])?;
        let (object, held) = match self.first()? {
            First::Nothing => return Ok(Place { object: 0 }),
            First::Block(b) => match Label::decode(&b) {
                Ok(Some(l)) if l.part.is_none() => match self.nothing_behind()? {
                    true => return Ok(Place { object: 1 }),
                    false => (1, "something else behind its label"),
                },
                Ok(Some(_)) => (0, "a backup"),
                _ => (0, "something else"),
            },
            First::Other => (0, "something else"),
        };
        match overwrite {
            true => Ok(Place { object }),
            false => Err(Error::refused(format!("The cartridge holds {held}"))
                .of(self.0.name())
                .hint("use a blank cartridge or an empty labelled one, or --yes to lose what is on this one")),
        }
    }

    /// Leaves the cartridge as it was: a label and its filemark, or nothing.
    fn clean_up(&self, place: Place) -> Result<()> {
        self.locate(place.object)?;
        match place.object {
            0 => self.plain("ERASE", [op::ERASE_6, 0, 0, 0, 0, 0])?,
            _ => self.filemark()?,
        }
        self.plain("REWIND", [op::REWIND, 0, 0, 0, 0, 0])
    }

    fn plain(&self, what: &str, cdb: [u8; 6]) -> Result<()> {
        self.0.run_plain(what, &cdb, LONG)
    }

    fn filemark(&self) -> Result<()> {
        self.plain("WRITE FILEMARKS", [op::WRITE_FILEMARKS_6, 0, 0, 0, 1, 0])
    }

    fn locate(&self, object: u32) -> Result<()> {
        let [a, b, c, d] = object.to_be_bytes();
        let cdb = [op::LOCATE_10, 0, 0, a, b, c, d, 0, 0, 0];
        self.0.run_plain("LOCATE", &cdb, LONG)
    }

    fn read_command(&self, buf: &mut [u8]) -> Result<crate::scsi::Completion> {
        let [_, a, b, c] = (buf.len() as u32).to_be_bytes();
        self.0
            .send(&[op::READ_6, 0, a, b, c, 0], Data::In(buf), LONG)
    }

    /// A block of this length; none at a filemark. Anything else is an error.
    fn read(&self, len: usize) -> Result<Option<Vec<u8>>> {
        let mut buf = vec![0; len];
        let done = self.read_command(&mut buf)?;
        match &done.sense {
            _ if succeeded(&done) => {
                buf.truncate(done.transferred);
                Ok(Some(buf))
            }
            Some(s) if s.is_filemark() => Ok(None),
            _ => Err(self.0.failed("READ", &done)),
        }
    }

    /// True when nothing but a filemark stands behind the label that was read.
    fn nothing_behind(&self) -> Result<bool> {
        let mut buf = vec![0; LABEL_BYTES];
        for may_be_mark in [true, false] {
            let done = self.read_command(&mut buf)?;
            match &done.sense {
                Some(s) if s.is_end_of_data() || s.key == crate::scsi::SenseKey::BlankCheck => {
                    return Ok(true);
                }
                Some(s) if s.is_filemark() && may_be_mark => {}
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// What a cartridge begins with.
    fn first(&self) -> Result<First> {
        let mut buf = vec![0; LABEL_BYTES];
        let done = self.read_command(&mut buf)?;
        match &done.sense {
            _ if succeeded(&done) => Ok(First::Block(buf)),
            Some(s) if s.is_end_of_data() || s.key == crate::scsi::SenseKey::BlankCheck => {
                Ok(First::Nothing)
            }
            Some(s) if s.is_filemark() || s.is_wrong_length() => Ok(First::Other),
            _ => Err(self.0.failed("READ", &done)),
        }
    }
}

enum First {
    Nothing,
    Block(Vec<u8>),
    Other,
}
