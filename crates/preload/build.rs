//! How the library is linked: it is never unloaded, and needs the C library alone.

/// Of libgcc, std refers to what a panic would need, and there are none here: what is called then is nothing.
const UNWINDING: [&str; 16] = [
    "_Unwind_Backtrace",
    "_Unwind_DeleteException",
    "_Unwind_FindEnclosingFunction",
    "_Unwind_GetCFA",
    "_Unwind_GetDataRelBase",
    "_Unwind_GetIP",
    "_Unwind_GetIPInfo",
    "_Unwind_GetLanguageSpecificData",
    "_Unwind_GetRegionStart",
    "_Unwind_GetTextRelBase",
    "_Unwind_RaiseException",
    "_Unwind_Resume",
    "_Unwind_Resume_or_Rethrow",
    "_Unwind_SetGR",
    "_Unwind_SetIP",
    "__register_frame",
];

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let link = |argument: &str| println!("cargo::rustc-cdylib-link-arg={argument}");
    // Its code is where the ends of threads, forks and frees lead to.
    link("-Wl,-z,nodelete");
    link("-Wl,-z,now");
    link("-Wl,-soname,libtenzor-malloc.so.0");
    // What the linker takes for libgcc_s.
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let script: String = UNWINDING.iter().map(|name| format!("PROVIDE_HIDDEN({name} = 0);\n")).collect();
    std::fs::write(format!("{out}/libgcc_s.so"), script)?;
    link(&format!("-L{out}"));
    Ok(())
}
