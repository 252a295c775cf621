//! Limits of the host's, and mappings of the program's own beside the heap's.

use std::alloc::{Layout, alloc, dealloc};
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use tenzor_hostile::sys::{self, Limit, Mapping, Mark, PAGE};
use tenzor_hostile::{cannot, ensure, wrong};

use crate::block::Block;
use crate::heap;
use crate::traffic::{self, Amount, Crew, Numbers, Refusals, Traffic};

const MIB: usize = 1 << 20;

fn which(word: &str) -> Limit {
    match word {
        "as" => Limit::Addresses,
        "data" => Limit::Data,
        other => wrong!("no limit {other}"),
    }
}

fn set(which: Limit, bytes: Option<u64>) {
    if let Err(error) = sys::limit(0, which, bytes) {
        wrong!("{which:?} cannot be set to {bytes:?}: {error}");
    }
}

fn block(size: usize, stamp: u64) -> Block {
    Block::new(size, 64, stamp).unwrap_or_else(|| wrong!("{size} bytes were refused"))
}

/// A limit around what is used, above it, below it, at it; lifted again each time.
pub fn limited(word: &str, rounds: usize) {
    let (mut traffic, crew) = (Traffic::new(4, Amount::MUCH), Crew::new(2));
    let mut numbers = Numbers::new(rounds as u64);
    traffic::round(&mut traffic, &crew, 0, Refusals::None);
    let mut done = 1;
    for number in 0..rounds {
        let used = which(word).used();
        let room = numbers.size(PAGE, 512 * MIB) as u64;
        let bytes = match number % 4 {
            0 => used + room,
            1 => used.saturating_sub(room),
            2 => used,
            _ => room,
        };
        // Sometimes with memory warm, sometimes with none.
        if numbers.below(2) == 0 {
            heap::trim();
        }
        set(which(word), Some(bytes));
        traffic::round(&mut traffic, &crew, done, Refusals::Fine);
        set(which(word), None);
        if number % 3 == 2 {
            traffic::round(&mut traffic, &crew, done + 1, Refusals::None);
        }
        done += 2;
    }
    println!("refused={}", traffic.refused);
    traffic::finish(traffic, crew, done);
}

/// Threads that take and free large blocks, of which all together fit below a limit, while another has what is free given back all the
/// time: none is refused.
pub fn on_the_way(word: &str, rounds: usize) {
    const THREADS: u64 = 3;
    let (begin, done) = (Barrier::new(THREADS as usize + 1), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (begin, done) = (&begin, &done);
            scope.spawn(move || {
                drop(block(32 * MIB, number));
                begin.wait();
                begin.wait();
                (0..rounds).for_each(|_| block(32 * MIB, number).check());
                done.fetch_add(1, SeqCst);
            });
        }
        begin.wait();
        heap::trim();
        set(which(word), Some(which(word).used() + 5 * 32 * MIB as u64));
        begin.wait();
        while done.load(SeqCst) < THREADS {
            heap::trim();
        }
        set(which(word), None);
    });
    heap::consistent();
}

/// A program limits itself, and then a buffer grows.
pub fn hole(word: &str) {
    let (mut first, second) = (block(64 * MIB, 1), block(64 * MIB, 2));
    set(which(word), Some(if word == "data" { 100 << 20 } else { 8 << 30 }));
    let grown = first.resize(128 * MIB);
    let more: Vec<Option<Block>> = (0..8).map(|number| Block::new(16 * MIB, 64, number)).collect();
    first.check();
    second.check();
    more.iter().flatten().for_each(Block::check);
    drop(more);
    set(which(word), None);
    ensure!(grown || first.resize(128 * MIB), "refused with the limit lifted");
    drop((first, second));
    traffic::finish(Traffic::new(5, Amount::MUCH), Crew::new(0), 0);
}

/// What a byte of the strangers' file is.
fn pattern(page: usize) -> u8 {
    (page % 251) as u8 + 1
}

const STRANGERS: usize = 3000;

