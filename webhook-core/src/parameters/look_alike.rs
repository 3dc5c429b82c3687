//! Undeclared names that look like declared ones.

use std::borrow::Cow;
use std::collections::BTreeMap;

use icu_normalizer::ComposingNormalizerBorrowed;

use super::block::ParameterBlock;
use super::blocks::ParameterBlocks;
use super::problem::excerpt;
use super::types::ParameterType;

/// Declared block that an undeclared name looks like.
#[derive(Clone, Copy)]
pub(super) struct LookAlike<'a> {
    pub(super) block: &'a ParameterBlock,
    difference: Difference,
}

/// Difference between an undeclared name and a declared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// `tags[]` or `tags[0]`, the list syntax of PHP and Rails.
    Brackets,
    /// `amp;region`, from a URL copied out of HTML.
    Ampersand,
    /// Leading byte order mark.
    ByteOrderMark,
    /// Upper and lower case.
    Case,
    /// Other characters for the same text (Unicode NFKC), such as full-width ones.
    Compatibility,
    /// One letter inserted, removed or replaced, or two neighbours swapped.
    OneLetter,
}

/// A name reduced to the form that all its look-alikes share.
struct Reduced<'a> {
    text: String,
    /// Name without prefix and brackets.
    bare: &'a str,
    around: Option<Difference>,
}

