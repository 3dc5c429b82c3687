//! Calls and runs per second, beside the references.

use std::time::Duration;

use webhook_core::store::Store;
use webhook_testing::postgres::PrivatePostgres;

use crate::service::{Service, idle};
use crate::table::Table;
use crate::{references, store};

const PER_SECOND: &str = "/s";
const PGBENCH: &str = "pgbench, 64 clients";
/// Numbers of callers that every case has.
const CALLERS: [usize; 2] = [64, 256];
/// Numbers of callers of the store alone.
const FEW_CALLERS: [usize; 2] = [1, 16];

pub(crate) async fn measure(server: &PrivatePostgres, rounds: usize, time: Duration) {
    let (store, other) = (store::open(server).await, store::open(server).await);
    references::make_table(server);
    let service = Service::start(store.clone()).await;
    let webhook = &service.webhook;
    let mut table = Table::default();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let times = idle(&store, &other, webhook).await;
        for percent in [50, 99] {
            let time = times[times.len() * percent / 100].as_secs_f64() * 1e3;
            table.add(&format!("idle, call to handler in another process, p{percent}"), "ms", time);
        }
        references::empty_table(server);
        table.add(PGBENCH, PER_SECOND, references::pgbench(server, 64, time));
        for callers in CALLERS {
            references::empty_table(server);
            let bare = references::bare_loop(server, callers, time).await;
            table.add(&format!("bare loop, {callers} callers"), PER_SECOND, bare.per_second());
            let enqueued = store::enqueue(&store, webhook, callers, time).await;
            table.add(&format!("store, {callers} callers"), PER_SECOND, enqueued.per_second());
            let load = service.call(callers, time).await;
            table.add(&format!("HTTP, {callers} callers"), PER_SECOND, load.per_second());
        }
        for callers in FEW_CALLERS {
            let enqueued = store::enqueue(&store, webhook, callers, time).await;
            table.add(&format!("store, {callers} callers"), PER_SECOND, enqueued.per_second());
        }
        let queued = store.health().await.unwrap().queued;
        let drained = store::drain(&store, queued / 2).await;
        table.add("drain by the store", PER_SECOND, drained.per_second());
        table.add("drain by default workers", PER_SECOND, service.drain().await.per_second());
    }
    table.print(&[PGBENCH, "bare loop, 64 callers"]);
    let sizes = "SELECT string_agg(format('%s %s B', relname, pg_total_relation_size(oid) / greatest(reltuples, 1)::bigint), ', ') \
        FROM pg_class WHERE oid = 'webhook.history'::regclass";
    server.psql("ANALYZE webhook.history");
    println!("\nbytes of an ended run with all indexes: {}", server.psql(sizes));
}