/// While the heap is refused memory and moves, a thread maps small pages of a file all the time, wherever the kernel puts them: into
/// holes, if there are any. Neither the pages nor the file ever change.
pub fn strangers(word: &str, path: &str, rounds: usize) {
    let contents: Vec<u8> = (0..STRANGERS).flat_map(|page| [pattern(page); PAGE]).collect();
    if let Err(error) = std::fs::write(path, &contents) {
        cannot!("no file to map: {error}");
    }
    let file: OwnedFd = match File::options().read(true).write(true).open(path) {
        Ok(file) => file.into(),
        Err(error) => cannot!("no file to map: {error}"),
    };
    drop(contents);
    let (mut traffic, crew) = (Traffic::new(6, Amount::MUCH), Crew::new(1));
    let mut numbers = Numbers::new(12);
    traffic::round(&mut traffic, &crew, 0, Refusals::None);
    let over = AtomicBool::new(false);
    let mut kept: Vec<(usize, Mapping)> = Vec::with_capacity(STRANGERS);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut numbers = Numbers::new(11);
            while !over.load(SeqCst) {
                let page = numbers.below(STRANGERS);
                if kept.len() == STRANGERS {
                    let (page, mapping) = kept.swap_remove(page);
                    ensure!(mapping.byte(0) == pattern(page), "a page of the file's changed in memory");
                }
                match Mapping::shared(&file, (page * PAGE) as i64, PAGE) {
                    Ok(mapping) => kept.push((page, mapping)),
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        for number in 0..rounds {
            // Enough for a few pages of the file's, not for the heap.
            let room = numbers.size(PAGE, 16 * MIB) as u64;
            set(which(word), Some(which(word).used() + room));
            traffic::round(&mut traffic, &crew, 2 * number + 1, Refusals::Fine);
            set(which(word), None);
            traffic::round(&mut traffic, &crew, 2 * number + 2, Refusals::None);
        }
        over.store(true, SeqCst);
    });
    for (page, mapping) in &kept {
        for offset in 0..PAGE {
            ensure!(mapping.byte(offset) == pattern(*page), "a page of the file's changed in memory");
        }
    }
    drop(kept);
    let mut contents = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut contents));
    ensure!(read.is_ok_and(|length| length == STRANGERS * PAGE), "the file cannot be read whole");
    for (page, bytes) in contents.chunks_exact(PAGE).enumerate() {
        ensure!(bytes.iter().all(|&byte| byte == pattern(page)), "page {page} of the file was overwritten");
    }
    drop(contents);
    println!("refused={}", traffic.refused);
    traffic::finish(traffic, crew, 2 * rounds + 1);
}

/// Pages of live and of freed buffers are locked, not to be dumped, not to be forked: then memory moves.
pub fn marked(word: &str, rounds: usize) {
    let mark = match word {
        "locked" => Mark::Locked,
        "not-dumped" => Mark::NotDumped,
        "not-forked" => Mark::NotForked,
        "merged" => Mark::Merged,
        other => wrong!("no mark {other}"),
    };
    let (mut traffic, crew) = (Traffic::new(7, Amount::MUCH), Crew::new(1));
    let mut numbers = Numbers::new(13);
    let mut marked = 0;
    for number in 0..rounds {
        for size in [300 << 10, 3 * MIB, 33 * MIB, 70 * MIB] {
            let freed = block(size, numbers.next());
            let page = (freed.at() as usize + numbers.below(size - PAGE)) & !(PAGE - 1);
            marked += usize::from(page > freed.at() as usize && sys::mark(page as *mut u8, mark));
        }
        for held in traffic.held() {
            let page = (held.at() as usize + numbers.below(held.size())) & !(PAGE - 1);
            if page > held.at() as usize && page + PAGE <= held.at() as usize + held.size() {
                marked += usize::from(sys::mark(page as *mut u8, mark));
            }
        }
        traffic::round(&mut traffic, &crew, number, Refusals::None);
    }
    println!("marked={marked}");
    if marked == 0 {
        cannot!("no page could be marked {mark:?}");
    }
    traffic::finish(traffic, crew, rounds);
}

