//! Connections: the pool that statements use, and the one that listens.

use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use futures_util::{Stream, StreamExt, stream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::options::PostgresOptions;
use crate::tls;

/// A parameter of a statement, with its type. So the statement needs no round trip to be prepared.
///
/// It has no name on the connection either, which a pooler in transaction mode would not keep.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Upper bound on the repetitions of a statement that lost against another transaction.
const REPEATS: usize = 5;

pub(crate) struct Database {
    pool: Pool,
    /// The address at which this process listens.
    listening: Config,
    listening_tls: Option<MakeRustlsConnect>,
    /// True if that is another one than the pool's.
    listens_elsewhere: bool,
    timeout: Duration,
    schema: String,
}

/// Where a statement goes: to a connection of the pool, or into a host's transaction.
#[derive(Clone, Copy)]
pub(crate) enum Via<'a> {
    Pool(&'a Database),
    Transaction(&'a Database, &'a Transaction<'a>),
}

impl Via<'_> {
    pub(crate) async fn query(self, text: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        match self {
            Self::Pool(database) => database.query(text, parameters).await,
            Self::Transaction(database, transaction) => {
                Ok(transaction.query_typed(&database.sql(text), parameters).await?)
            }
        }
    }
}

/// Messages of a connection, which does its work while they are read.
pub(crate) type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Send>>;

impl Database {
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self, Failure> {
        let connector = |endpoint: &Endpoint| tls::connector(&endpoint.tls).map_err(Failure::Unreachable);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let config = options.endpoint.config.clone();
        let manager = match connector(&options.endpoint)? {
            Some(tls) => Manager::from_config(config, tls, recycling),
            None => Manager::from_config(config, NoTls, recycling),
        };
        let listening = options.listening.as_ref().unwrap_or(&options.endpoint);
        let timeout = Some(options.timeout.min(Duration::from_secs(10)));
        let pool = Pool::builder(manager)
            .max_size(options.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(timeout)
            .create_timeout(timeout)
            .build()
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        Ok(Self {
            pool,
            listening: listening.config.clone(),
            listening_tls: connector(listening)?,
            listens_elsewhere: options.listening.is_some(),
            timeout: options.timeout,
            schema: options.schema.clone(),
        })
    }

    /// Closes the pool: later statements fail, and idle connections end.
    pub(crate) fn close(&self) {
        self.pool.close();
    }

    /// The schema's name, which needs no quotes.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// A statement with `@S@` replaced by the schema.
    pub(crate) fn sql(&self, text: &str) -> String {
        text.replace("@S@", &self.schema)
    }

    /// Executes one statement in one round trip, and again where it lost against another transaction.
    pub(crate) async fn query(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        let text = self.sql(text);
        let mut tries = 0;
        loop {
            match self.query_once(&text, parameters).await {
                Err(failure) if failure.is_repeatable() && tries < REPEATS => tries += 1,
                other => return other,
            }
        }
    }

    async fn query_once(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        let client = self.pool.get().await?;
        match tokio::time::timeout(self.timeout, client.query_typed(text, parameters)).await {
            Ok(rows) => Ok(rows?),
            Err(_) => {
                // The state of the connection is unknown, so it serves no other statement.
                drop(deadpool_postgres::Object::take(client));
                Err(Failure::Connection(format!("no answer within {:?}", self.timeout)))
            }
        }
    }

    /// Executes a statement that changes nothing, and once more when the connection breaks.
    pub(crate) async fn read(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        match self.query(text, parameters).await {
            Err(failure) if failure.is_unknown() => self.query(text, parameters).await,
            other => other,
        }
    }

    /// Removes dead rows of a table, unless another process does so now. Whose role does not own the table leaves that to
    /// autovacuum.
    pub(crate) async fn vacuum(&self, table: &str) -> Result<(), Failure> {
        let client = self.pool.get().await?;
        Ok(client.batch_execute(&format!("VACUUM (SKIP_LOCKED) {}.{table}", self.schema)).await?)
    }

    /// A connection for several statements in one transaction.
    pub(crate) async fn client(&self) -> Result<deadpool_postgres::Object, Failure> {
        Ok(self.pool.get().await?)
    }

    /// Returns whether the connection that listens goes to another address than the others.
    pub(crate) fn listens_elsewhere(&self) -> bool {
        self.listens_elsewhere
    }

    /// A connection of its own to listen, which works as long as its messages are read.
    pub(crate) async fn connect(&self) -> Result<(Client, Messages), Failure> {
        fn messages<S, T>(mut connection: tokio_postgres::Connection<S, T>) -> Messages
        where
            S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
            T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        {
            stream::poll_fn(move |context| connection.poll_message(context)).boxed()
        }
        match &self.listening_tls {
            Some(tls) => {
                let (client, connection) = self.listening.connect(tls.clone()).await?;
                Ok((client, messages(connection)))
            }
            None => {
                let (client, connection) = self.listening.connect(NoTls).await?;
                Ok((client, messages(connection)))
            }
        }
    }
}
