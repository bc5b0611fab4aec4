//! Evidence digests of the whole source, fed in order while it is read.

use crate::error::{Error, Result};
use sha2::Digest;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A digest that other tools compute too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// SHA-256.
    Sha256,
    /// MD5.
    Md5,
}

impl HashKind {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "md5" => Some(Self::Md5),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Md5 => "md5",
        }
    }
}

/// A digest's thread.
struct Worker {
    kind: HashKind,
    feed: SyncSender<Arc<Vec<u8>>>,
    thread: JoinHandle<String>,
}

/// Computes digests in threads of their own, one for each.
pub struct Hashers {
    workers: Vec<Worker>,
}

impl Hashers {
    /// Starts a thread for each of `kinds`.
    pub fn start(kinds: &[HashKind]) -> Self {
        let workers = kinds
            .iter()
            .map(|&kind| {
                let (tx, rx) = sync_channel::<Arc<Vec<u8>>>(4);
                let run = move || match kind {
                    HashKind::Sha256 => digest::<sha2::Sha256>(&rx),
                    HashKind::Md5 => digest::<md5::Md5>(&rx),
                };
                Worker {
                    kind,
                    feed: tx,
                    thread: std::thread::spawn(run),
                }
            })
            .collect();
        Self { workers }
    }

    /// The next bytes of the source.
    pub fn feed(&self, bytes: &Arc<Vec<u8>>) -> Result<()> {
        for w in &self.workers {
            w.feed
                .send(bytes.clone())
                .map_err(|_| Error::usage(format!("{} stopped", w.kind.name())))?;
        }
        Ok(())
    }

    /// The digests in hex.
    pub fn finish(self) -> Result<Vec<(HashKind, String)>> {
        self.workers
            .into_iter()
            .map(|w| {
                drop(w.feed);
                let hex = w
                    .thread
                    .join()
                    .map_err(|_| Error::usage(format!("{} stopped", w.kind.name())))?;
                Ok((w.kind, hex))
            })
            .collect()
    }
}

fn digest<D: Digest>(rx: &std::sync::mpsc::Receiver<Arc<Vec<u8>>>) -> String {
    let mut d = D::new();
    while let Ok(bytes) = rx.recv() {
        d.update(&bytes[..]);
    }
    d.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let h = Hashers::start(&[HashKind::Sha256, HashKind::Md5]);
        h.feed(&Arc::new(b"a".to_vec())).unwrap();
        h.feed(&Arc::new(b"bc".to_vec())).unwrap();
        let got: Vec<String> = h.finish().unwrap().into_iter().map(|(_, h)| h).collect();
        assert_eq!(
            got,
            [
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "900150983cd24fb0d6963f7d28e17f72"
            ]
        );
    }
}