/// As nobody, with a limit on locked memory: pages inside of blocks are locked until no more can be, and the blocks grow and shrink.
pub fn locked_pages(limit: u64) {
    if sys::is_root() {
        let became = sys::limit_for_good(Limit::Locked, limit).and_then(|()| sys::become_user(65534));
        if let Err(error) = became {
            cannot!("cannot become nobody with a limit of locked memory: {error}");
        }
    } else if let Err(error) = sys::limit_for_good(Limit::Locked, limit) {
        cannot!("no limit of locked memory: {error}");
    }
    let mut numbers = Numbers::new(14);
    let mut locked = 0;
    for round in 0..12 {
        let mut blocks: Vec<Block> =
            (0..6).map(|number| block(numbers.size(200 << 10, 64 * MIB), round * 10 + number)).collect();
        for block in &blocks {
            for _ in 0..8 {
                let page = (block.at() as usize + numbers.below(block.size())) & !(PAGE - 1);
                locked += usize::from(page > block.at() as usize && sys::mark(page as *mut u8, Mark::Locked));
            }
        }
        for block in &mut blocks {
            let size = numbers.size(200 << 10, 128 * MIB);
            ensure!(block.resize(size), "a realloc to {size} bytes was refused");
        }
        blocks.iter().for_each(Block::check);
    }
    println!("locked={locked}");
    if locked == 0 {
        cannot!("no page could be locked");
    }
    traffic::finish(Traffic::new(8, Amount::MUCH), Crew::new(0), 0);
}

/// Memory that is asked for and hardly touched.
fn untouched(bytes: usize) -> Option<(*mut u8, Layout)> {
    let layout = Layout::from_size_align(bytes, 64).ok()?;
    // SAFETY: the layout is not empty.
    let at = black_box(unsafe { alloc(layout) });
    if at.is_null() {
        return None;
    }
    // SAFETY: the block is ours.
    unsafe { at.write(1) };
    Some((at, layout))
}

/// Under a limit of addresses set before the start: how much of it there is to be had, by requests, by the host's own mappings, or by
/// both in turns.
pub fn tenths(how: &str, limit: u64) {
    let mut requested = Vec::with_capacity(1 << 16);
    let mut mapped = Vec::with_capacity(1 << 16);
    requested.extend(untouched(MIB));
    let mut bytes = 0;
    let mut piece = 16 * MIB;
    let mut turn = 0;
    while piece >= 256 << 10 {
        turn += 1;
        let ours = how == "requests" || (how == "mixed" && turn % 2 == 0);
        let got = if ours {
            untouched(piece).map(|block| requested.push(block)).is_some()
        } else {
            let both = libc::PROT_READ | libc::PROT_WRITE;
            Mapping::private(piece, both).map(|mapping| mapped.push(mapping)).is_ok()
        };
        if got {
            bytes += piece as u64;
        } else if how != "mixed" || turn % 2 == 0 {
            piece /= 2;
        }
    }
    let hundredths = bytes * 100 / limit;
    for (at, layout) in requested {
        // SAFETY: each block is freed once, with its layout.
        unsafe { dealloc(at, layout) };
    }
    drop(mapped);
    println!("usable={hundredths}");
    ensure!(hundredths >= 90, "{hundredths} hundredths of the limit were usable");
    let mut small = Traffic::new(9, Amount::SOME);
    small.round(Refusals::None);
    small.free();
    heap::consistent();
}

/// A limit that is set while running: how much of it the host's own mappings get.
pub fn later(limit: u64) {
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let peak: Vec<Block> = (0..50).map(|number| block(4 * MIB, number)).collect();
    drop(peak);
    set(Limit::Addresses, Some(limit));
    let mut mapped = Vec::with_capacity(1 << 12);
    while let Ok(mapping) = Mapping::private(8 * MIB, both) {
        mapped.push(mapping);
        ensure!(mapped.len() < 1 << 12, "the limit does not hold");
    }
    println!("mapped={}", mapped.len() * 8 * MIB);
    drop(mapped);
    set(Limit::Addresses, None);
    traffic::finish(Traffic::new(10, Amount::MUCH), Crew::new(0), 0);
}

/// A step that repeats, over buffers that stay warm.
fn step() -> u64 {
    let before = sys::faults();
    let buffers: Vec<Block> = (0..16).map(|number| block(8 * MIB, number)).collect();
    buffers.iter().for_each(Block::check);
    drop(buffers);
    sys::faults() - before
}

