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
            Wanted::Part { .. } | Wanted::Next { .. } => self.all.get(attempt as usize).cloned(),
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
    // Foreign data behind a label that says that there is nothing.
    let blank = Label {
        kind: LabelKind::Label,
        cartridge: Id([4; 16]),
        part: None,
        time: 1,
        name: "E".into(),
    };
    let label = Some(Arc::from(&blank.encode().unwrap()[..]));
    let foreign = Some(Arc::from(&b"tar"[..]));
    for behind in [
        vec![foreign.clone()],
        vec![None, foreign.clone()],
        vec![None, None],
        vec![None, None, foreign],
    ] {
        let objects = [vec![label.clone()], behind].concat();
        cartridge.set_objects(objects.clone());
        let e = begin(options(None)).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Refused);
        assert!(e.to_string().contains("behind its blank label"), "{e}");
        assert!(cartridge.objects() == objects);
        drop(begin(options(Some("E"))).unwrap());
    }
    for behind in [vec![], vec![None]] {
        cartridge.set_objects([vec![label.clone()], behind].concat());
        drop(begin(options(None)).unwrap());
    }
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
    // Two that are in use stand between the blank ones.
    let mut blank: VecDeque<_> = cartridges[1..].iter().cloned().collect();
    let used = Cartridge::default();
    used.set_objects(vec![Some(Arc::from(&b"somebody's"[..]))]);
    blank.insert(1, used.clone());
    let label = Label {
        kind: LabelKind::Label,
        cartridge: Id([4; 16]),
        part: None,
        time: 1,
        name: "E".into(),
    };
    let behind = Cartridge::default();
    behind.set_objects(vec![
        Some(Arc::from(&label.encode().unwrap()[..])),
        None,
        Some(Arc::from(&b"somebody's"[..])),
    ]);
    blank.insert(0, behind.clone());
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
    assert_eq!((used.objects().len(), behind.objects().len()), (1, 3));
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

/// What is on a first cartridge that was closed, with no second one to go on.
fn out_of_cartridges(data: &[u8]) -> (Cartridge, u64) {
    let first = Cartridge::with_capacity(24 * u64::from(T), 3 * u64::from(T));
    let drive = MemoryDrive::new(first.clone());
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut w =
        SetWriter::begin(Box::new(drive), Box::new(NoChange), options(Some("OUT"))).unwrap();
    let told = notes.clone();
    w.note_with(Some(Box::new(move |p| *told.lock().unwrap() = p.to_vec())));
    let e = write(&mut w, data, [5, 54, 1]).unwrap_err();
    let said = e.to_string();
    assert!(said.contains("a blank cartridge, to be number 2"), "{said}");
    drop(w);
    let mut drive = MemoryDrive::new(first.clone());
    drive.load().unwrap();
    let map = scan(&mut drive).unwrap();
    assert!(map.closed && map.continued);
    assert_eq!(*notes.lock().unwrap(), std::slice::from_ref(&map));
    (first, map.end())
}

#[test]
fn a_closed_cartridge_with_none_behind_it_is_gone_on_with() {
    let data = noise(60 * T as usize);
    let (first, end) = out_of_cartridges(&data);
    let new = || Cartridge::with_capacity(80 * u64::from(T), 3 * u64::from(T));
    // The second one never came; it came and has nothing of the stream but its
    // label; or it has some of it.
    for begun in [None, Some(0), Some(7)] {
        let objects = first.objects();
        let first = Cartridge::with_capacity(24 * u64::from(T), 3 * u64::from(T));
        first.set_objects(objects);
        let second = new();
        let drive = Arc::new(Mutex::new(MemoryDrive::new(first.clone())));
        let shelf = |blank: &[Cartridge], all: &[Cartridge]| Shelf {
            blank: blank.iter().cloned().collect(),
            all: all.to_vec(),
            drive: drive.clone(),
        };
        let resume = |shelf: Shelf, all: usize| {
            let source =
                TapeSource::open_unfinished(Box::new(Shared(drive.clone())), Box::new(shelf))?;
            let len = source.len();
            assert_eq!(len, end + (all * T as usize) as u64);
            let (d, m, parts) = source.into_writer(len)?;
            SetWriter::resume(d, m, options(None), parts, len)
        };
        if let Some(blocks) = begun {
            // Without one that is blank the first attempt ends here.
            let only = std::slice::from_ref(&first);
            let e = resume(shelf(&[], only), 0)
                .and_then(|mut w| w.make_room(1).map(|()| w))
                .err()
                .unwrap();
            assert_eq!(e.kind(), ErrorKind::NotFound);
            drive.lock().unwrap().insert(first.clone());
            let mut w = resume(shelf(std::slice::from_ref(&second), only), 0).unwrap();
            w.make_room(1).unwrap();
            let from = end as usize;
            w.write_all(&data[from..from + blocks * T as usize])
                .unwrap();
            w.flush().unwrap();
            drop(w);
            drive.lock().unwrap().insert(first.clone());
        }
        let blank = match begun {
            None => std::slice::from_ref(&second),
            Some(_) => &[],
        };
        // The wrong one first, then the last one again where there is no other.
        let all = match begun {
            None => vec![new(), first.clone()],
            Some(_) => vec![new(), second.clone()],
        };
        let there = begun.unwrap_or(0);
        let mut w = resume(shelf(blank, &all), there).unwrap();
        let from = end as usize + there * T as usize;
        w.write_all(&data[from..59 * T as usize]).unwrap();
        w.end_file().unwrap();
        w.write_all(&data[59 * T as usize..]).unwrap();
        let (parts, _) = w.finish().unwrap();
        assert_eq!(parts.len(), 2, "{begun:?}");
        let source = open(&[first, second], 0).unwrap();
        same(&source, &data);
        assert_eq!(source.parts(), parts);
    }
}

#[test]
fn where_nobody_changes_cartridges_the_closed_one_is_the_end() {
    let data = noise(60 * T as usize);
    let (first, end) = out_of_cartridges(&data);
    let drive = || Box::new(MemoryDrive::new(first.clone()));
    let e = TapeSource::open(drive(), Box::new(NoChange), Vec::new());
    assert_eq!(e.err().unwrap().kind(), ErrorKind::NotFound);
    let source = TapeSource::open_unfinished(drive(), Box::new(NoChange)).unwrap();
    assert_eq!(source.len(), end);
    let mut all = vec![0; end as usize];
    source.read_at(0, &mut all).unwrap();
    assert!(all == data[..end as usize]);
    // Nothing that is there is lost when no other cartridge comes.
    let (d, m, parts) = source.into_writer(end).unwrap();
    let mut w = SetWriter::resume(d, m, options(None), parts, end).unwrap();
    let e = w.make_room(1).unwrap_err();
    assert!(e.advice().unwrap().contains("--resume"), "{e}");
    let map = scan(&mut *drive()).unwrap();
    assert_eq!((map.end(), map.continued), (end, true));
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
