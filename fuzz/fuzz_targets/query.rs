//! Parses a query and merges it with blocks of every type.
#![no_main]

mod blocks;

use libfuzzer_sys::fuzz_target;
use webhook_core::parameters::parse_query;
use webhook_core::token::mask_tokens;

fuzz_target!(|query: &str| {
    let masked = mask_tokens(query);
    assert_eq!(mask_tokens(&masked), masked, "masking twice is the same as masking once");

    let Ok(parsed) = parse_query(query) else { return };
    for (name, _) in parsed.parameters.iter() {
        assert_ne!(name, "token", "the token leaves the query before anything else sees it");
    }
    // Decoding never makes text longer.
    let decoded: usize = parsed.parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
    let tokens: usize = parsed.tokens.iter().map(|token| token.len()).sum();
    assert!(decoded + tokens <= query.len());
    for limits in blocks::limits() {
        blocks::merge_and_check(&parsed.parameters, &Default::default(), &limits);
    }
});
