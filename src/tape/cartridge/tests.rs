//! The cartridge against a model; its limits.

use super::damage::small;
use super::*;
use proptest::prelude::*;
use std::fs;
use std::io::IoSlice;

/// A block, or none for a filemark.
pub(super) type Thing = Option<Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Write {
        len: u32,
        blocks: u32,
        cut: usize,
    },
    Append {
        len: u32,
        blocks: u32,
        memory: usize,
    },
    Marks(u64),
    Read(usize),
    ReadMany(u32, usize),
    Blocks(i64),
    Files(i64),
    Together(i64),
    Locate(u64),
    File(u64),
    Erase,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![Just(1u32), Just(512), Just(777), 1u32..2000];
    prop_oneof![
        3 => (len.clone(), 1u32..6, 1usize..3000).prop_map(|(len, blocks, cut)| Step::Write { len, blocks, cut }),
        2 => (len.clone(), 1u32..6, 0usize..4000).prop_map(|(len, blocks, memory)| Step::Append { len, blocks, memory }),
        3 => (0u64..4).prop_map(Step::Marks),
        3 => (0usize..2500).prop_map(Step::Read),
        2 => (len, 0usize..6000).prop_map(|(l, n)| Step::ReadMany(l, n)),
        2 => (-9i64..9).prop_map(Step::Blocks),
        2 => (-4i64..4).prop_map(Step::Files),
        1 => (-3i64..3).prop_map(Step::Together),
        1 => (0u64..40).prop_map(Step::Locate),
        1 => (0u64..8).prop_map(Step::File),
        1 => Just(Step::Erase),
        1 => Just(Step::Reopen),
    ]
}

pub(super) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (seed * 31 + i * 7 + i / 251) as u8)
        .collect()
}

/// A tape as a list, one object at a time, written from the standard's words.
#[derive(Default)]
struct Model {
    tape: Vec<Thing>,
    at: usize,
}

impl Model {
    fn blocks(&mut self, count: i64) -> Moved {
        for i in 0..count.unsigned_abs() {
            let left = count.unsigned_abs() - i;
            let next = match count > 0 {
                true => self.tape.get(self.at),
                false => self.at.checked_sub(1).and_then(|n| self.tape.get(n)),
            };
            match next {
                None if count > 0 => return Moved::EndOfData(left),
                None => return Moved::Beginning(left),
                Some(thing) => {
                    let mark = thing.is_none();
                    if count > 0 {
                        self.at += 1;
                    } else {
                        self.at -= 1;
                    }
                    if mark {
                        return Moved::Filemark(left);
                    }
                }
            }
        }
        Moved::Done
    }

    fn files(&mut self, count: i64) -> Moved {
        let mut left = count.unsigned_abs();
        while left > 0 {
            match count > 0 {
                true => match self.tape.get(self.at) {
                    None => return Moved::EndOfData(left),
                    Some(t) => {
                        self.at += 1;
                        left -= u64::from(t.is_none());
                    }
                },
                false => match self.at.checked_sub(1) {
                    None => return Moved::Beginning(left),
                    Some(n) => {
                        self.at = n;
                        left -= u64::from(self.tape[n].is_none());
                    }
                },
            }
        }
        Moved::Done
    }

    fn together(&mut self, count: i64) -> Moved {
        let n = count.unsigned_abs();
        let mut row = 0;
        while row < n {
            let thing = match count > 0 {
                true => match self.tape.get(self.at) {
                    None => return Moved::EndOfData(n),
                    t => {
                        self.at += 1;
                        t
                    }
                },
                false => match self.at.checked_sub(1) {
                    None => return Moved::Beginning(n),
                    Some(i) => {
                        self.at = i;
                        self.tape.get(i)
                    }
                },
            };
            row = if thing.is_some_and(|t| t.is_none()) {
                row + 1
            } else {
                0
            };
        }
        Moved::Done
    }

    fn marks_before(&self) -> u64 {
        self.tape[..self.at].iter().filter(|t| t.is_none()).count() as u64
    }
}

