//! `cat`: the content of one stream.

use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::RecordNo;
use crate::volume::path::VolumePath;
use crate::volume::stream::{Piece, Stream};
use crate::volume::tree::{Found, Tree};

/// Longest piece of zeros that is handed on at once, bytes.
const ZEROS: usize = 1 << 16;

/// Opens the stream of a path.
pub fn open(tree: &Tree<'_>, path: &VolumePath) -> Result<Stream> {
    tree.open(&tree.lookup(path)?)
}

/// Opens the unnamed stream of a record, also of a deleted one.
pub fn open_record(tree: &Tree<'_>, n: RecordNo) -> Result<Stream> {
    let record = tree.volume().record(n)?;
    tree.open(&Found {
        file: record.view().file_ref(),
        path: format!("<mft {n}>").into_bytes(),
        stream: None,
    })
}

/// Hands on the content of a stream from `offset` on, at most `len` bytes.
/// The first part that cannot be read ends it with its error.
pub fn cat(
    stream: &Stream,
    offset: u64,
    len: u64,
    observer: &dyn Observer,
    mut out: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let zeros = [0u8; ZEROS];
    stream.copy_range(offset, len, |piece| {
        if observer.cancelled() {
            return Err(Error::interrupted());
        }
        match piece {
            Piece::Data(bytes) => {
                observer.advance(bytes.len() as u64);
                out(bytes)
            }
            Piece::Zero(mut n) => {
                while n > 0 {
                    if observer.cancelled() {
                        return Err(Error::interrupted());
                    }
                    let now = n.min(ZEROS as u64);
                    observer.advance(now);
                    out(&zeros[..now as usize])?;
                    n -= now;
                }
                Ok(())
            }
            Piece::Unreadable(_, e) => Err(e),
        }
    })
}
