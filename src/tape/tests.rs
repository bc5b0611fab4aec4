//! Sets written and read: one cartridge, several, unfinished, wrong ones.

use super::*;
use crate::device::Source;
use crate::error::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex};

const T: u32 = 8192;
const SET: Id = Id([9; 16]);

/// Cartridges of a shelf, brought in their order or by what is asked.
struct Shelf {
    blank: VecDeque<Cartridge>,
    all: Vec<Cartridge>,
    drive: Arc<Mutex<MemoryDrive>>,
}

/// A drive that the shelf can reach into.
struct Shared(Arc<Mutex<MemoryDrive>>);

macro_rules! pass {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        $(fn $name(&mut self, $($arg: $ty),*) -> $out {
            self.0.lock().unwrap().$name($($arg),*)
        })*
    };
}

impl Drive for Shared {
    fn name(&self) -> &str {
        "memory"
    }
    pass! {
        info() -> Result<DriveInfo>;
        capacity() -> Result<Option<Capacity>>;
        rewind() -> Result<()>;
        locate(object: u64) -> Result<()>;
        end_of_data() -> Result<()>;
        space_filemarks(count: i64) -> Result<()>;
        position() -> Result<Position>;
        read(buf: &mut [u8]) -> Result<Read>;
        write(data: &[u8], block: usize) -> Result<Written>;
        write_filemarks(count: u32) -> Result<Written>;
        load() -> Result<()>;
        unload() -> Result<()>;
    }
}

impl Media for Shelf {
    fn change(&mut self, _: &mut dyn Drive, wanted: &Wanted, attempt: u32) -> Result<()> {
        let next = match wanted {
            Wanted::Blank { .. } => self.blank.pop_front(),
            // Not the right one at first: it has to be noticed.
            Wanted::Part { .. } => self.all.get(attempt as usize).cloned(),
        };
        let next = next.ok_or_else(|| Error::not_found("No more cartridges"))?;
        self.drive.lock().unwrap().insert(next);
        Ok(())
    }
}

fn options(label: Option<&str>) -> SetOptions {
    SetOptions {
        set: SET,
        block_bytes: T,
        label: label.map(String::from),
        fresh_id: || Ok(Id([3; 16])),
        time: 1,
    }
}

fn noise(n: usize) -> Vec<u8> {
    let mut v = vec![0; n];
    blake3::Hasher::new().finalize_xof().fill(&mut v);
    v
}

/// Three files of this many blocks each.
fn write(writer: &mut SetWriter, data: &[u8], files: [usize; 3]) -> Result<()> {
    let mut at = 0;
    for n in files {
        let end = at + n * T as usize;
        for part in data[at..end].chunks(5000) {
            writer.write_all(part).map_err(|e| Error::io("write", e))?;
        }
        writer.end_file()?;
        at = end;
    }
    Ok(())
}

fn open(cartridges: &[Cartridge], first: usize) -> Result<TapeSource> {
    let drive = Arc::new(Mutex::new(MemoryDrive::new(cartridges[first].clone())));
    let shelf = Shelf {
        blank: VecDeque::new(),
        all: cartridges.to_vec(),
        drive: drive.clone(),
    };
    TapeSource::open(Box::new(Shared(drive)), Box::new(shelf), Vec::new())
}

fn same(source: &TapeSource, data: &[u8]) {
    assert_eq!(source.len(), data.len() as u64);
    let mut buf = vec![0; data.len()];
    source.read_at(0, &mut buf).unwrap();
    assert!(buf == data);
    for at in (0..data.len() - 700).step_by(7919).rev() {
        source.read_at(at as u64, &mut buf[..700]).unwrap();
        assert!(buf[..700] == data[at..at + 700], "{at}");
    }
    assert!(
        source
            .read_at(data.len() as u64 - 1, &mut buf[..2])
            .is_err()
    );
}

