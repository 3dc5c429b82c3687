//! Data of a report: a read-only database, or CSV files as tables of a database in memory.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use minijinja::Value;
use rusqlite::types::{Null, ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};
use webhook_core::executor::Cancellation;
use webhook_core::parameters::{EffectiveParameters, ParameterBlocks};

use crate::regular_file;

/// Upper bound on a CSV file, in bytes: it is held in memory.
const CSV_BYTES: u64 = 64 * 1024 * 1024;

/// Upper bound on the rows of one query: they are held in memory.
const QUERY_ROWS: usize = 100_000;

/// Number of instructions of SQLite's machine between two checks for a cancellation.
const INSTRUCTIONS: i32 = 10_000;

/// Number of inserted rows of a CSV file between two checks for a cancellation.
const INSERTED_ROWS: usize = 1_000;

/// Source of the data.
#[derive(Debug)]
pub(crate) enum Data {
    /// An SQLite database.
    Database(DataFile),
    /// CSV files with the names of their tables.
    Csv(Vec<(String, DataFile)>),
}

/// A file with its name in errors. Callers see errors, so the name does not show the server's folders.
#[derive(Debug, Clone)]
pub(crate) struct DataFile {
    name: String,
    path: PathBuf,
}

impl DataFile {
    /// Resolves a path given in a workflow file in `folder`.
    pub(crate) fn new(folder: &Path, given: &str) -> Self {
        let last = Path::new(given).file_name().filter(|_| Path::new(given).is_absolute());
        let name = last.map_or_else(|| given.to_owned(), |last| last.to_string_lossy().into_owned());
        Self { name, path: folder.join(given) }
    }
}

/// Error of reading the data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// A file cannot be read.
    #[error("{} cannot be read", .file.name)]
    File {
        /// The unreadable file.
        file: DataFile,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file is not CSV, or too long.
    #[error("{} is not a usable CSV file: {reason}", .file.name)]
    Csv {
        /// The unusable file.
        file: DataFile,
        /// Reason, in words for people.
        reason: String,
    },
    /// A database cannot be opened.
    #[error("the database {} cannot be opened", .file.name)]
    Database {
        /// File of the database.
        file: DataFile,
        /// Error of SQLite.
        source: rusqlite::Error,
    },
    /// A query fails.
    #[error("the query {name} fails")]
    Query {
        /// Name of the query.
        name: String,
        /// Error of SQLite.
        source: rusqlite::Error,
    },
    /// The attempt was stopped.
    #[error("stopped while reading")]
    Stopped,
    /// A query is not allowed.
    #[error("the query {name} {reason}")]
    Refused {
        /// Name of the query.
        name: String,
        /// Reason, in words that follow the name.
        reason: String,
    },
}

impl DataError {
    /// Returns the path of the file with the error, for the log.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File { file, .. } | Self::Csv { file, .. } | Self::Database { file, .. } => {
                Some(&file.path)
            }
            Self::Query { .. } | Self::Stopped | Self::Refused { .. } => None,
        }
    }

    /// Returns whether another attempt may succeed.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::File { .. } | Self::Stopped => true,
            Self::Database { source, .. } | Self::Query { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::CannotOpen
                        | ErrorCode::OperationInterrupted
                )
            ),
            Self::Csv { .. } | Self::Refused { .. } => false,
        }
    }
}

impl Data {
    /// Opens the data. Work on the connection is interrupted once `stop` fires.
    pub(crate) fn open(&self, stop: &Cancellation) -> Result<Connection, DataError> {
        match self {
            Self::Database(file) => {
                let failed =
                    |source| DataError::Database { file: file.clone(), source: without_path(source) };
                regular_file::check(&file.path)
                    .map_err(|source| DataError::File { file: file.clone(), source })?;
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let mut connection = Connection::open_with_flags(&file.path, flags).map_err(failed)?;
                watch(&mut connection, stop).map_err(failed)?;
                // Reads the header of the file, so that a file of another kind is found here.
                connection.pragma_query(None, "schema_version", |_| Ok(())).map_err(failed)?;
                Ok(connection)
            }
            Self::Csv(files) => {
                let in_memory = |source| {
                    let file = DataFile { name: "in memory".to_owned(), path: ":memory:".into() };
                    DataError::Database { file, source }
                };
                let mut connection = Connection::open_in_memory().map_err(in_memory)?;
                watch(&mut connection, stop).map_err(in_memory)?;
                for (table, file) in files {
                    import(&mut connection, table, file, stop)?;
                }
                connection.pragma_update(None, "query_only", true).map_err(in_memory)?;
                Ok(connection)
            }
        }
    }
}

