//! Parses TOML key by key, so that every problem names file, line and key.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Problem of a file, with its place: `workflows/daily.toml:7: parameters[0].type: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileProblem {
    file: PathBuf,
    line: usize,
    /// Key of the value; empty for the file as a whole.
    key: String,
    message: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: ", self.file.display(), self.line)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)
    }
}

/// A TOML file and its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
}

impl<'a> Document<'a> {
    /// Parses the file and checks its syntax.
    pub(crate) fn parse(self) -> Result<Spanned<DeTable<'a>>, FileProblem> {
        DeTable::parse(self.text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            self.problem(error.span().unwrap_or(0..0), "", message)
        })
    }

    fn problem(self, span: Range<usize>, key: &str, message: impl Into<String>) -> FileProblem {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = 1 + before.matches('\n').count();
        FileProblem { file: self.file.to_owned(), line, key: key.to_owned(), message: message.into() }
    }
}

/// A table of which every key must be taken.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    document: Document<'a>,
    key: String,
    span: Range<usize>,
    entries: BTreeMap<&'a str, Entry<'a>>,
    known: Vec<&'static str>,
}

/// A value with its position in the file.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    document: Document<'a>,
    key: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    /// Returns the table of the whole file.
    pub(crate) fn root(document: Document<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self::new(document, String::new(), 0..0, table.get_ref())
    }

    fn new(document: Document<'a>, key: String, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        let entries = table.iter().map(|(name, value)| {
            let name = name.get_ref().as_ref();
            let path = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            (name, Entry { document, key: path, span: value.span(), value: value.get_ref() })
        });
        let entries = entries.collect();
        Self { document, key, span, entries, known: Vec::new() }
    }

    /// Takes the value of a key.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.push(key);
        self.entries.remove(key)
    }

    /// Returns whether a key exists that was not taken yet.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Takes the value of a required key.
    pub(crate) fn require(&mut self, key: &'static str) -> Result<Entry<'a>, FileProblem> {
        self.take(key).ok_or_else(|| self.problem(format!("the key {key} is missing")))
    }

    /// Takes all remaining keys.
    pub(crate) fn take_all(&mut self) -> Vec<(&'a str, Entry<'a>)> {
        std::mem::take(&mut self.entries).into_iter().collect()
    }

    /// Checks that no key remains.
    pub(crate) fn finish(self) -> Result<(), FileProblem> {
        match self.entries.into_values().next() {
            None => Ok(()),
            Some(entry) if self.known.is_empty() => Err(entry.problem("unknown key; no key is known here")),
            Some(entry) => {
                Err(entry.problem(format!("unknown key; the keys here are {}", self.known.join(", "))))
            }
        }
    }

    /// Returns a problem of the table as a whole.
    pub(crate) fn problem(&self, message: impl Into<String>) -> FileProblem {
        self.document.problem(self.span.clone(), &self.key, message)
    }
}

impl<'a> Entry<'a> {
    /// Returns its key in the file, as `parameters[0].default`.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Returns a problem of this value.
    pub(crate) fn problem(&self, message: impl Into<String>) -> FileProblem {
        self.document.problem(self.span.clone(), &self.key, message)
    }

    /// Returns it as text that is not empty.
    pub(crate) fn text(&self) -> Result<&'a str, FileProblem> {
        match self.value {
            DeValue::String(text) if text.trim().is_empty() => Err(self.problem("must not be empty")),
            DeValue::String(text) => Ok(text),
            _ => Err(self.mismatch("text")),
        }
    }

    /// Returns it as text that may be empty.
    pub(crate) fn any_text(&self) -> Result<&'a str, FileProblem> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.mismatch("text")),
        }
    }

    /// Returns it as a boolean.
    pub(crate) fn boolean(&self) -> Result<bool, FileProblem> {
        match self.value {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.mismatch("true or false")),
        }
    }

    /// Returns it as a list.
    pub(crate) fn items(&self) -> Result<Vec<Entry<'a>>, FileProblem> {
        let DeValue::Array(items) = self.value else { return Err(self.mismatch("a list")) };
        Ok(items
            .iter()
            .enumerate()
            .map(|(index, item)| Entry {
                document: self.document,
                key: format!("{}[{index}]", self.key),
                span: item.span(),
                value: item.get_ref(),
            })
            .collect())
    }

    /// Returns it as a table.
    pub(crate) fn section(&self) -> Result<Section<'a>, FileProblem> {
        match self.value {
            DeValue::Table(table) => {
                Ok(Section::new(self.document, self.key.clone(), self.span.clone(), table))
            }
            _ => Err(self.mismatch("a table")),
        }
    }

    /// Returns it as JSON; dates and times become text.
    pub(crate) fn json(&self) -> Result<Value, FileProblem> {
        Ok(match self.value {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Boolean(value) => Value::from(*value),
            DeValue::Datetime(moment) => Value::from(moment.to_string()),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map(Value::from)
                .map_err(|_| self.problem("must be an integer within 64 bits"))?,
            DeValue::Float(float) => {
                let number = float.as_str().parse().ok().and_then(Number::from_f64);
                Value::Number(number.ok_or_else(|| self.problem("must be a finite number"))?)
            }
            DeValue::Array(_) => {
                Value::Array(self.items()?.iter().map(Self::json).collect::<Result<_, _>>()?)
            }
            DeValue::Table(_) => {
                let entries = self.section()?.take_all().into_iter();
                let members = entries.map(|(name, entry)| Ok((name.to_owned(), entry.json()?)));
                Value::Object(members.collect::<Result<Map<_, _>, FileProblem>>()?)
            }
        })
    }

    fn mismatch(&self, expected: &str) -> FileProblem {
        self.problem(format!("must be {expected}, not {}", self.value.type_str()))
    }
}
