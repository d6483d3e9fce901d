//! The layers hold: crates import only what docs/ARCHITECTURE.md allows, and each heavy dependency has one owner.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate of the workspace may import of the others; the root imports all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("weir-protocol", &[]),
    ("weir-journal", &["weir-protocol"]),
    ("weir-catalog", &["weir-protocol"]),
    ("weir-ingest", &["weir-protocol", "weir-journal", "weir-catalog"]),
    ("weir-operators", &["weir-protocol"]),
    ("weir-dataflow", &["weir-protocol", "weir-journal", "weir-catalog", "weir-operators"]),
    ("weir-sql", &["weir-protocol", "weir-operators", "weir-dataflow", "weir-catalog"]),
    ("weir-outbound", &["weir-protocol", "weir-catalog"]),
    ("weir-ui", &["weir-protocol", "weir-sql", "weir-catalog"]),
];

const ROOT: &str = "weir";

/// The crates that may depend on a heavy library.
const OWNERS: &[(&str, &[&str])] = &[
    ("timely", &["weir-operators", "weir-dataflow"]),
    ("differential-dataflow", &["weir-operators", "weir-dataflow"]),
    ("axum", &["weir-ingest", "weir-ui"]),
    ("sqlx", &["weir-catalog"]),
    ("datafusion", &["weir-sql"]),
    ("arrow-flight", &["weir-sql"]),
    ("tonic", &["weir-sql"]),
    ("rdkafka", &["weir-journal"]),
    ("parquet", &["weir-dataflow", "weir-sql"]),
    ("reqwest", &["weir-outbound"]),
    ("lettre", &["weir-outbound"]),
];

/// Libraries of which two versions would be two sets of types, or twice the build.
const ONE_VERSION: &[&str] = &["arrow", "arrow-schema", "parquet", "datafusion", "timely", "tonic", "axum", "sqlx", "tokio", "reqwest", "rustls", "lettre"];

/// The crates of the workspace, each with the names of what it depends on, development and build dependencies included.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Every edge that is not allowed, in words.
fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (name, dependencies) in graph {
        let allowed = MAY_IMPORT.iter().find(|(layer, _)| layer == name).map(|(_, allowed)| *allowed);
        if allowed.is_none() && name != ROOT {
            found.push(format!("{name} is a crate that the layers do not know"));
        }
        for dependency in dependencies {
            let of_workspace = graph.contains_key(dependency);
            if of_workspace && allowed.is_some_and(|allowed| !allowed.contains(&dependency.as_str())) {
                found.push(format!("{name} may not import {dependency}"));
            }
            let owners = OWNERS.iter().find(|(heavy, _)| heavy == dependency).map(|(_, owners)| *owners);
            if owners.is_some_and(|owners| !owners.contains(&name.as_str())) {
                found.push(format!("{name} may not depend on {dependency}: it belongs to {}", owners.unwrap_or_default().join(" and ")));
            }
        }
    }
    found
}

/// What `cargo metadata` says, as a graph.
fn graph(metadata: &Value) -> Graph {
    let text = |value: &Value| value.as_str().expect("cargo metadata gives a name").to_owned();
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let dependencies = |package: &Value| package["dependencies"].as_array().expect("a package lists dependencies").iter().map(|d| text(&d["name"])).collect();
    packages.iter().map(|package| (text(&package["name"]), dependencies(package))).collect()
}

/// The versions of a library in a lock file.
fn versions<'a>(lock: &'a str, name: &str) -> Vec<&'a str> {
    let heading = format!("name = \"{name}\"");
    let mut lines = lock.lines();
    let mut versions = Vec::new();
    while lines.any(|line| line == heading) {
        versions.extend(lines.next().and_then(|line| line.strip_prefix("version = ")).map(|version| version.trim_matches('"')));
    }
    versions
}

fn graph_of(crates: &[(&str, &[&str])]) -> Graph {
    crates.iter().map(|(name, dependencies)| ((*name).to_owned(), dependencies.iter().map(|d| (*d).to_owned()).collect())).collect()
}

#[test]
fn the_workspace_keeps_its_layers() {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo runs");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).expect("cargo metadata is JSON");
    let graph = graph(&metadata);
    assert!(graph.len() >= 8 && graph.contains_key(ROOT), "cargo metadata names {:?}", graph.keys());
    assert!(graph["weir-dataflow"].contains("timely") && graph["weir-sql"].contains("weir-dataflow"), "edges are missing: {graph:?}");
    assert_eq!(violations(&graph), Vec::<String>::new());
}

#[test]
fn a_forbidden_edge_is_reported() {
    let check = |crates: &[(&str, &[&str])], want: &[&str]| assert_eq!(violations(&graph_of(crates)), want, "{crates:?}");
    let rest: &[&str] = &[];
    check(
        &[("weir", &["weir-ingest", "weir-sql", "clap"]), ("weir-ingest", &["weir-protocol", "axum"]), ("weir-protocol", rest), ("weir-sql", &["tonic"])],
        &[],
    );
    check(&[("weir-ingest", &["weir-dataflow"]), ("weir-dataflow", rest)], &["weir-ingest may not import weir-dataflow"]);
    check(&[("weir-protocol", &["weir-journal", "serde"]), ("weir-journal", rest)], &["weir-protocol may not import weir-journal"]);
    check(&[("weir-dataflow", &["weir-sql"]), ("weir-sql", &["weir-dataflow"])], &["weir-dataflow may not import weir-sql"]);
    check(&[("weir-journal", &["weir"]), ("weir", rest)], &["weir-journal may not import weir"]);
    check(&[("weir-operators", &["sqlx"])], &["weir-operators may not depend on sqlx: it belongs to weir-catalog"]);
    check(&[("weir", &["timely"])], &["weir may not depend on timely: it belongs to weir-operators and weir-dataflow"]);
    check(&[("weir-common", rest)], &["weir-common is a crate that the layers do not know"]);
}

#[test]
fn one_version_of_what_must_be_one() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).expect("there is a lock file");
    for name in ONE_VERSION {
        let versions = versions(&lock, name);
        assert_eq!(versions.len(), 1, "{name} has the versions {versions:?} in Cargo.lock");
    }
}

#[test]
fn versions_are_read_from_a_lock_file() {
    let lock = "[[package]]\nname = \"arrow\"\nversion = \"59.3.0\"\n\n[[package]]\nname = \"arrow-schema\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"arrow\"\nversion = \"58.0.0\"\n";
    assert_eq!(versions(lock, "arrow"), ["59.3.0", "58.0.0"]);
    assert_eq!(versions(lock, "arrow-schema"), ["1.0.0"]);
    assert!(versions(lock, "parquet").is_empty());
}
