//! Statements that are interrupted, that come at a time, that fail.

use std::path::Path;
use std::time::Duration;

use weir_dataflow::{Graph, GraphOptions, MaintenanceOptions};
use weir_journal::{Journal, Options};
use weir_sql::EngineOptions;

use super::*;

struct Program {
    catalog: Catalog,
    graph: Graph,
    journal: Journal,
    engine: Engine,
    keeper: Arc<Keeper>,
}

const QUERY: &str = "SELECT environment, count(*) AS n FROM errors WHERE received > now() - INTERVAL '5 minutes' GROUP BY environment HAVING count(*) > 5";

fn scope() -> Scope {
    Scope { org_id: 1, projects: None, name: "test".to_owned() }
}

async fn start(dir: &Path) -> Program {
    let catalog = Catalog::open(&dir.join("catalog.sqlite")).await.unwrap();
    catalog.create_first_project(1).await.unwrap();
    let (journal, _) = Journal::open(Options::new(dir.join("journal"))).unwrap();
    let options = GraphOptions {
        share: weir_dataflow::Share::All,
        knowledge: weir_operators::interpret::Knowledge::default(),
        workers: 1,
        lake: dir.join("lake"),
        commit_age_max: Duration::from_secs(3600),
        commit_bytes_max: 64 << 20,
        maintenance: MaintenanceOptions::default(),
    };
    let graph = Graph::start(options, catalog.clone(), journal.clone()).await.unwrap();
    let engine = Engine::new(graph.snapshots(), EngineOptions { spill: dir.join("spill"), ..EngineOptions::default() }).unwrap();
    let (keeper, taking_up) = Keeper::start(catalog.clone(), graph.subscriptions(), &engine, false).await.unwrap();
    taking_up.await.unwrap();
    engine.set_subscriptions(Arc::<Keeper>::clone(&keeper));
    Program { catalog, graph, journal, engine, keeper }
}

impl Program {
    fn described(&self, name: &str) -> (NewSubscription, CompiledQuery) {
        let options = SubscriptionOptions::default();
        let compiled = self.engine.compile(&scope(), QUERY, &options).unwrap();
        let new = NewSubscription { name: name.to_owned(), query: QUERY.to_owned(), options, org_id: 1, projects: None, created_by: "test".to_owned() };
        (new, compiled)
    }

    async fn stop(self) {
        let Self { catalog, graph, journal, .. } = self;
        let ended = tokio::task::spawn_blocking(move || {
            journal.close();
            graph.stop()
        });
        ended.await.unwrap().unwrap();
        catalog.close().await;
    }
}

async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = found() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be that {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_client_goes_away_is_carried_out_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path()).await;
    let keeper = &program.keeper;
    let (new, compiled) = program.described("s");
    {
        let creating = keeper.create(new, compiled.clone());
        futures::pin_mut!(creating);
        assert!(futures::poll!(creating).is_pending());
    }
    let found = until("the subscription is known", || keeper.find(1, "s")).await;
    until("it runs", || keeper.state(found.id).filter(|state| state.state == "running")).await;
    {
        let altering = keeper.alter(&found, QUERY.to_owned(), SubscriptionOptions { for_ms: 5, ..SubscriptionOptions::default() }, true, compiled);
        futures::pin_mut!(altering);
        assert!(futures::poll!(altering).is_pending());
    }
    until("it is altered", || keeper.find(1, "s").filter(|found| found.options.for_ms == 5 && found.version == 2)).await;
    keeper.remove(found.id).await.unwrap();
    assert!(keeper.find(1, "s").is_none() && keeper.state(found.id).is_none());
    assert_eq!(program.catalog.subscriptions().await.unwrap(), []);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_a_time_are_all_made_and_one_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path()).await;
    let (keeper, engine, scope) = (&program.keeper, &program.engine, scope());
    let (new, compiled) = program.described("s");
    keeper.create(new, compiled.clone()).await.unwrap();
    let before = keeper.find(1, "s").unwrap();
    let of = &scope;
    let alter = |setting: &'static str| async move { engine.query(of, &format!("ALTER SUBSCRIPTION s SET ({setting})")).await.map(drop).unwrap() };
    tokio::join!(alter("severity = 'warning'"), alter("\"for\" = '5 minutes'"), alter("min_interval = '7 minutes'"));
    let after = keeper.find(1, "s").unwrap();
    assert_eq!((after.options.severity.as_deref(), after.options.for_ms, after.options.min_interval_ms), (Some("warning"), 300_000, 420_000));
    assert_eq!(program.catalog.subscription(1, "s").await.unwrap().as_ref(), Some(&*after));
    // What was made from an older definition is not.
    let stale = keeper.alter(&before, QUERY.to_owned(), SubscriptionOptions::default(), true, compiled.clone()).await;
    assert_eq!(stale, Ok(false));
    assert_eq!(keeper.find(1, "s").as_ref(), Some(&after));
    // The graph refuses: definition and version are as they were.
    program.graph.subscriptions().remove(after.id).await.unwrap();
    let refused = keeper.alter(&after, QUERY.to_owned(), SubscriptionOptions::default(), true, compiled).await;
    assert!(refused.is_err_and(|error| error.contains("does not run")));
    assert_eq!(program.catalog.subscription(1, "s").await.unwrap().as_ref(), Some(&*after));
    assert_eq!(keeper.find(1, "s").as_ref(), Some(&after));
    program.stop().await;
}
