//! Changes in a volume, for tests that want exactly one thing wrong.

use super::Memory;
use ntbak::units::{Place, RecordNo};
use ntbak::volume::record::apply_fixups;
use ntbak::volume::{Stream, Tree, Volume, VolumePath};

/// Changes a record under its fixups.
pub fn edit(bytes: &mut [u8], n: u64, change: impl FnOnce(&mut [u8])) {
    let volume = Volume::open(Memory::shared(bytes.to_vec())).unwrap();
    let size = volume.geometry().record_size as usize;
    let at = volume.record_offset(RecordNo(n)).unwrap() as usize;
    protected(&mut bytes[at..at + size], change);
}

/// The same for a record or index block that was found.
pub fn protected(block: &mut [u8], change: impl FnOnce(&mut [u8])) {
    apply_fixups(block).unwrap();
    change(block);
    let array = usize::from(u16::from_le_bytes([block[4], block[5]]));
    for sector in 1..=block.len() / 512 {
        let end = sector * 512 - 2;
        let saved = array + 2 * sector;
        (block[saved], block[saved + 1]) = (block[end], block[end + 1]);
        (block[end], block[end + 1]) = (block[array], block[array + 1]);
    }
}

/// Place in a record of the first attribute of this type.
pub fn attribute(record: &[u8], type_code: u32) -> usize {
    let mut at = usize::from(u16::from_le_bytes([record[0x14], record[0x15]]));
    loop {
        let word = |o: usize| u32::from_le_bytes(record[at + o..at + o + 4].try_into().unwrap());
        assert_ne!(word(0), u32::MAX, "no attribute {type_code:#x}");
        if word(0) == type_code {
            return at;
        }
        at += word(4) as usize;
    }
}

/// Byte position of a stream's first byte, and its first cluster.
pub fn stream_at(bytes: &[u8], n: u64, type_code: u32, name: &[u8]) -> (usize, u64) {
    let volume = Volume::open(Memory::shared(bytes.to_vec())).unwrap();
    let file = volume.file(RecordNo(n)).unwrap();
    let stream = Stream::open(&volume, &file, type_code, name)
        .unwrap()
        .unwrap();
    match stream.extents()[0].place {
        Place::At(lcn) => {
            let at = lcn.0 * u64::from(volume.geometry().cluster_size);
            (at as usize, lcn.0)
        }
        Place::Hole => panic!("a hole"),
    }
}

/// The number of the file with this path.
pub fn number(bytes: &[u8], path: &str) -> u64 {
    let volume = Volume::open(Memory::shared(bytes.to_vec())).unwrap();
    let tree = Tree::new(&volume);
    let path = VolumePath::parse(path.as_bytes()).unwrap();
    tree.lookup(&path).unwrap().file.record.0
}
