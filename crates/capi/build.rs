//! How the library is linked: by the name that programs ask for, and never unloaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // Its code is where the ends of threads and forks lead to.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,now");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtenzor.so.0");
    }
}
