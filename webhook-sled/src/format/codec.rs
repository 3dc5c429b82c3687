//! Bytes of records: numbers in LEB128, signed ones zigzag, texts after their length.

use serde::Deserialize;
use uuid::Uuid;
use webhook_core::store::StoreError;

use crate::format::value::damaged;

/// Marks a request id that is a UUID in its usual form, and is written as 16 bytes.
const UUID: u8 = 2;

/// Writes a record.
pub(crate) struct RecordWriter(pub(crate) Vec<u8>);

impl RecordWriter {
    pub(crate) fn number(&mut self, number: u64) {
        self.wide(number.into());
    }

    pub(crate) fn wide(&mut self, mut number: u128) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Writes a request id. Those of this service are UUIDs, which take half as much as bytes.
    pub(crate) fn request_id(&mut self, id: Option<&str>) {
        match id.and_then(|id| Some((id, Uuid::try_parse(id).ok()?))) {
            Some((id, uuid)) if is_text_of(&uuid, id) => {
                self.0.push(UUID);
                self.0.extend(uuid.as_bytes());
            }
            _ => self.optional(id, Self::text),
        }
    }

    pub(crate) fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63) as u64);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn optional<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }
}

/// Reads a record from its beginning on, and holds the rest of it.
pub(crate) struct RecordReader<'a>(pub(crate) &'a [u8]);

impl<'a> RecordReader<'a> {
    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], StoreError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(ends_too_early)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(ends_too_early)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, StoreError> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, StoreError> {
        u64::try_from(self.wide()?).map_err(|_| damaged("a number in a record is too large"))
    }

    pub(crate) fn wide(&mut self) -> Result<u128, StoreError> {
        let mut number = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            number |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged("a number in a record is too long"))
    }

    pub(crate) fn request_id(&mut self) -> Result<Option<String>, StoreError> {
        if self.0.first() == Some(&UUID) {
            self.byte()?;
            return Ok(Some(Uuid::from_bytes(self.array()?).as_hyphenated().to_string()));
        }
        self.optional(Self::text)
    }

    pub(crate) fn small(&mut self) -> Result<u32, StoreError> {
        u32::try_from(self.number()?).map_err(|_| damaged("a number in a record is too large"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, StoreError> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        self.text_slice().map(str::to_owned)
    }

    pub(crate) fn text_slice(&mut self) -> Result<&'a str, StoreError> {
        let length = self.number()?;
        str::from_utf8(self.take(length)?)
            .map_err(|error| StoreError::corrupt("a text in a record is not UTF-8", error))
    }

    pub(crate) fn optional<T>(
        &mut self,
        get: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self.byte()? {
            0 => Ok(None),
            1 => get(self).map(Some),
            _ => Err(damaged("a record has a part that is neither there nor not")),
        }
    }

    /// Reads the rest as JSON.
    pub(crate) fn json<T: Deserialize<'a>>(&mut self) -> Result<T, StoreError> {
        serde_json::from_slice(self.0).map_err(not_the_json)
    }
}

/// Returns true if this is the lower-case hyphenated form, in which a UUID is read back.
fn is_text_of(uuid: &Uuid, text: &str) -> bool {
    text == uuid.as_hyphenated().encode_lower(&mut Uuid::encode_buffer())
}

pub(crate) fn not_the_json(error: serde_json::Error) -> StoreError {
    StoreError::corrupt("a record is not the JSON it should be", error)
}

fn ends_too_early() -> StoreError {
    damaged("a record ends too early")
}
