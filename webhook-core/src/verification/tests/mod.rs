//! Verification against what senders publish, and against what attackers try.

mod attacks;
mod presets;
mod properties;
mod schemes;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;
use crate::token::hexadecimal;

/// 45 bytes of JSON with a letter beyond ASCII.
const BODY: &str = r#"{"id":"evt_1","type":"demo","name":"Jürgen"}"#;
const KEY: &str = "secret-for-tests";
const URL: &str = "https://hooks.example.com/w/1";
const TIME: u64 = 1_700_000_000;
const STANDARD_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A call that its sender signed.
#[derive(Debug, Clone)]
struct Signed {
    verification: Verification,
    secret: &'static str,
    method: &'static str,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    at: u64,
}

impl Signed {
    fn new(verification: impl Into<Verification>, secret: &'static str, body: &str) -> Self {
        Self {
            verification: verification.into(),
            secret,
            method: "POST",
            url: URL.to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            at: TIME,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn at(mut self, seconds: u64) -> Self {
        self.at = seconds;
        self
    }

    fn to(mut self, url: &str) -> Self {
        self.url = url.to_owned();
        self
    }

    fn value(&mut self, name: &str) -> &mut String {
        let named = self.headers.iter_mut().find(|(given, _)| given.eq_ignore_ascii_case(name));
        &mut named.unwrap().1
    }

    fn verify_with(&self, secrets: &[&str], seconds: u64) -> Result<Verified, Refusal> {
        let headers: Vec<(&[u8], &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let call = RawCall::new(self.method, &self.url, &headers, &self.body);
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::unchecked(secret)).collect();
        verify(&self.verification, &call, &secrets, time(seconds))
    }

    fn verify(&self) -> Result<Verified, Refusal> {
        self.verify_with(&[self.secret], self.at)
    }
}

/// The HMAC-SHA256 of a text under [`KEY`], in hexadecimal digits.
fn mac(text: &str) -> String {
    let mut code = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    code.update(text.as_bytes());
    hexadecimal(&code.finalize().into_bytes())
}

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A call for each way to sign that a preset has.
fn signed_calls() -> Vec<Signed> {
    let github = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let body_hex = "a2f40e37b1b0db657f1b979317ba5e5d2e5d32c5b809d26813ab7a8c41ac1974";
    let standard = |preset, secret, signature: &str| {
        let body = r#"{"test": 2432232314}"#;
        let call = Signed::new(preset, secret, body).at(1_614_265_330);
        call.with("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
            .with("webhook-timestamp", "1614265330")
            .with("webhook-signature", signature)
    };
    let public =
        "v1a,yoUrgEkc12aGqm0n4Sydmdz55xJfTz4AsAgieHFjmkR7LJtqVCZOQYzvvHjI5kAey+r4iaBGxTFRrl2iBQxtDQ==";
    let hmac = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let mut svix = standard(Preset::StandardWebhooks, STANDARD_KEY, hmac);
    for (name, _) in &mut svix.headers {
        *name = match *name {
            "webhook-id" => "svix-id",
            "webhook-timestamp" => "svix-timestamp",
            _ => "svix-signature",
        };
    }
    vec![
        // Published by GitHub.
        Signed::new(Preset::GitHub, "It's a Secret to Everybody", "Hello, World!")
            .with("X-Hub-Signature-256", github),
        // Computed with Python's hmac by GitLab's rule for signing tokens.
        Signed::new(Preset::GitLab, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", BODY)
            .with("webhook-id", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f")
            .with("webhook-timestamp", "1700000000")
            .with("webhook-signature", "v1,obeKG1CMBElWev9kuKyUP80gdkUIwrCSCPbQfc40NCA="),
        // Computed by the rule of Stripe's library.
        Signed::new(Preset::Stripe, "whsec_test_secret", BODY).with(
            "Stripe-Signature",
            "t=1700000000,v1=0b832ef09d916f6e8e2d23c657e5074d8f9826e8c370555af8b72b37fcff28f4,v0=00",
        ),
        // Published by Slack.
        Signed::new(Preset::Slack, "8f742231b10e8888abcd99yyyzzz85a5", SLACK_FORM)
            .at(1_531_420_618)
            .with("X-Slack-Request-Timestamp", "1531420618")
            .with(
                "X-Slack-Signature",
                "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            ),
        // Computed.
        Signed::new(Preset::Shopify, KEY, BODY)
            .with("X-Shopify-Hmac-Sha256", "ovQON7Gw22V/G5eTF7peXS5dMsW4CdJoE6t6jEGsGXQ="),
        // Published by Twilio: a form, a form with a repeated field, and JSON.
        Signed::new(Preset::Twilio, "12345", TWILIO_FORM)
            .to("https://mycompany.com/myapp.php?foo=1&bar=2")
            .with("Content-Type", "application/x-www-form-urlencoded")
            .with("X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        Signed::new(Preset::Twilio, "12345", "Digits=5678&Digits=1234&SidAccount=AC123&Sid=CA123&Digits=1234")
            .to("https://mycompany.com/myapp.php?foo=1&bar=2")
            .with("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
            .with("X-Twilio-Signature", "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
        Signed::new(Preset::Twilio, "12345", r#"{"property": "value", "boolean": true}"#)
            .to("https://mycompany.com/myapp.php?foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620")
            .with("Content-Type", "application/json")
            .with("X-Twilio-Signature", "a9nBmqA0ju/hNViExpshrM61xv4="),
        // Computed by the rule of Linear's library.
        Signed::new(Preset::Linear, KEY, r#"{"action":"create","webhookTimestamp":1700000000000}"#)
            .with("Linear-Signature", "e28383c2c1c1b980da95d5e832304994a9f747967ae8935fbc05b2f5d621866a"),
        // Computed.
        Signed::new(Preset::Sentry, KEY, BODY).with("Sentry-Hook-Signature", body_hex),
        Signed::new(Preset::Trello, KEY, BODY).with("X-Trello-Webhook", "BfBiAiGZMxaWWHjI3n7i9ngqQnQ="),
        Signed::new(Preset::Meta, KEY, r#"{"object":"page","entry":[{"text":"\u00e4\u00f6\u00e5"}]}"#).with(
            "X-Hub-Signature-256",
            "sha256=d67e8f42d1b2ca1687a3a7a7a2bec40a6c6e23bec9369842ccb35e23e1008381",
        ),
        // Published by Svix, and computed for its public keys.
        standard(Preset::StandardWebhooks, STANDARD_KEY, hmac),
        standard(Preset::StandardWebhooks, "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=", public),
        svix,
    ]
}

const SLACK_FORM: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&\
    channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&\
    text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
    trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

const TWILIO_FORM: &str = "From=%2B14158675309&To=%2B18005551212&Digits=1234&Caller=%2B14158675309&\
    CallSid=CA1234567890ABCDE";
