//! How the program is linked: with relocations packed, where the system's loader reads them. The program is large and
//! position-independent; plain, its relocations are six megabytes that every start reads through and keeps resident.

#![allow(clippy::print_stdout, reason = "cargo reads what a build script prints")]

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if loader_reads_packed_relocations() {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// glibc reads them since 2.36.
fn loader_reads_packed_relocations() -> bool {
    let target = std::env::var("TARGET").unwrap_or_default();
    let native = std::env::var("HOST").is_ok_and(|host| host == target);
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = said.unwrap_or_default();
    let mut numbers = version.trim().trim_start_matches("glibc ").split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    native && target.ends_with("-linux-gnu") && (numbers.next(), numbers.next()) >= (Some(2), Some(36))
}
