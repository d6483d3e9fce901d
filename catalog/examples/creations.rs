use std::time::Instant;
use weir_catalog::{Catalog, NewSubscription};
use weir_protocol::subscription::SubscriptionOptions;
fn new(i: usize) -> NewSubscription {
    NewSubscription {
        name: format!("s{i}"),
        query: "SELECT environment, count(*) AS n FROM errors WHERE environment = 'e1' GROUP BY environment".into(),
        options: SubscriptionOptions { notify: vec!["webhook:https://example.org/x".into()], ..Default::default() },
        org_id: 1,
        projects: None,
        created_by: "admin".into(),
        created_ms: 1,
    }
}
#[tokio::main]
async fn main() {
    let folder = std::env::args().nth(1).unwrap();
    for (what, group) in [("alone", false), ("together", true)] {
        let dir = std::path::PathBuf::from(&folder).join(what);
        std::fs::create_dir_all(&dir).unwrap();
        let catalog = Catalog::open(&dir.join("catalog.sqlite")).await.unwrap();
        catalog.create_first_project(1).await.unwrap();
        let began = Instant::now();
        let tasks: Vec<_> = (0..8usize)
            .map(|c| {
                let catalog = catalog.clone();
                tokio::spawn(async move {
                    for i in (c..10_000).step_by(8) {
                        if group {
                            catalog.create_subscription(new(i)).await.unwrap();
                        } else {
                            catalog.create_subscriptions(vec![new(i)]).await.unwrap().pop().unwrap().unwrap();
                        }
                    }
                })
            })
            .collect();
        for t in tasks {
            t.await.unwrap();
        }
        println!("{what}: {:?} for 10,000 from 8 callers", began.elapsed());
    }
    let dir = std::path::PathBuf::from(&folder).join("many");
    std::fs::create_dir_all(&dir).unwrap();
    let catalog = Catalog::open(&dir.join("catalog.sqlite")).await.unwrap();
    catalog.create_first_project(1).await.unwrap();
    let began = Instant::now();
    catalog.create_subscriptions((0..100_000).map(new).collect()).await.unwrap();
    println!("100,000 in one call: {:?}", began.elapsed());
    let began = Instant::now();
    println!("read {}: {:?}", catalog.subscriptions().await.unwrap().len(), began.elapsed());
}
