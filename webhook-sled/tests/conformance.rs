//! Runs the conformance suite on this store: as it is and opened again, behind a trait object, and with the weaker durability.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use webhook_sled::{Durability, SledStore};

mod direct {
    webhook_testing::conformance_tests!(opened_again: {
        let folder = tempfile::tempdir().unwrap();
        async move || super::SledStore::open(folder.path().join("data")).unwrap()
    });
}

mod behind_a_trait_object {
    use std::sync::Arc;

    use webhook_core::store::Store;

    webhook_testing::conformance_tests!({
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(super::SledStore::open(folder.path().join("data")).unwrap());
        (store, folder)
    });
}

mod durable_for_the_process {
    use super::{Durability, SledStore};

    webhook_testing::conformance_tests!(opened_again: {
        let folder = tempfile::tempdir().unwrap();
        let options = SledStore::options().with_durability(Durability::Process).with_cache_bytes(1 << 20);
        async move || options.clone().open(folder.path()).unwrap()
    });
}
