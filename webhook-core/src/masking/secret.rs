//! One secret, prepared for the search.

use zeroize::Zeroizing;

/// One text to find, by the algorithm of Knuth, Morris and Pratt.
///
/// The search takes linear time, and always knows how much of the text the input ends with.
pub(super) struct SearchPattern {
    pub(super) text: Zeroizing<Vec<u8>>,
    /// At index `n - 1`, for the prefix of length `n`: the length of the longest shorter prefix that it ends
    /// with.
    pub(super) fallback: Vec<u32>,
}

impl SearchPattern {
    pub(super) fn new(text: Zeroizing<Vec<u8>>) -> Self {
        let mut fallback = vec![0_u32; text.len()];
        let mut length = 0;
        for end in 1..text.len() {
            while length > 0 && text[length] != text[end] {
                length = fallback[length - 1] as usize;
            }
            length += usize::from(text[length] == text[end]);
            fallback[end] = length as u32;
        }
        Self { text, fallback }
    }
}
