//! Tests of claims by workers that execute some workflows only.

use super::*;

#[tokio::test]
async fn a_worker_of_one_workflow_claims_past_the_runs_of_another_in_the_same_queue() {
    let (mut live, webhook, instant) = (LiveRuns::new(), webhook(), Instant::now());
    let other = admit(&mut live, webhook, None, OnOverlap::Queue).run;
    let mut request = enqueue(webhook, None, OnOverlap::Queue);
    let workflow = "report/b".parse().unwrap();
    let (id, parameters) = (RunId::generate(NOW), RunParameters::default());
    request.run = Arc::new(Run::new(id, workflow, webhook, parameters, 3, Caller::default(), NOW));
    live.admit(&request, None).unwrap();
    live.commit(id);
    let of = |workflow: &str| {
        let only = Workflows::Only(Arc::new([workflow.parse().unwrap()].into()));
        ClaimRequest::new(9, LEASE, NOW).with_workflows(only)
    };
    let mut claim = |request: &ClaimRequest| {
        let claimed = live.claim(request, instant).claimed;
        claimed.iter().map(|run| run.id()).collect::<Vec<_>>()
    };
    assert_eq!(claim(&of("report/c")), []);
    assert_eq!(claim(&of("report/b")), [id]);
    assert_eq!(claim(&of("report/a")), [other.id()]);
}
