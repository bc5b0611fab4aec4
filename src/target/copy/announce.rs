//! What the copy manager says of itself: operating parameters (84h/03h) and VPD
//! page 8Fh.

use crate::copy::limits::Limits;

fn u32_of(n: u64) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes()
}

fn u16_of(n: u64) -> [u8; 2] {
    u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes()
}

/// 84h/03h OPERATING PARAMETERS.
pub fn operating_parameters(l: &Limits) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.push(u8::from(l.no_list_id));
    out.extend([0; 3]);
    out.extend(u16_of(l.cscds.into()));
    out.extend(u16_of(l.segments.into()));
    for n in [
        l.list_bytes,
        l.segment_bytes,
        l.inline_bytes,
        l.held_bytes,
        l.stream_transfer,
    ] {
        out.extend(u32_of(n));
    }
    out.extend([0; 2]);
    out.extend(l.total_concurrent.to_be_bytes());
    out.push(l.concurrent);
    out.extend([l.data_granularity, l.inline_granularity, l.held_granularity]);
    out.extend([0; 3]);
    out.push(l.codes.len().min(255) as u8);
    out.extend(l.codes.iter().take(255));
    let available = (out.len() - 4) as u32;
    out.splice(0..4, available.to_be_bytes());
    out
}

/// A descriptor of the page: its body is brought to a multiple of four.
fn descriptor(out: &mut Vec<u8>, kind: u16, mut body: Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
    out.extend(kind.to_be_bytes());
    out.extend(u16_of(body.len() as u64));
    out.extend(body);
}

/// VPD page 8Fh without its header. `commands` are operation codes with their
/// service actions.
pub fn third_party_page(l: &Limits, commands: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut list = Vec::new();
    for (code, actions) in commands {
        list.extend([*code, actions.len().min(255) as u8]);
        list.extend(actions);
    }
    let mut body = vec![list.len().min(255) as u8];
    body.extend(list);
    descriptor(&mut out, 0x0001, body);

    let mut body = vec![0; 4];
    body.extend(u16_of(l.cscds.into()));
    body.extend(u16_of(l.segments.into()));
    body.extend(u32_of(l.list_bytes));
    body.extend(u32_of(l.inline_bytes));
    body.resize(28, 0);
    descriptor(&mut out, 0x0004, body);

    let mut body = vec![l.codes.len().min(255) as u8];
    body.extend(l.codes.iter().take(255));
    descriptor(&mut out, 0x0008, body);

    let mut body = u32_of(u64::from(l.concurrent).max(l.total_concurrent.into())).to_vec();
    body.extend(u32_of(l.concurrent.into()));
    body.extend(u32_of(l.segment_bytes));
    body.extend([l.data_granularity, l.inline_granularity]);
    body.resize(32, 0);
    descriptor(&mut out, 0x8001, body);

    if l.stream_transfer != 0 {
        let mut body = u32_of(l.stream_transfer).to_vec();
        body.resize(12, 0);
        descriptor(&mut out, 0x9101, body);
    }
    if l.held_bytes != 0 {
        let mut body = u32_of(l.held_bytes).to_vec();
        body.push(l.held_granularity);
        body.resize(28, 0);
        descriptor(&mut out, 0xc001, body);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::profile;

    #[test]
    fn parameters_of_a_known_engine() {
        let l = &profile::find("lio").unwrap().announced;
        let p = operating_parameters(l);
        let expected = [
            0, 0, 0, 0x2a, 1, 0, 0, 0, 0, 2, 0, 1, 0, 0, 4, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 9, 9, 9, 0, 0, 0, 2, 2, 0xe4,
        ];
        let mut p2 = p.clone();
        p2[39] = 9; // it announces a granularity of data it never holds
        assert_eq!(p2, expected);
        assert_eq!(p[39], 0);
    }

    #[test]
    fn descriptors_of_the_page_follow_each_other() {
        let l = &profile::find("full-ntbak").unwrap().announced;
        let page = third_party_page(l, &[(0x83, vec![0, 0x1c]), (0x84, vec![0, 1, 3, 4])]);
        let mut at = 0;
        let mut kinds = Vec::new();
        while at < page.len() {
            let word = |i: usize| u16::from_be_bytes([page[i], page[i + 1]]);
            kinds.push(word(at));
            assert_eq!(word(at + 2) % 4, 0);
            at += 4 + usize::from(word(at + 2));
        }
        assert_eq!(at, page.len());
        assert_eq!(kinds, [1, 4, 8, 0x8001, 0x9101, 0xc001]);
        assert_eq!(page[4..15], [10, 0x83, 2, 0, 0x1c, 0x84, 4, 0, 1, 3, 4]);
    }
}
