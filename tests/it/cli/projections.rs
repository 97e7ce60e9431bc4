//! `portcullis projection`: list, verify with its exit code, and rebuild.

use super::Shell;
use crate::support::cluster::Scratch;
use crate::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn projections_are_verified_and_rebuilt() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id w-1").await.ok();
    let verified = shell.json("projection verify").await;
    let items = verified["items"].as_array().unwrap();
    assert_eq!(items.len(), 6);
    assert!(items.iter().all(|item| item["verification"]["state"] == "done"), "{verified}");

    scratch.superuser().await.batch_execute("update workers_1.worker set labels = '{\"a\": \"b\"}'").await.unwrap();
    let found = shell.run("projection verify pools workers").await;
    assert_eq!(found.code, 7, "{}", found.stderr);
    assert!(found.stderr.contains("the row of w-1 the column `labels`"), "{}", found.stderr);
    assert!(found.stderr.contains("portcullis projection rebuild workers"), "{}", found.stderr);

    shell.run("projection rebuild workers").await.ok();
    shell.run("projection verify workers").await.ok();
    let listed = shell.json("projection list").await;
    assert_eq!((&listed["items"][1]["name"], &listed["items"][1]["behind"]), (&"workers".into(), &0.into()));
    assert_eq!(shell.run("projection verify nothing").await.code, 3);
}
