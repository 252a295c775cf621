//! A host of plugins, which knows nothing of their allocator.

use std::ffi::{CStr, CString, c_void};
use std::time::Duration;

use tenzor_hostile::{ensure, sys, wrong};

/// A library that was loaded.
struct Library(*mut c_void);

// SAFETY: handles of libraries are the process's, not a thread's.
unsafe impl Send for Library {}

impl Library {
    fn load(path: &str) -> Self {
        let name = CString::new(path).unwrap_or_default();
        // SAFETY: the library is one of the battery's, whose constructors are std's and Tenzor's.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            // SAFETY: `dlopen` failed, so there is a message.
            let message = unsafe { CStr::from_ptr(libc::dlerror()) };
            wrong!("{path} does not load: {}", message.to_string_lossy());
        }
        Library(handle)
    }

    fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is a library's.
        let at = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        ensure!(!at.is_null(), "no symbol {name:?}");
        at
    }

    fn work(&self, count: u8) {
        // SAFETY: the plugin's `work` has this type.
        let work: extern "C" fn(u8) -> u64 = unsafe { std::mem::transmute(self.symbol(c"work")) };
        let wanted = (0..u64::from(count)).sum::<u64>() << 20;
        let sum = work(count);
        ensure!(sum == wanted, "the plugin's sum is {sum}, not {wanted}");
    }

    fn call(&self, name: &CStr) {
        // SAFETY: the plugin's other functions take nothing and return nothing.
        let function: extern "C" fn() = unsafe { std::mem::transmute(self.symbol(name)) };
        function();
    }

    fn unload(self) {
        // SAFETY: the handle is a library's, and nobody uses it any more.
        let result = unsafe { libc::dlclose(self.0) };
        ensure!(result == 0, "dlclose says {result}");
    }
}

/// `host reload PLUG COUNT SECONDS`, `host threads PLUG COUNT SECONDS`, `host copies PREFIX COUNT SECONDS`, `host end PLUG`.
pub fn host(arguments: &[String]) {
    let word = |at: usize| arguments.get(at).map_or("", String::as_str);
    let number = |at: usize| word(at).parse::<usize>().unwrap_or(1);
    let (path, count) = (word(1), number(2));
    match word(0) {
        "reload" => {
            for _ in 0..count {
                let library = Library::load(path);
                library.work(5);
                library.unload();
            }
        }
        "threads" => {
            for _ in 0..count {
                let path = path.to_owned();
                let thread = std::thread::spawn(move || {
                    let library = Library::load(&path);
                    library.work(20);
                    library.call(c"keep");
                    library
                });
                let Ok(library) = thread.join() else { wrong!("a thread panicked") };
                library.unload();
            }
        }
        "copies" => {
            for copy in 0..count {
                let library = Library::load(&format!("{path}{copy}.so"));
                library.work(2);
                library.call(c"keep");
                library.work(2);
                library.unload();
            }
        }
        "end" => {
            let library = Library::load(path);
            library.work(20);
            library.call(c"start");
            std::thread::sleep(Duration::from_millis(300));
            // Main ends while the plugin's threads are at work.
            return;
        }
        other => wrong!("no host {other}"),
    }
    println!("addresses={}", sys::status("VmSize"));
    println!("resident={}", sys::status("VmRSS"));
    std::thread::sleep(Duration::from_secs(number(3) as u64));
    println!("alive");
}
