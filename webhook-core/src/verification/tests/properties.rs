//! Whatever is sent, verification ends, and only the right call is accepted.

use proptest::prelude::*;
use url::form_urlencoded;

use super::*;

proptest! {
    #[test]
    fn no_header_and_no_body_makes_verification_panic(
        index in 0..13_usize,
        values in prop::collection::vec("(v1,|v1a,|v1=|t=|v0=|sha256=|[ ,=0-9a-fA-Z+/é]){0,12}", 8),
        body in prop::collection::vec(any::<u8>(), 0..64),
        url in "(https?://)?[a-z:/?#&=%é]{0,24}(bodySHA256=)?[0-9a-f]{0,8}",
        seconds in 0..u64::from(u32::MAX),
    ) {
        let preset = Preset::all().nth(index).unwrap();
        let names = [
            "X-Hub-Signature-256", "webhook-id", "webhook-timestamp", "webhook-signature", "Stripe-Signature",
            "X-Twilio-Signature", "Content-Type", "X-Slack-Request-Timestamp",
        ];
        let mut call = Signed::new(preset, KEY, "").to(&url).at(seconds);
        call.body = body;
        for (name, value) in names.into_iter().zip(values) {
            call = call.with(name, value);
        }
        let accepted = call.verify_with(&[KEY, STANDARD_KEY], seconds).is_ok();
        prop_assert_eq!(accepted, preset == Preset::CloudEvents);
    }

    #[test]
    fn one_flipped_bit_anywhere_in_a_signed_body_is_found(index in 0..15_usize, place: prop::sample::Index, bit in 0..8_u8) {
        let mut call = signed_calls().remove(index);
        let place = place.index(call.body.len());
        let fields = |call: &Signed| form_urlencoded::parse(&call.body).into_owned().collect::<Vec<_>>();
        let before = fields(&call);
        call.body[place] ^= 1 << bit;
        // Twilio signs the decoded fields of a form, for which %2B and %2b are the same.
        prop_assume!(call.verification != Preset::Twilio.into() || fields(&call) != before);
        prop_assert!(call.verify().is_err(), "{:?}", call);
    }
}
