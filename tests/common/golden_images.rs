//! The public test volumes, expanded for a test.

#![allow(dead_code)]

use ntbak::device::{Source, Window};
use ntbak::error::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A regular file, read by position.
pub struct FileSource {
    file: File,
    len: u64,
    name: String,
}

impl FileSource {
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        Self {
            file,
            len,
            name: path.display().to_string(),
        }
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|e| Error::io("Could not read", e).at(offset))
    }
    fn name(&self) -> &str {
        &self.name
    }
}

/// Where the public volumes lie, if they are there.
pub fn volumes() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/volumes");
    dir.is_dir().then_some(dir)
}

/// A volume image, expanded into a sparse temporary file.
pub struct Image {
    pub path: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

/// Expands `NAME.img.zst`. `NTBAK_EXPANDED` may name a folder that has the
/// images expanded already.
pub fn image(volumes: &Path, name: &str) -> Image {
    if let Some(dir) = std::env::var_os("NTBAK_EXPANDED") {
        let path = Path::new(&dir).join(format!("{name}.img"));
        if path.exists() {
            return Image { path, _dir: None };
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume.img");
    let packed = File::open(volumes.join(format!("{name}.img.zst"))).unwrap();
    let mut from = zstd::Decoder::new(packed).unwrap();
    let mut to = File::create(&path).unwrap();
    let zeros = vec![0u8; 1 << 20];
    let mut buf = zeros.clone();
    let mut len = 0u64;
    loop {
        let mut n = 0;
        while n < buf.len() {
            match from.read(&mut buf[n..]).unwrap() {
                0 => break,
                k => n += k,
            }
        }
        if n == 0 {
            break;
        }
        len += n as u64;
        if buf[..n] == zeros[..n] {
            to.seek(SeekFrom::Start(len)).unwrap();
        } else {
            to.write_all(&buf[..n]).unwrap();
        }
    }
    to.set_len(len).unwrap();
    Image {
        path,
        _dir: Some(dir),
    }
}

/// The partitions of an image: the number in paths (none for a bare volume)
/// and its source.
pub fn partitions(name: &str, image: &Image) -> Vec<(Option<u32>, Arc<dyn Source>)> {
    let whole: Arc<dyn Source> = Arc::new(FileSource::open(&image.path));
    let ranges: &[(u64, u64)] = match &name[..3] {
        "v01" | "v02" | "v03" | "v04" | "v10" => &[(65536, 0)],
        "v11" => &[(1 << 20, 2_148_532_224), (2_148_532_224, 0)],
        _ => return vec![(None, whole)],
    };
    let ranges = ranges.iter().enumerate().map(|(i, &(start, end))| {
        let end = if end == 0 { whole.len() } else { end };
        let window = Window::new(whole.clone(), start, end - start, name.to_owned()).unwrap();
        (Some(i as u32 + 1), Arc::new(window) as Arc<dyn Source>)
    });
    ranges.collect()
}
