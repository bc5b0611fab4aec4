//! Archives that are damaged or forged, record by record.

use super::*;

/// Damages every record of an archive in several ways; whatever happens, no
/// wrong byte comes out and nothing looks complete that is not.
#[test]
fn damage_matrix() {
    let bytes = common::testdata("lznt1-4k");
    let plan_ = plan_of(memory(&bytes), &PlanOptions::default());
    let archive = archive_of(&plan_);
    let mut want = vec![0xEE; bytes.len()];
    for r in plan_.kept_ranges() {
        let r = r.start as usize..r.end as usize;
        want[r.clone()].copy_from_slice(&bytes[r]);
    }
    let mut places = Vec::new();
    let mut walker = ntbak::archive::Walker::new(Forward::new(memory(&archive), 0), 0);
    let mut kinds = Vec::new();
    while let Some(ntbak::archive::Found::Record(h)) = walker.step().unwrap() {
        places.push((
            h.stream_offset as usize,
            h.total_len() as usize,
            h.len(),
            h.kind,
        ));
        kinds.push(h.kind);
    }
    for k in [
        Kind::Head,
        Kind::Disk,
        Kind::Mft,
        Kind::Chunk,
        Kind::Index,
        Kind::Report,
        Kind::Tail,
    ] {
        assert!(kinds.contains(&k), "{k:?}");
    }
    let source = Volume::open(memory(&bytes)).unwrap();
    let contents: Vec<(&str, Vec<u8>)> = ["/c/text.txt", "/c/mixed.bin", "/plain.txt:squeezed"]
        .into_iter()
        .filter_map(|p| {
            let tree = Tree::new(&source);
            tree.lookup(&VolumePath::parse(p.as_bytes()).unwrap())
                .ok()?;
            Some((p, stream_of(&source, p)))
        })
        .collect();
    assert!(contents.len() >= 2);
    let (mut tried, mut read) = (0, 0);
    for (at, len, header, kind) in places {
        let mut cases: Vec<(&str, Vec<u8>)> = Vec::new();
        let mut c = archive.clone();
        c.drain(at..at + len);
        cases.push(("deleted", c));
        let mut c = archive.clone();
        c.drain(at..at + 100);
        cases.push(("bytes torn out", c));
        cases.push(("truncated before", archive[..at].to_vec()));
        cases.push(("truncated inside", archive[..at + len / 2].to_vec()));
        let mut c = archive.clone();
        c[at + 40] ^= 0x40;
        cases.push(("header garbled", c));
        let mut c = archive.clone();
        c[at..at + len].fill(0);
        cases.push(("zeroed", c));
        if len > header {
            for place in [header, header + 17] {
                if place < len {
                    let mut c = archive.clone();
                    c[at + place] ^= 1;
                    cases.push(("payload garbled", c));
                }
            }
        }
        for (how, hurt) in cases {
            tried += 1;
            let what = format!("{kind:?} {how}");
            match verify(memory(&hurt), &VerifyOptions { threads: 2 }, &Silent) {
                Ok(o) => assert!(!o.is_sound(), "{what}: verify says it is sound"),
                Err(e) => assert_ne!(e.kind(), ErrorKind::Interrupted, "{what}"),
            }
            let sink = MemorySink::used(vec![0xEE; bytes.len()], 512);
            match restore_on(
                memory(&hurt),
                &sink,
                &RestoreOptions {
                    partial: true,
                    ..plain()
                },
            ) {
                Err(_) => {}
                Ok(summary) => {
                    let out = sink.bytes();
                    let wrong = (0..out.len() / 512)
                        .map(|s| s * 512..(s + 1) * 512)
                        .filter(|r| {
                            let (o, w) = (&out[r.clone()], &want[r.clone()]);
                            o != w && !o.iter().all(|&b| b == 0xEE) && !o.iter().all(|&b| b == 0)
                        })
                        .count();
                    assert_eq!(wrong, 0, "{what}: wrong bytes were restored");
                    let missing = out != want;
                    assert!(
                        !missing || !summary.complete,
                        "{what}: incomplete, not said"
                    );
                    assert!(!missing || !summary.damage.is_empty() || summary.totals.is_none());
                }
            }
            // Browsing gives right bytes or an error.
            if let Ok(a) = Archive::open(memory(&hurt)) {
                if matches!(how, "truncated before" | "truncated inside") {
                    assert!(!a.is_complete(), "{what}");
                }
                let Ok(view) = RegionView::new(Arc::new(a), 1) else {
                    continue;
                };
                let Ok(volume) = Volume::open(Arc::new(view)) else {
                    continue;
                };
                let tree = Tree::new(&volume);
                for (path, want) in &contents {
                    let found = tree.lookup(&VolumePath::parse(path.as_bytes()).unwrap());
                    let Ok(stream) = found.and_then(|f| tree.open(&f)) else {
                        continue;
                    };
                    let mut got = vec![0; stream.len() as usize];
                    if stream.read_at(0, &mut got).is_ok() {
                        read += 1;
                        assert!(got == *want, "{what}: wrong bytes of {path}");
                    }
                }
            }
        }
    }
    assert!(read > 100, "{read}");
    eprintln!("{tried} damaged archives");
}