#[test]
fn one_cartridge() {
    let cartridge = Cartridge::default();
    let data = noise(17 * T as usize);
    let drive = MemoryDrive::new(cartridge.clone());
    let mut w = SetWriter::begin(Box::new(drive), Box::new(NoChange), options(Some("A1"))).unwrap();
    write(&mut w, &data, [3, 13, 1]).unwrap();
    let (parts, _) = w.finish().unwrap();
    // Label, mark, 3, mark, 13, mark, 1, mark, mark.
    let objects = cartridge.objects();
    let marks: Vec<usize> = (0..objects.len())
        .filter(|&i| objects[i].is_none())
        .collect();
    assert_eq!(marks, [1, 5, 19, 21, 22]);
    let source = open(std::slice::from_ref(&cartridge), 0).unwrap();
    assert_eq!(source.parts(), parts);
    assert!(parts[0].closed && !parts[0].continued);
    same(&source, &data);

    // A second set does not go over it, unless it is told to.
    let begin = |o| {
        SetWriter::begin(
            Box::new(MemoryDrive::new(cartridge.clone())),
            Box::new(NoChange),
            o,
        )
    };
    let e = begin(options(None)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(
        e.to_string()
            .contains("holds a backup, number 1 of set 0909"),
        "{e}"
    );
    cartridge.protect(true);
    assert!(
        begin(options(Some("B")))
            .err()
            .unwrap()
            .to_string()
            .contains("write-protected")
    );
    cartridge.protect(false);
    drop(begin(options(Some("B"))).unwrap());
    assert_eq!(cartridge.objects().len(), 2);
    assert_eq!(
        scan(&mut MemoryDrive::new(cartridge.clone()))
            .unwrap()
            .label
            .name,
        "B"
    );
    // Foreign data and no label at all.
    cartridge.set_objects(vec![Some(Arc::from(&b"tar"[..]))]);
    assert!(
        begin(options(None))
            .err()
            .unwrap()
            .to_string()
            .contains("not from this program")
    );
    cartridge.set_objects(Vec::new());
    assert!(
        begin(options(None))
            .err()
            .unwrap()
            .to_string()
            .contains("has no label")
    );
}

#[test]
fn several_cartridges() {
    let data = noise(60 * T as usize);
    let cartridges: Vec<Cartridge> = (0..4)
        .map(|_| Cartridge::with_capacity(24 * u64::from(T), 3 * u64::from(T)))
        .collect();
    // One that is in use stands between the blank ones.
    let mut blank: VecDeque<_> = cartridges[1..].iter().cloned().collect();
    let used = Cartridge::default();
    used.set_objects(vec![Some(Arc::from(&b"somebody's"[..]))]);
    blank.insert(1, used.clone());
    let drive = Arc::new(Mutex::new(MemoryDrive::new(cartridges[0].clone())));
    let shelf = Shelf {
        blank,
        all: Vec::new(),
        drive: drive.clone(),
    };
    let mut w = SetWriter::begin(
        Box::new(Shared(drive)),
        Box::new(shelf),
        options(Some("SET")),
    )
    .unwrap();
    write(&mut w, &data, [5, 54, 1]).unwrap();
    let (parts, _) = w.finish().unwrap();
    assert_eq!(parts.len(), 3);
    assert_eq!(used.objects().len(), 1);
    assert_eq!(parts[2].label.name, "SET-3");
    assert_eq!(
        parts[1].label.part.unwrap().previous,
        Some(parts[0].label.cartridge)
    );
    let cartridges = &cartridges[..3];
    for first in 0..3 {
        let source = open(cartridges, first).unwrap();
        same(&source, &data);
        assert_eq!(source.parts(), parts);
    }
    // Without the second one.
    let source = open(&[cartridges[0].clone(), cartridges[2].clone()], 1).unwrap();
    let e = source.read_at(30 * u64::from(T), &mut [0; 9]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn unfinished_at_every_object_then_gone_on_with() {
    let data = noise(20 * T as usize);
    let whole = Cartridge::default();
    let mut w = SetWriter::begin(
        Box::new(MemoryDrive::new(whole.clone())),
        Box::new(NoChange),
        options(Some("R")),
    )
    .unwrap();
    write(&mut w, &data, [4, 15, 1]).unwrap();
    w.finish().unwrap();
    for n in 2..whole.objects().len() {
        let cut = Cartridge::default();
        cut.set_objects(whole.objects()[..n].to_vec());
        let map = scan(&mut MemoryDrive::new(cut.clone())).unwrap();
        assert!(!map.closed);
        let there = map.end();
        let ended = map.files.last().is_some_and(|f| f.ended);
        let mut w = SetWriter::resume(
            Box::new(MemoryDrive::new(cut.clone())),
            Box::new(NoChange),
            options(None),
            vec![map],
            there,
        )
        .unwrap();
        assert_eq!(w.offset(), there);
        let mut end = 0;
        for blocks in [4, 15, 1] {
            let start = end;
            end += blocks * T as usize;
            if end < there as usize || (end == there as usize && ended) {
                continue;
            }
            let from = (there as usize).clamp(start, end);
            w.write_all(&data[from..end]).unwrap();
            w.end_file().unwrap();
        }
        w.finish().unwrap();
        assert!(cut.objects() == whole.objects(), "cut at {n}");
    }
}

#[test]
fn damage_on_the_cartridge_is_said() {
    let data = noise(6 * T as usize);
    let cartridge = Cartridge::default();
    let mut w = SetWriter::begin(
        Box::new(MemoryDrive::new(cartridge.clone())),
        Box::new(NoChange),
        options(Some("D")),
    )
    .unwrap();
    write(&mut w, &data, [1, 4, 1]).unwrap();
    w.finish().unwrap();
    let good = cartridge.objects();
    let short: Arc<[u8]> = Arc::from(&data[..100]);
    for n in 0..good.len() {
        for change in [None, Some(short.clone())] {
            let mut objects = good.clone();
            if objects[n] == change {
                continue;
            }
            objects[n] = change;
            cartridge.set_objects(objects);
            let Ok(source) = open(std::slice::from_ref(&cartridge), 0) else {
                continue;
            };
            let mut buf = vec![0; data.len()];
            let len = source.len() as usize;
            let whole = len == data.len() && source.read_at(0, &mut buf).is_ok();
            // Only the marks at the very end may go unnoticed here.
            assert!(!whole || (n + 2 >= good.len() && buf == data), "{n}");
        }
    }
}
