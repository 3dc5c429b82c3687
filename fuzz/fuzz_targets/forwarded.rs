//! Finds the client's address in the headers of proxies. The input is a call.
#![no_main]

mod call;

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use webhook_core::network::{Networks, client_address};
use webhook_core::raw_call::RawCall;

fuzz_target!(|input: &[u8]| {
    let (headers, body) = call::read(input);
    let call = RawCall::new("POST", "https://a.example/w", &headers, body);
    let trusted = Networks::new(vec!["10.0.0.0/8".parse().expect("a network")]);
    let (proxy, client) = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)));
    assert_eq!(client_address(client, &call, &trusted), Some(client), "only a trusted proxy is believed");
    let _ = client_address(proxy, &call, &trusted);

    // Whatever a client writes, the proxy adds its address at the right: to the line, or in a line of its own.
    for (name, hop) in [("X-Forwarded-For", &b"203.0.113.9"[..]), ("Forwarded", b"for=203.0.113.9")] {
        let mut lines: Vec<Vec<u8>> = headers
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.to_vec())
            .collect();
        let mut own = lines.clone();
        own.push(hop.to_vec());
        let joined = lines.pop().map_or_else(|| hop.to_vec(), |last| [&last, &b", "[..], hop].concat());
        lines.push(joined);
        for (lines, is_exact) in [(lines, name == "X-Forwarded-For"), (own, true)] {
            let lines: Vec<_> = lines.iter().map(|line| (name.as_bytes(), line.as_slice())).collect();
            let call = RawCall::new("POST", "https://a.example/w", &lines, b"");
            let seen = client_address(proxy, &call, &trusted);
            // A quote that a client leaves open hides what the proxy adds to the line.
            assert!(seen == Some(client) || (seen.is_none() && !is_exact), "{seen:?}");
        }
    }
});
