//! Values that tell whether they are whole.

/// Bytes of the line in front of the filling.
const HEADER: usize = 34;

/// The length of the value with this number: 64 bytes to 5 pages, different from its neighbours'.
pub(super) fn length(sequence: u64) -> usize {
    64 + usize::try_from(sequence * 7919 % 20_011).expect("it is small")
}

/// The value with this number.
pub(super) fn of(sequence: u64) -> Vec<u8> {
    let length = length(sequence);
    let mut value = format!("{sequence:016} {length:016}\n").into_bytes();
    value.extend((HEADER..length).map(|at| filling(sequence, at)));
    value
}

/// The number of a whole value, or what is wrong with it: the kind and the details.
pub(super) fn check(bytes: &[u8]) -> Result<u64, (&'static str, String)> {
    if bytes.is_empty() {
        return Err(("empty", "no bytes at all".to_owned()));
    }
    let torn = |what: String| Err(("torn", format!("{} bytes, {what}", bytes.len())));
    let header = bytes.get(..HEADER).and_then(|header| std::str::from_utf8(header).ok());
    let Some((sequence, said)) = header.and_then(|header| header.trim_end().split_once(' ')) else {
        return torn("the header is damaged".to_owned());
    };
    let (Ok(sequence), Ok(said)) = (sequence.parse::<u64>(), said.parse::<usize>()) else {
        return torn("the header is damaged".to_owned());
    };
    if said != bytes.len() || said != length(sequence) {
        return torn(format!("value {sequence} has {said}"));
    }
    match (HEADER..said).find(|&at| bytes[at] != filling(sequence, at)) {
        Some(at) => torn(format!("value {sequence} differs at byte {at}: {:#04x}", bytes[at])),
        None => Ok(sequence),
    }
}

fn filling(sequence: u64, at: usize) -> u8 {
    let at = at as u64;
    b'a' + u8::try_from((sequence * 31 + at * 7 + at / 97) % 26).expect("it is small")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_values_pass() {
        for sequence in [0, 1, 2, 12345] {
            let value = of(sequence);
            assert_eq!(value.len(), length(sequence));
            assert_eq!(check(&value), Ok(sequence));
        }
        let kind = |bytes: &[u8]| check(bytes).unwrap_err().0;
        assert_eq!(kind(&[]), "empty");
        assert_eq!(kind(&of(1)[..40]), "torn");
        assert_eq!(kind(&[of(1), vec![0]].concat()), "torn");
        let mut mixed = of(1);
        mixed[50..60].fill(0);
        assert_eq!(kind(&mixed), "torn");
    }
}
