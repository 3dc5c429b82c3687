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
    assert_eq!(client_address(client, &call, &trusted), client, "only a trusted proxy is believed");
    let _ = client_address(proxy, &call, &trusted);

    // Whatever a client writes, the proxy adds its address at the right.
    for (name, hop) in [("X-Forwarded-For", &b"203.0.113.9"[..]), ("Forwarded", b"for=203.0.113.9")] {
        let mut line: Vec<u8> = headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name.as_bytes()))
            .map_or_else(Vec::new, |(_, value)| value.to_vec());
        line.extend_from_slice(b", ");
        line.extend_from_slice(hop);
        let appended = [(name.as_bytes(), line.as_slice())];
        let call = RawCall::new("POST", "https://a.example/w", &appended, b"");
        let seen = client_address(proxy, &call, &trusted);
        assert!(seen == client || seen == proxy, "{seen}");
    }
});