/// Removes the path from SQLite's message about opening a file.
fn without_path(error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => rusqlite::Error::SqliteFailure(code, None),
        other => other,
    }
}

fn watch(connection: &mut Connection, stop: &Cancellation) -> rusqlite::Result<()> {
    let stop = stop.clone();
    connection.progress_handler(INSTRUCTIONS, Some(move || stop.is_cancelled()))
}

/// Creates a table from a CSV file with a header line (RFC 4180).
///
/// A column of numbers only is numeric, and its empty fields are null. Every other column is text.
fn import(
    connection: &mut Connection,
    table: &str,
    file: &DataFile,
    stop: &Cancellation,
) -> Result<(), DataError> {
    let unusable = |reason: String| DataError::Csv { file: file.clone(), reason };
    let bytes = read(file)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let reader = || csv::Reader::from_reader(text);
    let columns: Vec<String> =
        reader().headers().map_err(|error| unusable(error.to_string()))?.iter().map(str::to_owned).collect();
    if columns.is_empty() {
        return Err(unusable("it has no head line".to_owned()));
    }
    let mut is_numeric = vec![true; columns.len()];
    for record in reader().records() {
        let record = record.map_err(|error| unusable(error.to_string()))?;
        for (numeric, field) in is_numeric.iter_mut().zip(&record) {
            *numeric &= field.is_empty() || number(field).is_some();
        }
    }

    let failed = |source: rusqlite::Error| unusable(source.to_string());
    let names: Vec<_> = columns.iter().map(|column| quoted(column)).collect();
    connection
        .execute_batch(&format!("CREATE TABLE {} ({})", quoted(table), names.join(", ")))
        .map_err(failed)?;
    let marks = vec!["?"; columns.len()].join(", ");
    let insert = format!("INSERT INTO {} VALUES ({marks})", quoted(table));
    let transaction = connection.transaction().map_err(failed)?;
    {
        let mut statement = transaction.prepare(&insert).map_err(failed)?;
        for (row, record) in reader().records().enumerate() {
            let record = record.map_err(|error| unusable(error.to_string()))?;
            let values = record.iter().zip(&is_numeric).map(|(field, is_numeric)| match is_numeric {
                true if field.is_empty() => SqlValue::Null,
                true => number(field).unwrap_or(SqlValue::Null),
                false => SqlValue::Text(field.to_owned()),
            });
            statement.execute(rusqlite::params_from_iter(values)).map_err(failed)?;
            if row % INSERTED_ROWS == 0 && stop.is_cancelled() {
                return Err(DataError::Stopped);
            }
        }
    }
    transaction.commit().map_err(failed)
}

fn read(file: &DataFile) -> Result<Vec<u8>, DataError> {
    let failed = |source| DataError::File { file: file.clone(), source };
    let mut bytes = Vec::new();
    let mut opened = regular_file::open(&file.path).map_err(failed)?.take(CSV_BYTES + 1);
    opened.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > CSV_BYTES {
        let reason = format!("it is longer than {CSV_BYTES} bytes");
        return Err(DataError::Csv { file: file.clone(), reason });
    }
    Ok(bytes)
}

