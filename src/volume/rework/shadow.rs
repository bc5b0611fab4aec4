//! Storage of shadow copies. It names clusters of the volume by their place, so
//! it is of no use once they moved.

use super::records::has_list;
use crate::units::RecordNo;
use crate::volume::open::Volume;
use crate::volume::tree::names_of;

/// Where the volume says that it has shadow copies, bytes from its start.
pub(super) const HEADER: u64 = 0x1e00;
/// Bytes of that.
pub(super) const HEADER_LEN: usize = 512;
/// `{3808876b-c176-4e48-b7ae-04046e6cc752}` as it stands in the header.
pub(super) const ID: [u8; 16] = [
    0x6b, 0x87, 0x08, 0x38, 0x76, 0xc1, 0x48, 0x4e, 0xb7, 0xae, 0x04, 0x04, 0x6e, 0x6c, 0xc7, 0x52,
];
const NAME: &[u8] = b"{3808876b-c176-4e48-b7ae-04046e6cc752}";
const FOLDER: &[u8] = b"system volume information";

/// True for the catalogue and the stores of shadow copies: the id alone, or
/// behind the id of a store.
pub(super) fn is_store_name(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(NAME)
        && (name.len() == NAME.len() || name.len() == 2 * NAME.len() && name[0] == b'{')
}

/// The base records, sorted, of those candidates (base record, directory) that
/// lie in `\System Volume Information`; and how many of them cannot be emptied,
/// because several records hold them.
pub(super) fn stores(volume: &Volume, found: Vec<(u32, u64)>) -> (Vec<u32>, u64) {
    let in_folder = |parent: u64| {
        let Ok(file) = volume.file(RecordNo(parent)) else {
            return false;
        };
        names_of(&file)
            .iter()
            .any(|(dir, name)| dir.record.0 == 5 && name.to_ascii_lowercase() == FOLDER)
    };
    let mut parents = std::collections::HashMap::new();
    let mut out: Vec<u32> = found
        .into_iter()
        .filter(|(_, p)| *parents.entry(*p).or_insert_with(|| in_folder(*p)))
        .map(|(base, _)| base)
        .collect();
    out.sort_unstable();
    out.dedup();
    let all = out.len();
    out.retain(|&n| {
        let record = volume.record(RecordNo(n.into()));
        record.is_ok_and(|r| !has_list(&r.view()))
    });
    let kept = (all - out.len()) as u64;
    (out, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_stores() {
        let id = String::from_utf8(NAME.to_vec()).unwrap();
        let other = "{01234567-89ab-cdef-0123-456789abcdef}";
        assert!(is_store_name(id.as_bytes()));
        assert!(is_store_name(
            format!("{other}{}", id.to_uppercase()).as_bytes()
        ));
        assert!(!is_store_name(other.as_bytes()));
        assert!(!is_store_name(format!("x{id}").as_bytes()));
    }
}