#[test]
fn damage_names_its_files() {
    let bytes = common::testdata("attrlist");
    let plan_ = plan_of(memory(&bytes), &PlanOptions::default());
    let mut archive = archive_of(&plan_);
    let volume = Volume::open(memory(&bytes)).unwrap();
    let cell = first_byte(&volume, "/dir/b") >> 20;
    let opened = Archive::open(memory(&archive)).unwrap();
    let chunk = opened
        .index()
        .entries
        .iter()
        .find(|e| !e.mft && e.position == cell)
        .unwrap();
    let mft = opened.index().entries.iter().find(|e| e.mft).unwrap();
    let header_too = mft.offset as usize + 30;
    let payload = chunk.offset as usize + chunk.blocks as usize * BLOCK - 2000;
    archive[payload] ^= 1;
    archive[header_too] ^= 1;
    let mut outcome = verify(memory(&archive), &VerifyOptions { threads: 2 }, &Silent).unwrap();
    assert_eq!(outcome.damage.len(), 2, "{:?}", outcome.damage);
    let opened = Arc::new(Archive::open(memory(&archive)).unwrap());
    name_files(&opened, &mut outcome.damage, &Silent);
    let files: Vec<&String> = outcome.damage.iter().flat_map(|d| &d.files).collect();
    assert!(
        files.iter().any(|f| f.starts_with("file records ")),
        "{files:?}"
    );
}

/// Changes the header at `at` and mends its CRC-32C.
fn forge(archive: &[u8], at: usize, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut out = archive.to_vec();
    let len = u32::from_le_bytes(out[at + 16..at + 20].try_into().unwrap()) as usize;
    let header = &mut out[at..at + len];
    change(header);
    header[124..128].fill(0);
    let crc = crc32c::crc32c(header);
    header[124..128].copy_from_slice(&crc.to_le_bytes());
    out
}

#[test]
fn forged_records_are_damage() {
    let bytes = common::testdata("attrlist");
    let plan_ = plan_of(memory(&bytes), &PlanOptions::default());
    let archive = archive_of(&plan_);
    let opened = Archive::open(memory(&archive)).unwrap();
    let chunks: Vec<_> = opened.index().entries.iter().filter(|e| !e.mft).collect();
    let at = chunks[1].offset as usize;
    let cases: [(&str, Vec<u8>); 7] = [
        ("another region", forge(&archive, at, |h| h[14] = 77)),
        ("another cell", forge(&archive, at, |h| h[56] += 1)),
        ("an earlier cell", forge(&archive, at, |h| h[56] = 0)),
        ("another unit", forge(&archive, at, |h| h[113] = 1)),
        ("another cell size", forge(&archive, at, |h| h[117] *= 2)),
        ("no digest", forge(&archive, at, |h| h[12] = 0)),
        (
            "another run",
            forge(&archive, at, |h| h[128] = h[128].wrapping_add(1)),
        ),
    ];
    for (what, forged) in cases {
        let outcome = verify(memory(&forged), &VerifyOptions { threads: 2 }, &Silent).unwrap();
        assert!(!outcome.is_sound(), "{what}");
        assert!(
            outcome.damage.iter().any(|d| d.loses_data),
            "{what}: {:?}",
            outcome.damage
        );
        let (out, summary) = restored(memory(&forged), bytes.len(), &plain());
        assert!(!summary.complete && !summary.verified, "{what}");
        assert!(
            out[..512].iter().all(|&b| b == 0),
            "{what}: looks like a volume"
        );
    }
}
