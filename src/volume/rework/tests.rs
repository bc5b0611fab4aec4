//! The way that is taken when no better layout fits: it must fit always.

use super::*;
use crate::device::{Rearranged, SharedSource, Source};
use crate::observe::Silent;
use crate::volume::{Volume, analyse};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

struct Memory(Vec<u8>);

impl Source for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn name(&self) -> &str {
        "memory"
    }
}

fn testdata(name: &str) -> SharedSource {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let (packed, dictionary) = (read(&format!("{name}.img.zst")), read("upcase.dict"));
    let mut out = Vec::new();
    let mut input = zstd::Decoder::with_dictionary(&packed[..], &dictionary).unwrap();
    input.read_to_end(&mut out).unwrap();
    Arc::new(Memory(out))
}

#[test]
fn squeezing_always_fits() {
    let names = [
        "attrlist",
        "mft-attrlist",
        "sparse",
        "lznt1-512",
        "bigdir",
        "links",
        "ntfs-1-2",
        "rec4k-sector4096",
        "cluster-64k",
    ];
    for name in names {
        let source = testdata(name);
        let old = Volume::open(source.clone()).unwrap();
        let s = survey(&old, &Silent).unwrap();
        let tight = s.tight(&Silent).unwrap().clone();
        let total = old.geometry().total_clusters;
        for clusters in [
            tight.clusters,
            tight.clusters + 1,
            (tight.clusters + total) / 2,
            total,
        ] {
            for limit in [clusters, tight.clusters] {
                let wish = Wish {
                    new_bytes: Some(Shape::bytes_for(old.geometry(), clusters)),
                    ..Wish::default()
                };
                let shape = Shape::of(&old, &wish);
                assert_eq!(shape.clusters, clusters, "{name}");
                let task = s.task(clusters, limit, true, &tight.extra).unwrap();
                let placed = place::squeeze(&task, limit).unwrap();
                let done = build(&s, &wish, shape, placed, true, How::Squeezed, &Silent).unwrap();
                let done = done.unwrap_or_else(|u| panic!("{name}: {u:?}"));
                let new: SharedSource = Arc::new(Rearranged::new(source.clone(), Arc::new(done)));
                let new = Volume::open(new).unwrap();
                assert!(new.notes().is_empty(), "{name}: {:?}", new.notes());
                let usage = analyse(&new, &Silent).unwrap().report;
                assert!(
                    usage.differences.is_empty(),
                    "{name}: {:?}",
                    usage.differences
                );
                let before = analyse(&old, &Silent).unwrap().report;
                assert_eq!(usage.records, before.records, "{name}");
            }
        }
    }
}
