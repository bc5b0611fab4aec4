//! Real volumes for tests: the compressed public images beside the repository,
//! unpacked once as sparse files. Tests that need an absent image say so and pass.

#![allow(dead_code, missing_docs)]

pub mod edit;
pub mod mount;

use ntbak::device::{SharedSource, Source};
use ntbak::error::{Error, ErrorKind, Result};
use ntbak::ops::image::ImageOptions;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A plain file with positioned reads.
pub struct PlainFile {
    file: File,
    len: u64,
    name: String,
}

impl PlainFile {
    pub fn open(path: &Path) -> SharedSource {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let name = path.display().to_string();
        Arc::new(Self { file, len, name })
    }
}

impl Source for PlainFile {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let done = self.file.read_exact_at(buf, offset);
        done.map_err(|e| Error::io("Reading failed", e).at(offset))
    }
    fn name(&self) -> &str {
        &self.name
    }
}

/// Bytes in memory, with ranges that cannot be read.
pub struct Memory {
    pub bytes: Vec<u8>,
    pub broken: Vec<Range<u64>>,
    /// Whether it gives its bytes as memory.
    pub mapped: bool,
}

impl Memory {
    pub fn shared(bytes: Vec<u8>) -> SharedSource {
        Arc::new(Self {
            bytes,
            broken: Vec::new(),
            mapped: true,
        })
    }
}

impl Source for Memory {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        if self.broken.iter().any(|b| b.start < end && offset < b.end) {
            return Err(Error::new(ErrorKind::Unreadable, "Broken on purpose").at(offset));
        }
        buf.copy_from_slice(&self.bytes[offset as usize..end as usize]);
        Ok(())
    }
    fn name(&self) -> &str {
        "memory"
    }
    fn as_memory(&self) -> Option<&[u8]> {
        (self.mapped && self.broken.is_empty()).then_some(&self.bytes)
    }
}

/// How tests make archives: quickly.
pub fn image_options() -> ImageOptions {
    ImageOptions {
        level: 1,
        threads: 2,
        force: false,
        resume: false,
        verify: false,
        hash: Vec::new(),
        map: None,
    }
}

/// A partition or any other part of another source.
pub fn part(source: SharedSource, start: u64, len: u64) -> SharedSource {
    Arc::new(ntbak::device::Window::new(source, start, len, "part".into()).unwrap())
}

/// The public image `name` (its prefix is enough), unpacked; `None` when absent.
pub fn image(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/volumes");
    let packed = fs::read_dir(&folder).ok().and_then(|dir| {
        let mut all = dir.flatten().map(|e| e.path());
        all.find(|p| {
            let file = p.file_name().unwrap_or_default().to_string_lossy();
            file.starts_with(name) && file.ends_with(".img.zst")
        })
    });
    let Some(packed) = packed else {
        eprintln!("skipped: the public image {name} is not there");
        return None;
    };
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(packed.file_stem().unwrap());
    if !to.exists() {
        let partial = to.with_extension(format!(
            "partial-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        unpack(&packed, &partial);
        fs::rename(&partial, &to).unwrap();
    }
    Some(to)
}

/// Unpacks without writing blocks of zeros.
fn unpack(from: &Path, to: &Path) {
    let mut input = zstd::Decoder::new(File::open(from).unwrap()).unwrap();
    let mut out = File::create(to).unwrap();
    let zeros = vec![0u8; 1 << 16];
    let mut block = zeros.clone();
    let mut len = 0u64;
    loop {
        let mut have = 0;
        while have < block.len() {
            match input.read(&mut block[have..]).unwrap() {
                0 => break,
                n => have += n,
            }
        }
        if have == 0 {
            break;
        }
        if block[..have] != zeros[..have] {
            out.seek(SeekFrom::Start(len)).unwrap();
            out.write_all(&block[..have]).unwrap();
        }
        len += have as u64;
    }
    out.set_len(len).unwrap();
}

/// The volume inside an image: `at` is where it begins and how long it is, or
/// the whole image.
pub fn volume_source(name: &str, at: Option<(u64, u64)>) -> Option<SharedSource> {
    let source = PlainFile::open(&image(name)?);
    Some(match at {
        Some((start, len)) => part(source, start, len),
        None => source,
    })
}

fn testdata_bytes(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(file);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A text file of `testdata/`.
pub fn testdata_text(file: &str) -> String {
    String::from_utf8(testdata_bytes(file)).unwrap()
}

/// A volume of `testdata/`, unpacked into memory.
pub fn testdata(name: &str) -> Vec<u8> {
    let packed = testdata_bytes(&format!("{name}.img.zst"));
    let dictionary = testdata_bytes("upcase.dict");
    let mut out = Vec::new();
    let mut input = zstd::Decoder::with_dictionary(&packed[..], &dictionary).unwrap();
    input.read_to_end(&mut out).unwrap();
    out
}

/// A source of described pieces; zero everywhere else.
pub struct Sparse {
    len: u64,
    /// By offset, without overlaps.
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    /// The same as a sparse file.
    pub fn unpack(name: &str, to: &Path) {
        let all = Self::read(name);
        let out = File::create(to).unwrap();
        out.set_len(all.len).unwrap();
        for (at, bytes) in &all.pieces {
            out.write_all_at(bytes, *at).unwrap();
        }
    }

    /// `NAME.sparse.zst` of `testdata/`; its README tells the form.
    pub fn testdata(name: &str) -> SharedSource {
        Arc::new(Self::read(name))
    }

    fn read(name: &str) -> Self {
        let packed = testdata_bytes(&format!("{name}.sparse.zst"));
        let dictionary = testdata_bytes("upcase.dict");
        let mut input = zstd::Decoder::with_dictionary(&packed[..], &dictionary).unwrap();
        let mut all = Vec::new();
        input.read_to_end(&mut all).unwrap();
        let number = |at: usize| u64::from_le_bytes(all[at..at + 8].try_into().unwrap());
        assert_eq!(&all[..8], b"NTBKSPRS");
        let (len, mut at, mut pieces) = (number(8), 16, Vec::new());
        while at < all.len() {
            let (offset, n) = (number(at), number(at + 8) as usize);
            pieces.push((offset, all[at + 16..at + 16 + n].to_vec()));
            at += 16 + n;
        }
        Self { len, pieces }
    }
}

impl Source for Sparse {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        buf.fill(0);
        let end = offset + buf.len() as u64;
        let from = self
            .pieces
            .partition_point(|(at, bytes)| at + bytes.len() as u64 <= offset);
        for (at, bytes) in &self.pieces[from..] {
            if *at >= end {
                break;
            }
            let (first, last) = (offset.max(*at), end.min(at + bytes.len() as u64));
            buf[(first - offset) as usize..(last - offset) as usize]
                .copy_from_slice(&bytes[(first - at) as usize..(last - at) as usize]);
        }
        Ok(())
    }
    fn name(&self) -> &str {
        "sparse"
    }
}

/// Every image in `testdata/`, by name.
pub fn testdata_names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let names = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = names
        .filter_map(|e| {
            let name = e.file_name();
            Some(name.to_str()?.strip_suffix(".img.zst")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

/// The golden list of an image of `testdata/`, if it has one.
pub fn image_list(name: &str) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    fs::read_to_string(folder.join(format!("{name}.tsv"))).ok()
}
