//! Networks, and addresses behind proxies.

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::raw_call::RawCall;
use crate::setting::SettingProblem;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn networks(list: &[&str]) -> Networks {
    Networks::new(list.iter().map(|text| text.parse().unwrap()).collect())
}

/// Returns the address of a call through proxies in 10.0.0.0/8 and 2001:db8:a::/48, or `unknown`.
fn seen(peer: &str, headers: &[(&str, &str)]) -> String {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let call = RawCall::new("POST", "https://a.example/w", &headers, b"");
    let seen = client_address(address(peer), &call, &networks(&["10.0.0.0/8", "2001:db8:a::/48"]));
    seen.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

#[test]
fn a_network_contains_its_addresses_and_no_others() {
    let list = networks(&["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::1"]);
    for inside in ["192.0.2.0", "192.0.2.255", "198.51.100.7", "::ffff:192.0.2.9", "2001:db8:ffff::1", "::1"]
    {
        assert!(list.contain(address(inside)), "{inside}");
    }
    for outside in ["192.0.3.0", "198.51.100.8", "2001:db9::1", "::2", "0.0.0.0"] {
        assert!(!list.contain(address(outside)), "{outside}");
    }
    assert!(!Networks::default().contain(address("::1")));
    assert!(networks(&["0.0.0.0/0"]).contain(address("::ffff:1.2.3.4")));
    assert!(!networks(&["::/0"]).contain(address("1.2.3.4")), "IPv4 needs a network of its own");
}

#[test]
fn a_network_is_read_and_written_in_one_form() {
    for (text, written) in [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::/32", "2001:db8::/32"),
    ] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), written);
    }
    let host_bits = "10.0.0.1/8".parse::<Network>().unwrap_err();
    assert!(host_bits.to_string().contains("10.0.0.0/8"), "{host_bits}");
    for bad in ["", "10.0.0.0/33", "10.0.0", "10.0.0.0/", "example.com", "::ffff:10.0.0.0/104", " 10.0.0.1"] {
        assert!(bad.parse::<Network>().is_err(), "{bad}");
    }
}

#[test]
fn the_setting_names_every_network_that_is_none() {
    let read = |value| {
        let mut problems: Vec<SettingProblem> = Vec::new();
        let read = Networks::read(value, &mut problems);
        (read, problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>())
    };
    let (list, problems) = read(json!(["192.0.2.0/24", "::1"]));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(serde_json::to_value(&list).unwrap(), json!(["192.0.2.0/24", "::1"]));
    assert_eq!(read(json!(["192.0.2.0/24", "x", 5])).1, ["allowed_networks[1]", "allowed_networks[2]"]);
    assert_eq!(read(json!([])).1, ["allowed_networks"], "an empty list would mean no address or any");
    assert_eq!(read(json!("10.0.0.0/8")).1, ["allowed_networks"]);
    assert_eq!(read(json!(vec!["::1"; 257])).1, ["allowed_networks"]);
}

#[test]
fn a_header_counts_only_from_a_trusted_proxy() {
    let header = [("X-Forwarded-For", "203.0.113.9")];
    assert_eq!(seen("192.0.2.1", &header), "192.0.2.1");
    assert_eq!(seen("10.0.0.1", &header), "203.0.113.9");
    assert_eq!(seen("::ffff:10.0.0.1", &header), "203.0.113.9");
    assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
    assert_eq!(seen("::ffff:192.0.2.1", &[]), "192.0.2.1");
}

#[test]
fn x_forwarded_for_is_read_from_the_right() {
    let x = |value| seen("10.0.0.1", &[("x-forwarded-for", value)]);
    assert_eq!(x("1.1.1.1, 203.0.113.9"), "203.0.113.9", "what the client wrote counts for nothing");
    assert_eq!(x("1.1.1.1, 203.0.113.9, 10.0.0.3, 10.0.0.2"), "203.0.113.9");
    assert_eq!(x("10.0.0.3, 10.0.0.2"), "10.0.0.3", "all of them are proxies");
    assert_eq!(x("203.0.113.9:4711"), "203.0.113.9");
    assert_eq!(x("[2001:db8::1]:4711"), "2001:db8::1");
    assert_eq!(x("2001:db8::1"), "2001:db8::1");
    assert_eq!(x("::ffff:203.0.113.9"), "203.0.113.9");
    assert_eq!(x("203.0.113.9, unknown"), "unknown", "nothing is known beyond this proxy");
    assert_eq!(x("203.0.113.9, fe80::1%eth0"), "unknown");
    assert_eq!(x("203.0.113.9, for=198.51.100.1"), "unknown");
    assert_eq!(x("203.0.113.9, "), "unknown");
    assert_eq!(x(""), "unknown");
    let lines = [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "203.0.113.9, 10.0.0.2")];
    assert_eq!(seen("10.0.0.1", &lines), "203.0.113.9", "several lines are one list");
}

