//! The sense data behind an error as the unit gave it, for who wants to read it
//! himself.

use crate::error::Error;
use crate::scsi::Failure;

/// Its bytes in hexadecimal, if a unit's status is the cause of the error and
/// came with sense data.
pub fn of(e: &Error) -> Option<String> {
    let first = std::error::Error::source(e);
    let mut chain = std::iter::successors(first, |e| e.source());
    let raw = chain.find_map(|e| {
        let sense = e.downcast_ref::<Failure>()?.sense.as_ref()?;
        Some(sense.raw.to_vec()).filter(|raw| !raw.is_empty())
    })?;
    let bytes: Vec<String> = raw.iter().map(|b| format!("{b:02x}")).collect();
    Some(bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::{Sense, SenseKey, Status};

    #[test]
    fn bytes_as_they_came() {
        let made = Sense::new(SenseKey::MediumError, 0x11, 0);
        let failed = |sense: Option<Sense>| {
            let status = Status::CheckCondition;
            Failure { status, sense }.error("disk", "Reading failed")
        };
        for (form, first) in [
            (made.encode_fixed(), "70 00 03"),
            (made.encode_descriptor(), "72 03 11"),
        ] {
            let came = Sense::decode(&form);
            let e = failed(came);
            let shown = of(&e).unwrap();
            assert!(shown.starts_with(first), "{shown}");
            assert_eq!(shown.split(' ').count(), form.len());
            // Also behind another error.
            let outer = Error::usage("The job failed").caused_by(e);
            assert_eq!(of(&outer), Some(shown));
        }
        assert_eq!(of(&failed(None)), None);
        assert_eq!(of(&failed(Some(made))), None);
        assert_eq!(of(&Error::usage("no unit is in it")), None);
    }
}
