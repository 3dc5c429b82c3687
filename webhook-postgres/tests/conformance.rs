//! Every promise of a store, kept by this one through one handle and through two.

mod scene;

webhook_testing::conformance_tests!(handles: {
    let Some(schema) = scene::Schema::new() else { return };
    schema
});