/// Requests that cannot be meant: refused where malloc would be (`refused`), granted where it would be (`granted`), and nothing that is
/// warm is emptied for them.
pub fn too_much(wanted: &str) {
    for _ in 0..20 {
        step();
    }
    let steady = (0..5).map(|_| step()).max().unwrap_or(0);
    let all = sys::memory_and_swap() as usize;
    let beyond = all + (1 << 30);
    // There are addresses for as much as there may be.
    if let Ok(layout) = std::alloc::Layout::from_size_align(all / 8 * 7, 8) {
        // SAFETY: the layout is not empty; the memory is not touched, and freed once.
        unsafe {
            let at = black_box(alloc(layout));
            if !at.is_null() {
                dealloc(at, layout);
            }
        }
    }
    for size in [beyond, 2 << 40, 200 << 40, isize::MAX as usize - PAGE] {
        let layout =
            std::alloc::Layout::from_size_align(size, 8).unwrap_or_else(|_| wrong!("no layout of {size} bytes"));
        // SAFETY: the layout is not empty; the memory is not touched.
        let at = black_box(unsafe { alloc(layout) });
        let granted = !at.is_null();
        println!("{size} bytes: {}", if granted { "granted" } else { "refused" });
        // What no processor can address is refused always.
        let wanted = if size <= 2 << 40 { wanted } else { "refused" };
        ensure!(granted == (wanted == "granted"), "{size} bytes: not {wanted} as with malloc");
        if granted {
            // SAFETY: ours, freed once.
            unsafe { dealloc(at, layout) };
        }
        let faults = step();
        println!("faults={faults}");
        if cfg!(feature = "tenzor") {
            // What is noted of so much memory takes some itself.
            let own = if granted { 64 } else { 8 };
            ensure!(faults <= steady + own, "a step took {faults} faults after {size} bytes, {steady} before");
        }
    }
    heap::consistent();
}

/// Under strict accounting: a request beyond the commit limit is refused, and what was freed and trimmed is not committed.
pub fn commit_limit() {
    let meminfo = |name| sys::field("/proc/meminfo", name).unwrap_or(0);
    let committed = || meminfo("Committed_AS");
    let beyond = meminfo("CommitLimit") as usize + (64 << 20);
    ensure!(Block::new(beyond, 8, 1).is_none(), "{beyond} bytes were granted beyond the commit limit");
    let before = committed();
    let blocks: Vec<Block> = (0..256).map(|number| block(4 * MIB, number)).collect();
    drop(blocks);
    heap::trim();
    let after = committed();
    println!("committed={}", after.saturating_sub(before));
    ensure!(
        after < before + (300 << 20),
        "after a GiB was freed and trimmed, {} MiB stay committed",
        (after - before) >> 20
    );
    traffic::finish(Traffic::new(15, Amount::MUCH), Crew::new(2), 0);
}

/// A privileged program locks all that it has and will have, at its start or after 300 MiB were used.
pub fn lock_all(when: &str) {
    if when == "late" {
        let used: Vec<Block> = (0..600).map(|number| block(500 << 10, number)).collect();
        used.iter().for_each(Block::soil);
        drop(used);
        heap::trim();
    }
    if let Err(error) = sys::lock_everything() {
        cannot!("mlockall: {error}");
    }
    let show = |name: &str| {
        // Without the pages of files: how large the program's own code is, is another matter.
        println!("{name}-resident={}", sys::status("RssAnon"));
        println!("{name}-locked={}", sys::status("VmLck"));
    };
    // What is mapped is touched by that.
    heap::trim();
    show("start");
    let mut blocks: Vec<Block> = (0..100).map(|number| block(MIB, number)).collect();
    blocks.extend((0..2000).map(|number| block(5000, number)));
    show("full");
    drop(blocks);
    heap::trim();
    show("trimmed");
    let mut some = Traffic::new(16, Amount::SOME);
    some.round(Refusals::None);
    some.free();
    heap::consistent();
}

