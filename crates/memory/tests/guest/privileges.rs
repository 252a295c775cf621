//! A host that runs with more rights than who started it: it heeds nothing that this one wrote into the environment.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::{env, fs};

use tenzor_memory::Origin;

use crate::GLOBAL;
use crate::block::Block;
use crate::case::{Case, case, run, succeeds};
use crate::common::layout;
use crate::host::MIB;

/// A copy of this program that runs with its file's privileges is started with a limit in its environment.
fn privileged_programs_heed_no_environment() {
    if env::var("TENZOR_TEST").is_ok_and(|word| word == "privileged") {
        // SAFETY: a plain query.
        if unsafe { libc::getauxval(libc::AT_SECURE) } == 0 {
            println!("the system does not heed the bit: not tried");
            return;
        }
        assert_eq!(GLOBAL.config().limit.origin, Origin::Default);
        assert!(Block::try_new(layout(100 * MIB, 8), 1).is_some());
        return;
    }
    let nobody = 65534;
    let copy = env::temp_dir().join(format!("tenzor-test-{}", std::process::id()));
    let made = fs::copy(env::current_exe().expect("this program"), &copy)
        .and_then(|_| std::os::unix::fs::chown(&copy, Some(nobody), Some(nobody)))
        .and_then(|()| fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)))
        .and_then(|()| fs::metadata(&copy));
    if made.is_ok_and(|made| made.uid() == nobody && made.mode() & 0o4000 != 0) {
        let mut command = Command::new(&copy);
        command.args(["--case", "privileged_programs_heed_no_environment"]);
        let end = run(command.env("TENZOR_TEST", "privileged").env("TENZOR_LIMIT", "40M"));
        fs::remove_file(&copy).expect("it is there");
        print!("{}", String::from_utf8_lossy(&end.stdout));
        succeeds(&end);
    } else {
        fs::remove_file(&copy).ok();
        println!("this user cannot make a set-uid program of another's: not tried");
    }
}

pub(crate) const CASES: &[Case] =
    &[case("privileged_programs_heed_no_environment", privileged_programs_heed_no_environment)];
