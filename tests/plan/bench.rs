//! A bench for plans: a disk and a tape in memory, a maker and a reader of
//! simple record headers, and the limits checked from the bytes of each list.

#![allow(dead_code, missing_docs)]

use ntbak::copy::limits::segment;
use ntbak::copy::oracle::{Device, Disk, Model, Object, Tape};
use ntbak::copy::parse::{self, CscdId};
use ntbak::copy::{
    Address, Cell, Command, Cscd, Geometry, Limits, PlannedRecord, RecordMaker, Restore,
    RestoreCommand, Run, TapeFile, Wanted,
};
use ntbak::error::Result;

const FIXED: usize = 64;
const RUN: usize = 24;
const MAGIC: &[u8; 8] = b"TESTRECD";

/// A maker of headers that a test can read back.
pub struct Maker;

impl RecordMaker for Maker {
    fn header_len(&self, runs: usize) -> u64 {
        (FIXED + RUN * runs) as u64
    }

    fn header(&mut self, r: &PlannedRecord) -> Result<Vec<u8>> {
        let mut h = MAGIC.to_vec();
        for n in [
            r.number,
            u64::from(r.region),
            r.cell,
            r.offset,
            r.header_len,
            r.gap,
            r.runs.len() as u64,
        ] {
            h.extend(n.to_le_bytes());
        }
        for run in &r.runs {
            for n in [run.lba, run.blocks, u64::from(run.kind)] {
                h.extend(n.to_le_bytes());
            }
        }
        h.resize(r.header_len as usize, 0);
        Ok(h)
    }
}

/// A record as read from the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub region: u16,
    pub cell: u64,
    pub runs: Vec<Run>,
    /// Stream offset of the payload.
    pub data: u64,
}

/// Reads the whole stream: every byte is accounted for.
pub fn read_stream(stream: &[u8], disk: &Disk) -> Vec<Found> {
    let n = |at: usize| u64::from_le_bytes(stream[at..at + 8].try_into().unwrap());
    let (mut at, mut out) = (0, Vec::new());
    while at < stream.len() {
        assert_eq!(&stream[at..at + 8], MAGIC, "no record at {at}");
        assert_eq!(n(at + 8), out.len() as u64, "record number");
        assert_eq!(n(at + 32), at as u64, "stream offset");
        let (header, gap, count) = (n(at + 40) as usize, n(at + 48) as usize, n(at + 56));
        let runs: Vec<Run> = (0..count as usize)
            .map(|i| at + FIXED + i * RUN)
            .map(|r| Run {
                lba: n(r),
                blocks: n(r + 8),
                kind: n(r + 16) as u8,
            })
            .collect();
        let used = FIXED + RUN * runs.len();
        assert!(stream[at + used..at + header].iter().all(|b| *b == 0));
        let found = Found {
            region: n(at + 16) as u16,
            cell: n(at + 24),
            data: (at + header) as u64,
            runs,
        };
        at += header;
        for r in found.runs.iter().filter(|r| r.is_data()) {
            let len = (r.blocks * u64::from(disk.block)) as usize;
            assert_eq!(
                stream[at..at + len],
                disk.bytes(r.lba, len),
                "lba {}",
                r.lba
            );
            at += len;
        }
        assert!(stream[at..at + gap].iter().all(|b| *b == 0));
        at += gap;
        out.push(found);
    }
    out
}

/// The pieces a stream holds.
pub fn wanted(records: &[Found], block: u64) -> Vec<Wanted> {
    let mut out = Vec::new();
    for f in records {
        let mut offset = f.data;
        for r in f.runs.iter().filter(|r| r.is_data()) {
            out.push(Wanted {
                offset,
                bytes: r.blocks * block,
                lba: r.lba,
            });
            offset += r.blocks * block;
        }
    }
    out
}

pub fn pattern(lba: u64, block: u32) -> Vec<u8> {
    let seed = lba.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..block)
        .map(|i| (seed >> (i % 56)) as u8 ^ i as u8 | 1)
        .collect()
}

