//! Runs the conformance suite on this store: as it is, behind a trait object, and with the weaker durability.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use webhook_sled::{Durability, SledStore};

fn fresh() -> (SledStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (SledStore::open(folder.path().join("data")).unwrap(), folder)
}

mod direct {
    use std::sync::Arc;

    webhook_testing::conformance_tests!({
        let (store, folder) = super::fresh();
        (Arc::new(store), folder)
    });
}

mod behind_a_trait_object {
    use std::sync::Arc;

    use webhook_core::store::Store;

    webhook_testing::conformance_tests!({
        let (store, folder) = super::fresh();
        let store: Arc<dyn Store> = Arc::new(store);
        (store, folder)
    });
}

mod durable_for_the_process {
    use std::sync::Arc;

    webhook_testing::conformance_tests!({
        let folder = tempfile::tempdir().unwrap();
        let options =
            super::SledStore::options().with_durability(super::Durability::Process).with_cache_bytes(1 << 20);
        (Arc::new(options.open(folder.path()).unwrap()), folder)
    });
}
