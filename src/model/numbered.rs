//! Enums whose encoding names the variant by an explicit number, for what another version of the program reads.
//!
//! The first byte is the number, and the fields follow (postcard). A number is never used again. What is encoded
//! differently is another variant with a number of its own, so that no version reads bytes as something that they
//! are not.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An enum that `numbered!` defines.
pub trait Numbered: Serialize + DeserializeOwned {
    /// The numbers of the variants, in their order.
    const NUMBERS: &[u8];
}

/// Why bytes cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum DecodeError {
    /// No variant has this number: a later version may know it.
    #[error("kind {0}, which this version does not know")]
    UnknownKind(u8),
    /// The fields are not those of the variant, or something follows them.
    #[error("kind {0}, whose content is not as this version knows it")]
    Malformed(u8),
    /// There are no bytes.
    #[error("no content")]
    Empty,
}

/// Encodes into `room`; none if it does not fit.
pub fn encode<'a, T: Numbered>(value: &T, room: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let bytes = postcard::to_slice(value, room).ok()?;
    let (kind, _) = bytes.split_first_mut()?;
    *kind = *T::NUMBERS.get(usize::from(*kind))?;
    Some(bytes)
}

/// Decodes what [`encode`] has made. Changes the first byte.
///
/// # Errors
/// Another version made it, or it is not whole.
pub fn decode<T: Numbered>(bytes: &mut [u8]) -> Result<T, DecodeError> {
    let (kind, _) = bytes.split_first_mut().ok_or(DecodeError::Empty)?;
    let number = *kind;
    let position = T::NUMBERS.iter().position(|&known| known == number);
    let position = position.and_then(|position| u8::try_from(position).ok());
    *kind = position.ok_or(DecodeError::UnknownKind(number))?;
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(DecodeError::Malformed(number)),
    }
}

/// Defines an enum with a number before each variant, at most 127 of them.
macro_rules! numbered {
    ($(#[$meta:meta])* $visible:vis enum $name:ident {
        $($number:literal => { $($variant:tt)+ })+
    }) => {
        $(#[$meta])*
        #[derive(serde::Serialize, serde::Deserialize)]
        $visible enum $name { $($($variant)+),+ }

        impl $crate::model::Numbered for $name {
            const NUMBERS: &[u8] = {
                const NUMBERS: &[u8] = &[$($number),+];
                let mut at = 1;
                while at < NUMBERS.len() {
                    assert!(NUMBERS[at - 1] < NUMBERS[at], "numbers ascend, so that none is twice");
                    at += 1;
                }
                assert!(NUMBERS.len() < 128, "the position of a variant is one byte");
                NUMBERS
            };
        }
    };
}
pub(crate) use numbered;

#[cfg(test)]
mod tests {
    use super::*;

    numbered! {
        #[derive(Debug, PartialEq)]
        enum Old {
            0 => { A(u32) }
            3 => { B { text: String } }
            4 => { C }
        }
    }

    numbered! {
        #[derive(Debug, PartialEq)]
        enum New {
            0 => { A(u32) }
            1 => { Between(u64) }
            3 => { B { text: String } }
            // It was `C` with another content.
            200 => { C(String) }
        }
    }

    fn pass<T: Numbered, U: Numbered>(value: &T) -> Result<U, DecodeError> {
        decode(encode(value, &mut [0; 64]).unwrap())
    }

    #[test]
    fn another_version_reads_what_it_knows_and_guesses_nothing() {
        let text = || "x".to_owned();
        assert_eq!(pass(&Old::A(7)), Ok(New::A(7)));
        assert_eq!(pass(&New::A(7)), Ok(Old::A(7)));
        assert_eq!(pass(&Old::B { text: text() }), Ok(New::B { text: text() }));
        assert_eq!(pass(&New::B { text: text() }), Ok(Old::B { text: text() }));
        assert_eq!(pass::<_, New>(&Old::C), Err(DecodeError::UnknownKind(4)));
        assert_eq!(pass::<_, Old>(&New::C(text())), Err(DecodeError::UnknownKind(200)));
        assert_eq!(pass::<_, Old>(&New::Between(7)), Err(DecodeError::UnknownKind(1)));
    }

    #[test]
    fn what_is_longer_or_shorter_is_not_read() {
        assert_eq!(decode::<Old>(&mut [4, 0]), Err(DecodeError::Malformed(4)));
        assert_eq!(decode::<Old>(&mut [3, 2, b'x']), Err(DecodeError::Malformed(3)));
        assert_eq!(decode::<Old>(&mut []), Err(DecodeError::Empty));
        assert_eq!(encode(&Old::B { text: "long".to_owned() }, &mut [0; 4]), None);
    }
}