pub(super) fn contents(c: &mut Cartridge) -> Vec<Thing> {
    c.rewind();
    let mut out = Vec::new();
    let mut buf = vec![0; 4096];
    loop {
        match c.read_block(&mut buf).unwrap() {
            Got::Block(n) => out.push(Some(buf[..n as usize].to_vec())),
            Got::Filemark => out.push(None),
            Got::EndOfData => return out,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn behaves_like_a_list(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tap");
        let source_path = dir.path().join("source");
        let mut c = Cartridge::create(&path, 1 << 20, "A00001L8").unwrap();
        let mut m = Model::default();
        for (seed, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write { len, blocks, cut } => {
                    let data = pattern(seed, (len * blocks) as usize);
                    let slices: Vec<_> = data.chunks(cut).map(IoSlice::new).collect();
                    let wrote = c.write_blocks(len, &slices).unwrap();
                    prop_assert_eq!(wrote, Wrote { count: blocks.into(), full: false });
                    m.tape.truncate(m.at);
                    m.tape.extend(data.chunks(len as usize).map(|b| Some(b.to_vec())));
                    m.at = m.tape.len();
                }
                Step::Append { len, blocks, memory } => {
                    let mut data = pattern(seed, (len * blocks) as usize);
                    let n = data.len();
                    let (a, z) = (memory.min(n), (memory / 3).min(n - memory.min(n)));
                    data[n - z..].fill(0);
                    fs::write(&source_path, &data).unwrap();
                    let source = File::open(&source_path).unwrap();
                    let pieces = [
                        Piece::Bytes(&data[..a]),
                        Piece::File { file: &source, offset: a as u64, len: (n - a - z) as u64 },
                        Piece::Zeros(z as u64),
                    ];
                    let done = c.append(len, &pieces, u64::MAX).unwrap();
                    prop_assert!(done.failed.is_none());
                    prop_assert_eq!(done.wrote, Wrote { count: blocks.into(), full: false });
                    m.tape.truncate(m.at);
                    m.tape.extend(data.chunks(len as usize).map(|b| Some(b.to_vec())));
                    m.at = m.tape.len();
                }
                Step::Marks(n) => {
                    c.write_filemarks(n, n == 1).unwrap();
                    if n > 0 {
                        m.tape.truncate(m.at);
                        m.tape.extend((0..n).map(|_| None));
                        m.at = m.tape.len();
                    }
                }
                Step::Read(n) => {
                    let mut buf = vec![0; n];
                    match c.read_block(&mut buf).unwrap() {
                        Got::EndOfData => prop_assert_eq!(m.at, m.tape.len()),
                        Got::Filemark => {
                            prop_assert_eq!(&m.tape[m.at], &None);
                            m.at += 1;
                        }
                        Got::Block(len) => {
                            let b = m.tape[m.at].as_ref().unwrap();
                            prop_assert_eq!(b.len(), len as usize);
                            let n = n.min(b.len());
                            prop_assert_eq!(&b[..n], &buf[..n]);
                            m.at += 1;
                        }
                    }
                }
                Step::ReadMany(len, n) => {
                    let mut buf = vec![0; n];
                    let k = c.read_blocks(len, &mut buf).unwrap();
                    for (i, part) in buf.chunks(len as usize).take(k).enumerate() {
                        prop_assert_eq!(m.tape[m.at + i].as_deref(), Some(part));
                    }
                    m.at += k;
                    let more = m.tape.get(m.at).and_then(|t| t.as_ref());
                    prop_assert!((k + 1) * len as usize > n || more.is_none_or(|b| b.len() != len as usize));
                }
                Step::Blocks(n) => prop_assert_eq!(c.space_blocks(n), m.blocks(n)),
                Step::Files(n) => prop_assert_eq!(c.space_filemarks(n), m.files(n)),
                Step::Together(n) => prop_assert_eq!(c.space_sequential_filemarks(n), m.together(n)),
                Step::Locate(n) => {
                    let moved = c.locate(n);
                    m.at = (n as usize).min(m.tape.len());
                    prop_assert_eq!(moved == Moved::Done, n as usize <= m.tape.len());
                }
                Step::File(n) => {
                    let moved = c.locate_file(n);
                    m.at = 0;
                    let expected = m.files(n as i64);
                    prop_assert_eq!(moved, expected);
                }
                Step::Erase => {
                    c.erase().unwrap();
                    m.tape.truncate(m.at);
                }
                Step::Reopen => {
                    if seed % 2 == 0 {
                        c.flush().unwrap();
                    }
                    drop(c);
                    c = Cartridge::open(&path, true).unwrap();
                    prop_assert_eq!(c.opened().torn, 0);
                    m.at = 0;
                }
            }
            let here = Position { object: m.at as u64, file: m.marks_before() };
            prop_assert_eq!(c.position(), here);
        }
        prop_assert_eq!(contents(&mut c), m.tape.clone());
        let used: usize = m.tape.iter().flatten().map(Vec::len).sum();
        prop_assert_eq!(c.used(), used as u64);
        c.close().unwrap();
        // With the index, and without it: the same runs, but for gaps none.
        let with = Cartridge::open(&path, false).unwrap();
        prop_assert!(!with.opened().index_rebuilt);
        let runs = with.runs.clone();
        drop(with);
        fs::remove_file(sidecar(&path, "idx")).unwrap();
        prop_assert_eq!(Cartridge::open(&path, false).unwrap().runs, runs);
    }

    #[test]
    fn any_bytes_open_or_are_refused(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => Just(4), 1 => Just(255), 2 => any::<u8>()], 0..300),
        ours: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tap");
        if ours {
            Cartridge::create(&path, 1 << 20, "").unwrap();
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(mut c) = Cartridge::open(&path, true) {
            let n = c.end_of_data().object;
            c.rewind();
            for _ in 0..n {
                let _ = c.read_block(&mut [0; 64]);
            }
            prop_assert_eq!(c.read_block(&mut []).unwrap(), Got::EndOfData);
        } else {
            prop_assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn any_index_and_description_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        let path = small(dir.path());
        fs::write(sidecar(&path, "idx"), &bytes).unwrap();
        let mut c = Cartridge::open(&path, true).unwrap();
        prop_assert!(c.opened().index_rebuilt);
        prop_assert_eq!(contents(&mut c).len(), 6);
        drop(c);
        fs::write(sidecar(&path, "json"), &bytes).unwrap();
        prop_assert!(Cartridge::open(&path, true).is_err());
    }
}

#[test]
fn capacity_warning_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let mut c = Cartridge::create(&path, 32 * 100, "").unwrap();
    assert_eq!(c.facts().early_warning, 100);
    let block = [1; 100];
    for i in 1..=32 {
        assert!(!c.write_blocks(100, &[IoSlice::new(&block)]).unwrap().full);
        let expected = match i {
            ..30 => Room::Plenty,
            30..=31 => Room::Programmed,
            _ => Room::Early,
        };
        assert_eq!(c.room(150), expected, "{i}");
    }
    let wrote = c.write_blocks(50, &[IoSlice::new(&block)]).unwrap();
    assert_eq!(
        wrote,
        Wrote {
            count: 0,
            full: true
        }
    );
    assert_eq!(c.write_filemarks(2, false).unwrap().count, 2);
    c.locate(30);
    let wrote = c.write_blocks(100, &[IoSlice::new(&[2; 300])]).unwrap();
    assert_eq!(
        wrote,
        Wrote {
            count: 2,
            full: true
        }
    );
    c.locate(31);
    let done = c.append(100, &[Piece::Zeros(1000)], 5).unwrap();
    assert_eq!(
        done.wrote,
        Wrote {
            count: 1,
            full: true
        }
    );
    assert_eq!(c.end_of_data().object, 32);
}