/// Disk and tape with one copy manager.
pub struct Bench {
    pub model: Model,
    pub limits: Limits,
    pub geometry: Geometry,
    cscds: [Cscd; 2],
    next_id: u8,
}

impl Bench {
    pub fn new(limits: &Limits, geometry: Geometry, disk: Disk) -> Self {
        let (disk_address, tape_address) = match limits.has(0xe4) {
            true => (Address::naa(&[0x60; 16]), Address::naa(&[0x50; 8])),
            false => (
                Address::FcName { lun: 0, name: 1 },
                Address::FcName {
                    lun: 1 << 48,
                    name: 2,
                },
            ),
        };
        let id = |a: &Address| match a {
            Address::FcName { lun, name } => CscdId::Port {
                lun: *lun,
                name: *name,
            },
            Address::Identification {
                code_set,
                kind,
                designator,
            } => CscdId::Designator(parse::Designator {
                code_set: *code_set,
                association: 0,
                kind: *kind,
                value: designator.clone(),
            }),
        };
        let devices = vec![
            (id(&disk_address), Device::Disk(disk)),
            (id(&tape_address), Device::Tape(Tape::default())),
        ];
        Self {
            model: Model {
                devices,
                limits: limits.clone(),
            },
            limits: limits.clone(),
            cscds: [
                Cscd::disk(disk_address, geometry.disk_block as u32),
                Cscd::tape(tape_address),
            ],
            geometry,
            next_id: 0,
        }
    }

    pub fn tape(&mut self) -> &mut Tape {
        match &mut self.model.devices[1].1 {
            Device::Tape(t) => t,
            Device::Disk(_) => unreachable!(),
        }
    }

    pub fn disk(&mut self) -> &mut Disk {
        match &mut self.model.devices[0].1 {
            Device::Disk(d) => d,
            Device::Tape(_) => unreachable!(),
        }
    }

    /// Sends a list; checks what only its bytes show. Returns bytes written.
    fn send(&mut self, list: &[u8], moved: u64) -> u64 {
        let l = &self.limits;
        let parsed = parse::parse(list, l).expect("the list is refused");
        assert_eq!(list[0], self.next_id);
        let be = |at: usize| u32::from_be_bytes(list[at..at + 4].try_into().unwrap()) as u64;
        let (cscds, segments, inline) = (64, be(8), be(12));
        assert_eq!(list.len() as u64, 16 + cscds + segments + inline);
        assert!(
            cscds + segments <= l.list_bytes,
            "list of {}",
            cscds + segments
        );
        assert!(inline <= l.inline_bytes, "inline data of {inline}");
        assert!(parsed.segments.len() as u64 <= u64::from(l.segments));
        assert!(
            l.command_bytes == 0 || moved <= l.command_bytes,
            "command of {moved}"
        );
        let out = self.model.execute(list, &parsed);
        assert_eq!(out.failed, None);
        assert_eq!(out.lost, Default::default(), "residue is lost");
        out.written
    }

    /// Executes a command of a backup.
    pub fn backup(&mut self, c: &Command) {
        let t = self.geometry.tape_block;
        assert!(c.offset.is_multiple_of(t) && c.end().is_multiple_of(t));
        assert_eq!((c.bytes + c.pad).div_ceil(t), c.blocks);
        assert!(c.pad < t);
        let before = self.tape().position as u64;
        if !c.is_for_host() {
            self.next_id = self.next_id.wrapping_add(1);
            let list = c.parameter_list(self.next_id, &self.cscds).unwrap();
            assert_eq!(self.send(&list, c.blocks * t), c.blocks * t);
        }
        (0..c.host_filemarks).for_each(|_| self.tape().write(Object::Mark));
        let marks = u64::from(c.filemarks + c.host_filemarks);
        assert_eq!(self.tape().position as u64 - before, c.blocks + marks);
        assert!(c.filemarks == 0 || self.limits.has(segment::FILEMARKS));
    }

