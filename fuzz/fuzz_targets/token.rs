//! Parses text as a token, masks tokens in it, and parses and opens it as a sealed value.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use webhook_core::token::{MASKED_TOKEN, Sealed, Token, TokenDigest, TokenKey, TokenKeys, mask_tokens};

/// A token that is used nowhere else.
const TOKEN: &str = "whk_FuzzFuzz000000000000000000000000000000000003TIq4y";
const PLACE: &[u8] = b"webhook 1";

static KEYS: LazyLock<TokenKeys> = LazyLock::new(|| TokenKeys::new(TokenKey::from_bytes([7; 32])));
static SEALED: LazyLock<Sealed> = LazyLock::new(|| KEYS.seal(TOKEN.as_bytes(), PLACE));

fuzz_target!(|text: &str| {
    let token = Token::parse(TOKEN).expect("it has the form of a token");
    assert_eq!(token.digest().matches(&TokenDigest::of(text)), text == TOKEN, "only the token is accepted");
    if let Ok(read) = Token::parse(text) {
        assert_eq!(read.expose(), text);
        assert_eq!(mask_tokens(text), MASKED_TOKEN);
        assert!(!format!("{read:?}").contains(read.expose()));
    }

    let masked = mask_tokens(text);
    assert_eq!(mask_tokens(&masked), masked, "masking twice is the same as masking once");
    for around in [format!("{text}{TOKEN}"), format!("{TOKEN}{text}"), format!("{text}={TOKEN}&{text}")] {
        assert!(!mask_tokens(&around).contains(TOKEN), "a token is left where the mask should be");
    }

    // Text that was never sealed does not open, and a sealed value opens to its original only.
    assert!(KEYS.open(&Sealed::from_bytes(text.into()), PLACE).is_err());
    let changes = text.bytes().chain(std::iter::repeat(0));
    let changed: Vec<u8> =
        SEALED.as_bytes().iter().zip(changes).map(|(byte, change)| byte ^ change).collect();
    let is_same = changed == SEALED.as_bytes();
    assert_eq!(KEYS.open(&Sealed::from_bytes(changed), PLACE).is_ok(), is_same, "what was changed is opened");
});
