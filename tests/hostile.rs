//! Damage anywhere in the metadata of real volumes: nothing may panic, run for
//! ever or take much memory, and what is browsed must end.

mod common;

use common::Memory;
use ntbak::error::Error;
use ntbak::observe::Silent;
use ntbak::ops::diff::digest;
use ntbak::units::{Place, RecordNo};
use ntbak::volume::listing::Deleted;
use ntbak::volume::names::push_escaped_path;
use ntbak::volume::{Listing, Stream, Tree, Volume, VolumePath};

/// A small generator: the same damage every time.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Byte ranges of the MFT and of every directory's index blocks.
fn metadata(volume: &Volume) -> Vec<(u64, u64)> {
    let cluster = u64::from(volume.geometry().cluster_size);
    let mut all = Vec::new();
    let mut add = |extents: &[ntbak::units::Extent]| {
        for e in extents {
            if let Place::At(lcn) = e.place {
                all.push((lcn.0 * cluster, e.len.0 * cluster));
            }
        }
    };
    add(volume.mft().extents.as_slice());
    for n in 0..volume.mft().record_count {
        let Ok(file) = volume.file(RecordNo(n)) else {
            continue;
        };
        for (_, a) in file.attributes() {
            if a.type_code != 0x80
                && let Ok(Some(s)) = Stream::open(volume, &file, a.type_code, a.name)
            {
                add(s.extents());
            }
        }
    }
    all
}

fn browse(volume: &Volume) -> u64 {
    let tree = Tree::new(volume);
    let up = tree.upcase();
    let listing = Listing::scan(volume, up, RecordNo(5), Deleted::Show, &Silent).unwrap();
    let mut rows = Vec::new();
    listing.for_each(|row| {
        rows.push((row.path(), row.node.record, row.node.is_dir()));
        assert!(rows.len() < 100_000);
    });
    for (path, record, dir) in rows.iter().take(400) {
        if *dir {
            let _ = tree.list(RecordNo(u64::from(*record)));
        }
        let _ = tree.path_of(RecordNo(u64::from(*record)));
        let mut text = Vec::new();
        push_escaped_path(path, &mut text);
        let path = VolumePath::parse(&text).unwrap();
        let Ok(found) = tree.lookup(&path) else {
            continue;
        };
        let Ok(stream) = tree.open(&found) else {
            continue;
        };
        if stream.len() < 1 << 20 {
            let _ = digest(&stream);
        } else {
            let _ = stream.read_at(stream.len() / 2, &mut [0; 5000]);
            let mut pieces = 0;
            let _ = stream.copy(|_| {
                pieces += 1;
                match pieces {
                    0..20 => Ok(()),
                    _ => Err(Error::interrupted()),
                }
            });
        }
    }
    rows.len() as u64
}

fn damage(name: &str, rounds: u64) {
    let Some(path) = common::image(name) else {
        return;
    };
    let image = std::fs::read(path).unwrap();
    let sound = Volume::open(Memory::shared(image.clone())).unwrap();
    let places = metadata(&sound);
    let all: u64 = places.iter().map(|p| p.1).sum();
    let size = u64::from(sound.geometry().record_size);
    drop(sound);
    let (mut opened, mut rows) = (0, 0);
    for round in 1..=rounds {
        let mut random = Random(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut bytes = image.clone();
        for _ in 0..1 + random.below(60) {
            let mut n = random.below(all);
            let Some(&(start, _)) = places.iter().find(|p| {
                let here = n < p.1;
                if !here {
                    n -= p.1;
                }
                here
            }) else {
                continue;
            };
            // More often than not where headers and first attributes are.
            if random.below(3) > 0 {
                n = n / size * size + random.below(0x1f0);
            }
            let at = (start + n) as usize;
            let values = [0, 0xff, 0x7f, 0x80, 1, random.next() as u8];
            if at < bytes.len() {
                bytes[at] = values[random.below(values.len() as u64) as usize];
            }
        }
        if let Ok(volume) = Volume::open(Memory::shared(bytes)) {
            opened += 1;
            rows += browse(&volume);
        }
    }
    assert!(opened > rounds / 2, "{opened} of {rounds}");
    assert!(rows > opened * 20);
}

#[test]
fn junctions_and_streams() {
    damage("v06", 150);
}

#[test]
fn compressed_and_attribute_lists() {
    damage("v09", 150);
}

#[test]
fn many_fragments() {
    damage("c05", 40);
}

#[test]
fn small_clusters() {
    damage("v08", 100);
}

#[test]
fn links_by_the_hundred() {
    damage("v13", 100);
}
