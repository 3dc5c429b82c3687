//! A call as an input of several targets: header lines, an empty line, and the body.

/// Splits an input into header lines and body.
pub fn read(input: &[u8]) -> (Vec<(&[u8], &[u8])>, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 2..]));
    let lines = head.split(|byte| *byte == b'\n');
    let headers = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], &line[colon + 1..]))
    });
    (headers.collect(), body)
}