#[test]
fn forwarded_is_read_by_its_grammar() {
    let forwarded = |value| seen("10.0.0.1", &[("Forwarded", value)]);
    assert_eq!(forwarded("for=203.0.113.9"), "203.0.113.9");
    assert_eq!(forwarded("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
    assert_eq!(forwarded("for=\"[2001:db8:cafe::17]\""), "2001:db8:cafe::17");
    assert_eq!(forwarded("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60");
    assert_eq!(forwarded("proto=https ; FOR = \"203.0.113.9:80\""), "203.0.113.9");
    assert_eq!(forwarded("for=1.1.1.1, for=203.0.113.9, for=10.0.0.2"), "203.0.113.9");
    assert_eq!(forwarded("for=\"203.0.113.\\9\""), "203.0.113.9");
    // A hidden port (RFC 7239 section 6.2) hides no address.
    assert_eq!(forwarded("for=\"203.0.113.9:_gazonk\""), "203.0.113.9");
    assert_eq!(forwarded("for=\"[2001:db8:cafe::17]:_a.b-c\""), "2001:db8:cafe::17");
    // A comma in quotes separates nothing.
    assert_eq!(forwarded("host=\"a, for=1.1.1.1\";for=203.0.113.9"), "203.0.113.9");
    for unknown in [
        "for=unknown",
        "for=_hidden",
        "by=203.0.113.43",
        "for=203.0.113.9;for=1.1.1.1",
        "for=\"203.0.113.9",
        "for=\"203.0.113.9:_\"",
        "for=\"203.0.113.9:_a b\"",
        "for=\"203.0.113.9:99999\"",
        "for=\"203.0.113.9:+80\"",
        "for=\"_hidden:80\"",
        "for=\"[fe80::1%eth0]\"",
        "for=\"[fe80::1%25eth0]:80\"",
        "for=\"[203.0.113.9]\"",
        "for=\"[[2001:db8::1]]\"",
        "for=203.0.113.009",
        "for=0xcb007109",
        "for=3405803785",
        "for=203.0.113.9/32",
        "for*=203.0.113.9",
        "for:203.0.113.9",
        "x",
        "",
    ] {
        assert_eq!(forwarded(unknown), "unknown", "{unknown}");
    }
    assert_eq!(seen("2001:db8:a::1", &[("Forwarded", "for=\"[2001:db8:b::9]:1\"")]), "2001:db8:b::9");
}

/// A proxy is often in a network that may call. A client must not pass as the proxy by spoiling what it writes.
#[test]
fn a_client_cannot_pass_as_its_proxy() {
    let spoilt = [("Forwarded", "for=\", for=203.0.113.9")];
    assert_eq!(seen("10.0.0.1", &spoilt), "unknown");
    let contradicted = [("Forwarded", "for=_me"), ("X-Forwarded-For", "203.0.113.9")];
    assert_eq!(seen("10.0.0.1", &contradicted), "unknown");
    let contradicted = [("Forwarded", "for=10.0.0.1"), ("X-Forwarded-For", "203.0.113.9")];
    assert_eq!(seen("10.0.0.1", &contradicted), "unknown");
    let hidden = [("X-Forwarded-For", "10.0.0.7, unknown, 10.0.0.2")];
    assert_eq!(seen("10.0.0.1", &hidden), "unknown");
}

#[test]
fn a_client_cannot_forge_the_header_that_its_proxy_does_not_know() {
    let forged = [("Forwarded", "for=1.1.1.1"), ("X-Forwarded-For", "203.0.113.9")];
    assert_eq!(seen("10.0.0.1", &forged), "unknown");
    let forged = [("Forwarded", "for=203.0.113.9"), ("X-Forwarded-For", "1.1.1.1")];
    assert_eq!(seen("10.0.0.1", &forged), "unknown");
    let both = [("Forwarded", "for=203.0.113.9;proto=https"), ("X-Forwarded-For", "1.1.1.1, 203.0.113.9")];
    assert_eq!(seen("10.0.0.1", &both), "203.0.113.9");
}

proptest! {
    #[test]
    fn any_header_can_be_read(value in "([fF]or=|\"|\\\\|[,; \\[\\]:.=0-9a-f]){0,40}", x in "[0-9a-f:., \\[\\]]{0,40}") {
        let _ = seen("10.0.0.1", &[("Forwarded", &value), ("X-Forwarded-For", &x)]);
        let _ = seen("10.0.0.1", &[("Forwarded", &value)]);
        let _ = seen("10.0.0.1", &[("X-Forwarded-For", &x)]);
    }

    #[test]
    fn what_a_client_writes_never_changes_its_address(written in "([0-9.:a-z\\[\\], ]|for=|;){0,40}") {
        let x = format!("{written}, 203.0.113.9");
        prop_assert_eq!(seen("10.0.0.1", &[("X-Forwarded-For", &x)]), "203.0.113.9");
        let forwarded = format!("{written}, for=203.0.113.9");
        prop_assert_eq!(seen("10.0.0.1", &[("Forwarded", &forwarded)]), "203.0.113.9");
    }

    #[test]
    fn quotes_that_a_client_writes_hide_no_more_than_its_own_address(written in "[\"\\\\a,=]{0,12}") {
        let forwarded = format!("{written}, for=203.0.113.9");
        let seen = seen("10.0.0.1", &[("Forwarded", &forwarded)]);
        prop_assert!(seen == "203.0.113.9" || seen == "unknown", "{seen}");
    }
}