#[test]
fn a_source_that_ends_leaves_whole_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let mut c = Cartridge::create(&path, 1 << 20, "").unwrap();
    let from = dir.path().join("source");
    fs::write(&from, [9; 250]).unwrap();
    let file = File::open(&from).unwrap();
    let done = c
        .append(
            100,
            &[
                Piece::Zeros(50),
                Piece::File {
                    file: &file,
                    offset: 0,
                    len: 350,
                },
            ],
            u64::MAX,
        )
        .unwrap();
    assert_eq!(
        done.wrote,
        Wrote {
            count: 3,
            full: false
        }
    );
    assert_eq!(done.failed.unwrap().0, 1);
    assert_eq!(c.position().object, 3);
    c.write_filemarks(1, false).unwrap();
    c.close().unwrap();
    let mut c = Cartridge::open(&path, true).unwrap();
    assert_eq!(c.opened(), Opened::default());
    assert_eq!(contents(&mut c).len(), 4);
}

#[test]
fn protected_locked_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = small(dir.path());
    let mut c = Cartridge::open(&path, true).unwrap();
    assert_eq!(
        Cartridge::open(&path, true).err().unwrap().kind(),
        ErrorKind::Refused
    );
    assert_eq!(
        Cartridge::open(&path, false).err().unwrap().kind(),
        ErrorKind::Refused
    );
    c.change_facts(|f| {
        f.write_protected = true;
        f.load_count += 1;
        assert!(f.set_attribute(0x0801, 1, b"ntbak"));
        assert!(!f.set_attribute(0x0802, 1, &[1; 2000]));
    })
    .unwrap();
    assert!(c.write_filemarks(1, false).is_err() && c.erase().is_err());
    assert!(c.write_blocks(1, &[IoSlice::new(&[1])]).is_err());
    drop(c);
    let c = Cartridge::open(&path, false).unwrap();
    assert!(c.is_write_protected() && c.facts().load_count == 1);
    assert_eq!(c.facts().attribute(0x0801).unwrap().value, b"ntbak");
    assert_eq!(c.facts().serial.len(), 16);
    assert!(Cartridge::open(&path, false).is_ok(), "several readers");
    assert!(Cartridge::create(&path, 1, "").is_err());
}

#[test]
fn a_long_tape_has_a_small_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let mut c = Cartridge::create(&path, 1 << 30, "").unwrap();
    let data = vec![0; 64 * 1024];
    for _ in 0..40 {
        c.write_blocks(512, &[IoSlice::new(&data)]).unwrap();
    }
    c.write_filemarks(2, false).unwrap();
    c.close().unwrap();
    assert_eq!(
        fs::metadata(sidecar(&path, "idx")).unwrap().len(),
        32 + 2 * 24
    );
}
