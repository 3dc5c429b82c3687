//! Email addresses in ASCII, the form that mail servers accept.

use lettre::Address;
use lettre::address::AddressError;
use url::Host;

/// Reason why an address cannot be used. Each text continues after the word that names the address.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongAddress {
    #[error("is not an address such as someone@example.com")]
    Form(#[source] AddressError),
    #[error("has other characters than ASCII before the @, which mail servers do not take")]
    Local,
    #[error("has a domain that is not one")]
    Domain,
}

/// Parses an address and converts its domain to ASCII (RFC 5891, by the rules of browsers).
pub(super) fn in_ascii(text: &str) -> Result<Address, WrongAddress> {
    let address: Address = text.parse().map_err(WrongAddress::Form)?;
    if !address.user().is_ascii() {
        return Err(WrongAddress::Local);
    }
    if address.domain().is_ascii() {
        return Ok(address);
    }
    match Host::parse(address.domain()) {
        Ok(Host::Domain(domain)) => Address::new(address.user(), domain).map_err(WrongAddress::Form),
        _ => Err(WrongAddress::Domain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internationalised_domain_is_written_in_ascii() {
        for (text, expected) in [
            ("ops@müller.example", "ops@xn--mller-kva.example"),
            ("ops@MÜLLER.example", "ops@xn--mller-kva.example"),
            ("ops@例え.テスト", "ops@xn--r8jz45g.xn--zckzah"),
            ("Ops+a@Example.com", "Ops+a@Example.com"),
            ("ops@xn--mller-kva.example", "ops@xn--mller-kva.example"),
        ] {
            assert_eq!(in_ascii(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_no_mail_server_takes_is_refused_with_its_reason() {
        assert!(matches!(in_ascii("müller@example.com"), Err(WrongAddress::Local)));
        for wrong in ["a@b..c", "nobody", "a b@example.com", "a@exa mple.com", "a@", "a@b\r\nBcc: x@y.z"] {
            assert!(in_ascii(wrong).is_err(), "{wrong:?}");
        }
    }
}
