//! `include/tenzor.h` is what the sources say. `TENZOR_BLESS=1 cargo test --test header` writes it anew.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

#[test]
fn the_header_is_what_the_sources_say() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let made = cbindgen::Builder::new().with_crate(here).with_config(config).generate().unwrap();
    let mut text = Vec::new();
    made.write(&mut text);
    // What Rust calls its safety is what is needed of callers in C.
    let header = String::from_utf8(text).unwrap().replace("//\n// # Safety\n// ", "// Needed: ");
    let path = here.join("include/tenzor.h");
    if std::env::var_os("TENZOR_BLESS").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    assert!(std::fs::read_to_string(&path).is_ok_and(|there| there == header), "tenzor.h is another one");
}