/// A program that uses less than half of its limit of locked memory locks everything. Where the limit cannot be as high as `limit`, it is
/// as high as it can be.
pub fn lock_half(limit: u64) {
    if !sys::is_root() {
        cannot!("only root can become nobody");
    }
    let limit =
        if sys::limit_for_good(Limit::Locked, limit).is_ok() { limit } else { sys::most(Limit::Locked).min(limit) };
    if let Err(error) = sys::limit_for_good(Limit::Locked, limit).and_then(|()| sys::become_user(65534)) {
        cannot!("cannot become nobody: {error}");
    }
    // Some 3 MiB are the program's own: its code and the C library's.
    let Some(bytes) = (limit as usize * 45 / 100).checked_sub(3 * MIB) else {
        cannot!("{limit} bytes are too few for any program")
    };
    let piece = 100 << 10;
    let half: Vec<Block> = (0..bytes / 2 / piece).map(|number| block(piece, number as u64)).collect();
    if let Err(error) = sys::lock_everything() {
        wrong!("mlockall with less than half of {} MiB used: {error}", limit >> 20);
    }
    let rest: Vec<Option<Block>> = (0..bytes / 2 / piece).map(|number| Block::new(piece, 64, number as u64)).collect();
    ensure!(rest.iter().all(Option::is_some), "memory was refused within half of the limit, {} MiB", limit >> 20);
    drop((half, rest));
    println!("limit={limit}");
    heap::consistent();
}

/// Many buffers of which every other one is freed and given back, and memory that moves: whatever takes mappings.
fn scatter(rounds: usize) {
    let mut numbers = Numbers::new(17);
    for round in 0..rounds {
        let mut blocks: Vec<Option<Block>> =
            (0..80).map(|number| Some(block(32 * MIB + numbers.below(3) * 2 * MIB, round as u64 + number))).collect();
        for block in blocks.iter_mut().step_by(2) {
            *block = None;
        }
        heap::trim();
        let mut large = block(20 * MIB, 5);
        ensure!(large.resize(300 * MIB), "300 MiB were refused");
        for block in blocks.iter_mut().skip(1).step_by(4).flatten() {
            ensure!(block.resize(48 * MIB), "48 MiB were refused");
        }
    }
}

/// With the number of mappings lowered: the host's own mmap is served while the heap moves and uncommits.
pub fn map_count() {
    let mut buffer = [0; 64];
    let most: usize = sys::read("/proc/sys/vm/max_map_count", &mut buffer)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65530);
    let mut kept = Vec::with_capacity(most);
    let wanted = most * 3 / 4 - 200;
    for number in 0..wanted {
        if number % (wanted / 8) == 0 {
            scatter(1);
        }
        let protection = if number % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE };
        match Mapping::private(PAGE, protection) {
            Ok(mapping) => kept.push(mapping),
            Err(error) => {
                wrong!("the host's mapping {number} of {most} was refused: {error}; {} in all", sys::mappings())
            }
        }
    }
    drop(kept);
    traffic::finish(Traffic::new(18, Amount::MUCH), Crew::new(1), 0);
}

/// The heap's own mappings stay below a quarter of what the system allows.
pub fn map_share() {
    let before = sys::mappings();
    scatter(2);
    let mut numbers = Numbers::new(19);
    // Pieces of a unit and more, every other one free.
    let mut blocks: Vec<Option<Block>> =
        (0..3000).map(|number| Some(block(numbers.size(64 << 10, 4 * MIB), number))).collect();
    blocks.iter_mut().step_by(2).for_each(|block| *block = None);
    heap::trim();
    let mappings = sys::mappings() - before.min(sys::mappings());
    println!("mappings={mappings}");
    ensure!(mappings <= 65530 / 4, "{mappings} mappings");
    drop(blocks);
    heap::consistent();
}

/// `TENZOR_LIMIT=1K` is in the environment: heeded by a program of its caller's own, ignored by one that runs as another user.
pub fn small_limit(wanted: &str) {
    if wanted == "ignored" && !sys::is_set_uid() {
        cannot!("the file system does not heed set-uid programs");
    }
    let granted = Block::new(4 * MIB, 8, 1).is_some();
    ensure!(granted == (wanted == "ignored"), "a caller's limit of 1 KiB was not {wanted}");
}
