//! Unpacks a test volume: `unpack FILE.img.zst FILE.img`. Zeros become holes.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

fn main() -> io::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let (Some(from), Some(to)) = (args.next(), args.next()) else {
        return Err(io::Error::other("usage: unpack FILE.img.zst FILE.img"));
    };
    // All but one of the volumes share a dictionary, which lies beside them.
    let dictionary = Path::new(&from).with_file_name("upcase.dict");
    let dictionary = std::fs::read(dictionary).unwrap_or_default();
    let packed = BufReader::new(File::open(&from)?);
    let mut input = zstd::Decoder::with_dictionary(packed, &dictionary)?;
    let mut out = File::create(to)?;
    let mut block = vec![0; 64 << 10];
    let mut len = 0;
    loop {
        let n = input.read(&mut block)?;
        if n == 0 {
            return out.set_len(len);
        }
        if block[..n].iter().any(|&b| b != 0) {
            out.seek(SeekFrom::Start(len))?;
            out.write_all(&block[..n])?;
        }
        len += n as u64;
    }
}