/// Finds the declared block that each undeclared name looks like.
pub(super) fn look_alikes<'a, 'n>(
    blocks: &'a ParameterBlocks,
    undeclared: impl Iterator<Item = &'n str>,
) -> BTreeMap<&'n str, LookAlike<'a>> {
    let mut undeclared = undeclared.peekable();
    if undeclared.peek().is_none() {
        return BTreeMap::new();
    }
    let declared: Vec<(&ParameterBlock, Reduced<'_>)> =
        blocks.iter().map(|block| (block, Reduced::of(&block.name))).collect();
    undeclared.filter_map(|name| Some((name, find(&declared, name)?))).collect()
}

fn find<'a>(declared: &[(&'a ParameterBlock, Reduced<'_>)], name: &str) -> Option<LookAlike<'a>> {
    let given = Reduced::of(name);
    let same = declared.iter().find(|(_, reduced)| !given.text.is_empty() && reduced.text == given.text);
    if let Some((block, reduced)) = same {
        let case_alone = || reduced.bare.to_lowercase() == given.bare.to_lowercase();
        let difference = given
            .around
            .or(reduced.around)
            .unwrap_or_else(|| if case_alone() { Difference::Case } else { Difference::Compatibility });
        return Some(LookAlike { block, difference });
    }
    let (block, _) = declared.iter().find(|(_, reduced)| differ_by_one_letter(&reduced.text, &given.text))?;
    Some(LookAlike { block, difference: given.around.unwrap_or(Difference::OneLetter) })
}

impl<'a> Reduced<'a> {
    fn of(name: &'a str) -> Self {
        let (mut bare, mut around) = (name, None);
        loop {
            let (rest, difference) = if let Some(rest) = bare.strip_prefix('\u{feff}') {
                (rest, Difference::ByteOrderMark)
            } else if let Some(rest) = bare.strip_prefix("amp;") {
                (rest, Difference::Ampersand)
            } else if let Some(rest) = without_brackets(bare) {
                (rest, Difference::Brackets)
            } else {
                let normal = ComposingNormalizerBorrowed::new_nfkc().normalize(bare);
                let text =
                    ComposingNormalizerBorrowed::new_nfkc().normalize(&normal.to_lowercase()).into_owned();
                return Self { text, bare, around };
            };
            bare = rest;
            around = around.or(Some(difference));
        }
    }
}

/// Returns the `tags` of `tags[]` and `tags[12]`.
fn without_brackets(name: &str) -> Option<&str> {
    let (name, index) = name.strip_suffix(']')?.rsplit_once('[')?;
    (!name.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Returns whether two texts differ by one letter inserted, removed or replaced, or by two neighbours
/// swapped.
///
/// Digits are not letters: `page2` is not a misspelt `page1`. The texts must share at least one character:
/// `x` is not a misspelt `n`.
fn differ_by_one_letter(one: &str, other: &str) -> bool {
    // A character has at most four bytes in UTF-8.
    if one.len().abs_diff(other.len()) > 4 {
        return false;
    }
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let before = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let (one, other) = (&one[before..], &other[before..]);
    let behind = one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count();
    let (one, other) = (&one[..one.len() - behind], &other[..other.len() - behind]);
    let is_one_step = match (one, other) {
        ([_], [_]) | ([_], []) | ([], [_]) => true,
        ([first, second], [third, fourth]) => first == fourth && second == third,
        _ => false,
    };
    is_one_step && before + behind > 0 && !one.iter().chain(other).any(|letter| letter.is_numeric())
}

impl LookAlike<'_> {
    /// Returns sentences about `name`, which looks like the declared name.
    pub(super) fn hint(&self, name: &str) -> String {
        let block = self.block;
        let declared = excerpt(&block.name);
        let advice: Cow<'_, str> = match self.difference {
            Difference::Brackets if block.parameter_type == ParameterType::List => {
                let is_plain =
                    block.name.len() <= 64 && block.name.bytes().all(|byte| byte.is_ascii_graphic());
                let name = if is_plain { block.name.as_str() } else { "name" };
                format!("Write a list without brackets: {name}=a&{name}=b.").into()
            }
            Difference::Brackets => "Write it without brackets.".into(),
            Difference::Ampersand => {
                "An & was sent as &amp;, as HTML and XML write it; send a plain & in front of the name."
                    .into()
            }
            Difference::ByteOrderMark => "It begins with a byte order mark; leave that out.".into(),
            Difference::Case => "Upper and lower case matter.".into(),
            Difference::Compatibility => "It is written with other characters that look alike.".into(),
            Difference::OneLetter => "Check its spelling.".into(),
        };
        format!(
            "The name {} looks like the declared parameter {declared}, and is another. {advice}",
            excerpt(name)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(declared: &str, given: &str) -> Option<Difference> {
        let blocks = ParameterBlocks::new(vec![ParameterBlock::new(declared, ParameterType::List)]).unwrap();
        look_alikes(&blocks, [given].into_iter()).get(given).map(|found| found.difference)
    }

    #[test]
    fn every_difference_of_a_look_alike_is_recognised() {
        for (declared, given, expected) in [
            ("region", "Region", Difference::Case),
            ("Région", "RÉGION", Difference::Case),
            ("region", "regoin", Difference::OneLetter),
            ("region", "regin", Difference::OneLetter),
            ("region", "regiion", Difference::OneLetter),
            ("region", "regiom", Difference::OneLetter),
            ("region", "Regoin", Difference::OneLetter),
            ("region", "regions", Difference::OneLetter),
            ("start_date", "start-date", Difference::OneLetter),
            ("start_date", "startdate", Difference::OneLetter),
            ("region", "amp;region", Difference::Ampersand),
            ("region", "amp;amp;Region", Difference::Ampersand),
            ("region", "\u{feff}region", Difference::ByteOrderMark),
            ("tags", "tags[]", Difference::Brackets),
            ("tags", "tags[0]", Difference::Brackets),
            ("tags", "Tags[12]", Difference::Brackets),
            ("region", "ｒegion", Difference::Compatibility),
            ("Région", "Re\u{301}gion", Difference::Compatibility),
            ("fi", "ﬁ", Difference::Compatibility),
            ("region", "rеgion", Difference::OneLetter),
        ] {
            assert_eq!(difference(declared, given), Some(expected), "{declared} {given:?}");
        }
    }

    #[test]
    fn another_name_is_no_look_alike() {
        for (declared, given) in [
            ("region", "rows"),
            ("region", "rgoin"),
            ("region", ""),
            ("region", "amp;"),
            ("n", "x"),
            ("page1", "page2"),
            ("page", "page1"),
            ("id", "to"),
            ("tags", "tags[a]"),
            ("tags", "[]"),
            ("region", "re gi on"),
        ] {
            assert_eq!(difference(declared, given), None, "{declared} {given:?}");
        }
    }

    #[test]
    fn the_same_name_but_for_case_goes_before_one_that_differs_by_a_letter() {
        let block = |name: &str| ParameterBlock::new(name, ParameterType::Text);
        let blocks = ParameterBlocks::new(vec![block("dates"), block("Date")]).unwrap();
        let found = look_alikes(&blocks, ["date"].into_iter());
        assert_eq!(found["date"].block.name, "Date");
    }
}