/// Parses a JSON number (RFC 8259, section 6). `007` and `1e999` are not numbers.
fn number(text: &str) -> Option<SqlValue> {
    let number: serde_json::Number = match text.bytes().next()? {
        b'-' | b'0'..=b'9' => serde_json::from_str(text).ok()?,
        _ => return None,
    };
    let is_integer = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
    match number.as_i64() {
        Some(integer) => Some(SqlValue::Integer(integer)),
        None if is_integer => None,
        None => number.as_f64().filter(|real| real.is_finite()).map(SqlValue::Real),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A query with its bound parameters.
#[derive(Debug)]
pub(crate) struct Query {
    /// Name of its rows in the template.
    pub(crate) name: String,
    sql: String,
    /// For each parameter of the statement in order, the parameter of the run.
    bound: Vec<String>,
}

impl Query {
    /// Prepares a query against the data and checks its bound parameters.
    pub(crate) fn prepare(
        connection: &Connection,
        name: &str,
        sql: &str,
        blocks: &ParameterBlocks,
    ) -> Result<Self, DataError> {
        let refused = |reason: String| DataError::Refused { name: name.to_owned(), reason };
        let statement =
            connection.prepare(sql).map_err(|source| DataError::Query { name: name.to_owned(), source })?;
        if !statement.readonly() || statement.column_count() == 0 {
            return Err(refused("must only read".to_owned()));
        }
        let mut bound = Vec::new();
        for index in 1..=statement.parameter_count() {
            let parameter =
                statement.parameter_name(index).and_then(|name| name.strip_prefix([':', '@', '$']));
            match parameter {
                Some(parameter) if blocks.get(parameter).is_some() => bound.push(parameter.to_owned()),
                Some(parameter) => {
                    return Err(refused(format!("binds :{parameter}, which is no declared parameter")));
                }
                None => return Err(refused("must bind parameters by name, such as :region".to_owned())),
            }
        }
        Ok(Self { name: name.to_owned(), sql: sql.to_owned(), bound })
    }

    /// Returns the rows, each a map from column to value.
    pub(crate) fn rows(
        &self,
        connection: &Connection,
        parameters: &EffectiveParameters,
    ) -> Result<Vec<Value>, DataError> {
        let failed = |source| DataError::Query { name: self.name.clone(), source };
        let mut statement = connection.prepare(&self.sql).map_err(failed)?;
        for (index, parameter) in (1..).zip(&self.bound) {
            let value = parameters.get(parameter).map(|parameter| &parameter.value);
            statement.raw_bind_parameter(index, Bound(value)).map_err(failed)?;
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.raw_query();
        let mut taken = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            if taken.len() == QUERY_ROWS {
                let reason = format!("has more than {QUERY_ROWS} rows; limit it");
                return Err(DataError::Refused { name: self.name.clone(), reason });
            }
            let mut values = BTreeMap::new();
            for (index, column) in columns.iter().enumerate() {
                values.insert(column.clone(), shown(row.get_ref(index).map_err(failed)?));
            }
            taken.push(Value::from(values));
        }
        Ok(taken)
    }
}

/// A parameter in the form for SQLite. Lists and objects are their JSON text.
struct Bound<'a>(Option<&'a serde_json::Value>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        use serde_json::Value;
        Ok(match self.0 {
            None | Some(Value::Null) => Null.into(),
            Some(Value::Bool(value)) => (*value).into(),
            Some(Value::String(text)) => text.as_str().into(),
            Some(Value::Number(number)) => match number.as_i64() {
                Some(integer) => integer.into(),
                None => number.as_f64().unwrap_or_default().into(),
            },
            Some(other) => other.to_string().into(),
        })
    }
}

fn shown(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::from(()),
        ValueRef::Integer(integer) => Value::from(integer),
        ValueRef::Real(real) => Value::from(real),
        ValueRef::Text(text) => Value::from(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::from(format!("{} bytes", bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_as_a_number_is_one() {
        assert_eq!(number("-12"), Some(SqlValue::Integer(-12)));
        assert_eq!(number("12.50"), Some(SqlValue::Real(12.5)));
        for text in ["", "007", "1_000", "1,5", "nan", "+1", " 1", "9223372036854775808", "1e999", "true"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_is_quoted_whatever_it_holds() {
        assert_eq!(quoted("a\"; DROP TABLE b"), "\"a\"\"; DROP TABLE b\"");
    }
}