    /// Executes a command of a restore; the host moves what is left to it.
    pub fn restore(&mut self, c: &RestoreCommand, files: &[TapeFile]) {
        let t = self.geometry.tape_block;
        if let Some(object) = c.locate {
            self.tape().locate(object).unwrap();
        }
        if c.by_host {
            for w in &c.pieces {
                self.by_host(w, files);
            }
            self.tape().locate(c.end_object).unwrap();
            return;
        }
        self.next_id = self.next_id.wrapping_add(1);
        let list = c.parameter_list(self.next_id, &self.cscds).unwrap();
        assert_eq!(self.send(&list, c.blocks * t), c.bytes);
        assert_eq!(self.tape().position as u64, c.end_object);
        assert_eq!(c.bytes, c.pieces.iter().map(|w| w.bytes).sum::<u64>());
    }

    fn by_host(&mut self, w: &Wanted, files: &[TapeFile]) {
        let f = files
            .iter()
            .find(|f| (f.offset..f.offset + f.bytes).contains(&w.offset))
            .unwrap();
        let from = (w.offset - f.offset) as usize;
        let stream = self.tape().stream(f.first_object as usize);
        let data = stream[from..from + w.bytes as usize].to_vec();
        self.disk().fill(w.lba, &data);
    }

    /// A blank disk in the place of the source, the tape rewound.
    pub fn replace_disk(&mut self) -> Disk {
        self.tape().position = 0;
        let blank = Disk::new(self.disk().block, self.disk().blocks);
        std::mem::replace(self.disk(), blank)
    }

    pub fn run_restore(&mut self, pieces: Vec<Wanted>, files: &[TapeFile]) -> u64 {
        let plan = Restore::new(pieces, files.to_vec(), &self.limits, &self.geometry).unwrap();
        let (mut blocks, mut at) = (0, 0);
        for c in plan {
            let c = c.unwrap();
            // Forward only; the block in which a command ended may come again.
            assert!(c.object + 1 >= at, "back from {at} to {}", c.object);
            self.restore(&c, files);
            (blocks, at) = (blocks + c.blocks, c.end_object);
        }
        blocks
    }
}

/// A disk on which everything that the cells keep is written.
pub fn disk_of(cells: &[Cell], block: u32) -> Disk {
    let runs = || cells.iter().flat_map(|c| &c.runs);
    let end = runs().map(|r| r.lba + r.blocks).max().unwrap_or(0);
    let mut disk = Disk::new(block, end + 1);
    for r in runs().filter(|r| r.is_data()) {
        for lba in r.lba..r.lba + r.blocks {
            disk.write(lba, pattern(lba, block)).unwrap();
        }
    }
    disk
}

/// Runs of `(gap, blocks, kind)` as cells of this many blocks; two regions.
pub fn cells_of(shape: &[(u64, u64, u8)], cell_blocks: u64) -> Vec<Cell> {
    let mut out: Vec<Cell> = Vec::new();
    let mut lba = 0;
    for &(gap, blocks, kind) in shape {
        lba += gap;
        let end = lba + blocks;
        while lba < end {
            let number = lba / cell_blocks;
            let stop = end.min((number + 1) * cell_blocks);
            let region = 1 + u16::from(number >= 3);
            let run = Run {
                lba,
                blocks: stop - lba,
                kind,
            };
            match out.last_mut() {
                Some(c) if (c.region, c.cell) == (region, number) => c.runs.push(run),
                _ => out.push(Cell {
                    region,
                    cell: number,
                    runs: vec![run],
                }),
            }
            lba = stop;
        }
    }
    out
}

/// What cells say, run by run, neighbours joined: what must be on the tape.
pub fn content(cells: impl IntoIterator<Item = (u16, u64, Vec<Run>)>) -> Vec<(u16, u64, Run)> {
    let mut out: Vec<(u16, u64, Run)> = Vec::new();
    for (region, cell, runs) in cells {
        for r in runs {
            match out.last_mut() {
                Some((g, c, p))
                    if (*g, *c, p.kind) == (region, cell, r.kind) && p.lba + p.blocks == r.lba =>
                {
                    p.blocks += r.blocks;
                }
                _ => out.push((region, cell, r)),
            }
        }
    }
    out
}
