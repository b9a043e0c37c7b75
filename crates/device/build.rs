//! Tells the linker where `node-device` finds libtorch when it runs: beside itself once installed, or where it was built.

use std::env;
use std::fs;
use std::path::Path;

/// What tch 0.26 is generated for; torch-sys refuses any other.
const TORCH_VERSION: &str = "2.13.0";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if env::var_os("CARGO_FEATURE_TORCH").is_none() {
        return;
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/libtorch");
    let mut version = TORCH_VERSION.to_owned();
    if let Some(libtorch) = env::var_os("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", Path::new(&libtorch).join("lib").display());
        if let Ok(named) = fs::read_to_string(Path::new(&libtorch).join("build-version")) {
            named.trim().clone_into(&mut version);
        }
    }
    println!("cargo:rustc-env=MAGPIE_TORCH_VERSION={version}");
}
