//! Floor 0: random bytes from the kernel.

use crate::error::{Error, Result};
use rustix::rand::{GetRandomFlags, getrandom};

/// So many random bytes.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut out = [0; N];
    let mut rest = &mut out[..];
    while !rest.is_empty() {
        let n = getrandom(&mut *rest, GetRandomFlags::empty())
            .map_err(|e| Error::io("Random bytes are not to be had", e.into()))?;
        rest = rest.split_at_mut(n.min(rest.len())).1;
    }
    Ok(out)
}
