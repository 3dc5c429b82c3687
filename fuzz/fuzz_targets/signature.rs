//! Verifies calls of every preset and of schemes. The input is a call; no one but the secret's holder can sign it.
#![no_main]

mod call;

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use webhook_core::handshake::unsigned_handshake;
use webhook_core::parameters::parse_query;
use webhook_core::raw_call::RawCall;
use webhook_core::secret::Secret;
use webhook_core::verification::{Preset, Verification, verify};

const URL: &str = "https://hooks.example.com/w/1?token=canary7391&bodySHA256=00";
const SECRETS: [&str; 2] = ["canary7391-canary7391", "whsec_Y2FuYXJ5NzM5MS1jYW5hcnk3MzkxLWNhbmFyeQ=="];

fn schemes() -> Vec<Verification> {
    let schemes = [
        r#"{"scheme":"hmac","algorithm":"sha512","header":"X-Sig","encoding":"base64","prefix":"s=","tolerance_s":300,
            "signed":"{id}.{timestamp}.{body}{url}","timestamp_header":"X-Time","id_header":"X-Id"}"#,
        r#"{"scheme":"ed25519","header":"X-Sig","encoding":"hex","tolerance_s":1,"signed":"{body}"}"#,
        r#"{"scheme":"shared-secret","header":"X-Sig"}"#,
        r#"{"scheme":"basic"}"#,
    ];
    schemes.into_iter().map(|scheme| serde_json::from_str(scheme).expect("a scheme")).collect()
}

fuzz_target!(|input: &[u8]| {
    let (headers, body) = call::read(input);
    let secrets = SECRETS.map(|secret| Secret::new(secret).expect("a secret"));
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let call = RawCall::new("POST", URL, &headers, body);
    for verification in Preset::all().map(Verification::from).chain(schemes()) {
        match verify(&verification, &call, &secrets, now) {
            Ok(_) => {
                assert!(!verification.needs_secret(), "{verification:?} accepts a call that nobody signed")
            }
            Err(refusal) => {
                let shown = format!("{refusal} {refusal:?}");
                assert!(!shown.contains("canary7391"), "{shown}");
            }
        }
        assert!(verify(&verification, &call, &[], now).is_err() || !verification.needs_secret());
    }
    // The first header's value stands for the query of a check of the URL.
    let query = headers.first().and_then(|(_, value)| std::str::from_utf8(value).ok());
    let Some(query) = query.and_then(|query| parse_query(query).ok()) else { return };
    let verify_token = Secret::new(SECRETS[0]).expect("a secret");
    for preset in Preset::all() {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            let call = RawCall::new(method, URL, &headers, b"");
            let answer = unsigned_handshake(preset, &call, &query.parameters, Some(&verify_token), Some(60));
            let Ok(Some(answer)) = answer else { continue };
            for (name, value) in answer.headers {
                assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}: {value:?}");
            }
        }
    }
});
