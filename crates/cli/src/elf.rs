//! What a program or a library is, as its file says: for which machine, what it needs, whose memory it uses.
//!
//! Files are read as data and never run. They may be anybody's: what does not fit together is an error, and no table is read that is larger than any
//! program's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, ReadCache, ReadRef};

use crate::allocators::Allocation;

/// The most bytes of one table, and of all constants that are looked through.
const MOST_BYTES: u64 = 512 << 20;

/// The most entries of a table of sections or segments.
const MOST_ENTRIES: u32 = 1 << 16;

/// For which processors and systems code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    is_64_bit: bool,
    is_big_endian: bool,
    number: u16,
}

impl Machine {
    /// In words.
    pub(crate) fn name(self) -> String {
        let bits = if self.is_64_bit { 64 } else { 32 };
        let name = match elf::Machine(self.number) {
            elf::EM_X86_64 => "x86-64",
            elf::EM_386 => "x86",
            elf::EM_AARCH64 => "AArch64",
            elf::EM_ARM => "ARM",
            elf::EM_RISCV => "RISC-V",
            elf::EM_PPC64 => "POWER",
            elf::EM_S390 => "s390",
            _ => return format!("a {bits}-bit machine of number {}", self.number),
        };
        format!("{bits}-bit {name}")
    }
}

/// What a file says.
#[derive(Debug)]
pub(crate) struct Elf {
    pub(crate) machine: Machine,
    /// Who loads it, if it is a program that is not static.
    pub(crate) interpreter: Option<String>,
    pub(crate) soname: Option<String>,
    pub(crate) needed: Vec<String>,
    /// Where what it needs is looked for: `DT_RPATH`, `DT_RUNPATH`.
    pub(crate) rpath: Option<String>,
    pub(crate) runpath: Option<String>,
    /// It prefers its own functions to others' of the same name.
    pub(crate) is_symbolic: bool,
    /// Whether there are tables of symbols at all.
    pub(crate) has_symbols: bool,
    pub(crate) allocation: Allocation,
}

/// How files begin that are none of these: what they are, for the one who gave them.
pub(crate) const MAGIC: [u8; 4] = *b"\x7fELF";

impl Elf {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        // A pipe would be waited for.
        ensure!(std::fs::metadata(path)?.is_file(), "is no regular file");
        let mut file = File::open(path)?;
        let mut start = [0; 20];
        let is_whole = file.read_exact(&mut start).is_ok();
        ensure!(start.starts_with(&MAGIC), "is no program and no library: it does not begin as an ELF file");
        ensure!(is_whole, "is an ELF file that was cut off");
        let read = match start[4] {
            1 => parse::<FileHeader32<Endianness>>,
            2 => parse::<FileHeader64<Endianness>>,
            class => bail!("is an ELF file of an unknown class, {class}"),
        };
        read(file).context("is a damaged ELF file")
    }
}

fn parse<Header: FileHeader<Endian = Endianness>>(file: File) -> Result<Elf> {
    let mut constants = file.try_clone()?;
    let cache = ReadCache::new(file);
    let data = &cache;
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let machine = Machine {
        is_64_bit: header.is_type_64(),
        is_big_endian: header.is_big_endian(),
        number: header.e_machine(endian).0,
    };
    let counts = [header.phnum(endian, data)?, header.shnum(endian, data)?];
    ensure!(counts.iter().all(|&count| count <= MOST_ENTRIES), "its tables have too many entries");
    let mut this = Elf {
        machine,
        interpreter: None,
        soname: None,
        needed: Vec::new(),
        rpath: None,
        runpath: None,
        is_symbolic: false,
        has_symbols: false,
        allocation: Allocation::default(),
    };
    this.read_segments::<Header>(header.program_headers(endian, data)?, endian, data)?;
    // The system and the loader need no sections; what wants to hide can do without, or have them wrong.
    this.read_sections::<Header>(header.section_headers(endian, data)?, endian, data, &mut constants)?;
    Ok(this)
}

impl Elf {
    fn read_segments<'data, Header: FileHeader<Endian = Endianness>>(
        &mut self,
        segments: &'data [Header::ProgramHeader],
        endian: Endianness,
        data: &'data ReadCache<File>,
    ) -> Result<()> {
        let fits = |segment: &&Header::ProgramHeader| -> Result<()> {
            ensure!(segment.p_filesz(endian).into() <= MOST_BYTES, "a table is too large");
            Ok(())
        };
        if let Some(segment) = segments.iter().find(|segment| segment.p_type(endian) == elf::PT_INTERP) {
            fits(&segment)?;
            self.interpreter = segment.interpreter(endian, data)?.map(text);
        }
        let Some(segment) = segments.iter().find(|segment| segment.p_type(endian) == elf::PT_DYNAMIC) else {
            return Ok(());
        };
        fits(&segment)?;
        let entries = segment.dynamic(endian, data)?.unwrap_or_default();
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (entry.tag(endian), entry.val(endian)))
            .take_while(|(tag, _)| *tag != elf::DT_NULL)
            .collect();
        let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let strings = match value(elf::DT_STRTAB).zip(value(elf::DT_STRSZ)) {
            Some((address, bytes)) => {
                ensure!(bytes <= MOST_BYTES, "a table is too large");
                let offset =
                    segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD).find_map(|load| {
                        let within = address.checked_sub(load.p_vaddr(endian).into())?;
                        let is_here = within < load.p_filesz(endian).into();
                        is_here.then(|| load.p_offset(endian).into().checked_add(within))?
                    });
                let offset = offset.context("its strings lie in no segment")?;
                data.read_bytes_at(offset, bytes).ok().context("its strings lie outside of it")?
            }
            None => &[],
        };
        for &(tag, value) in &entries {
            let string = || string(strings, value).map(text);
            match tag {
                elf::DT_NEEDED => {
                    let name = string().context("a library that it needs has no name")?;
                    self.allocation.note_needed(&name);
                    self.needed.push(name);
                }
                elf::DT_SONAME => self.soname = string(),
                elf::DT_RPATH => self.rpath = string(),
                elf::DT_RUNPATH => self.runpath = string(),
                elf::DT_SYMBOLIC => self.is_symbolic = true,
                elf::DT_FLAGS => self.is_symbolic |= value & elf::DF_SYMBOLIC.0 != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_sections<'data, Header: FileHeader<Endian = Endianness>>(
        &mut self,
        sections: &'data [Header::SectionHeader],
        endian: Endianness,
        data: &'data ReadCache<File>,
        constants: &mut File,
    ) -> Result<()> {
        let mut is_stripped = true;
        for (kind, is_dynamic) in [(elf::SHT_DYNSYM, true), (elf::SHT_SYMTAB, false)] {
            let Some(section) = sections.iter().find(|section| section.sh_type(endian) == kind) else { continue };
            let names = sections.get(section.sh_link(endian) as usize).context("its symbols have no names")?;
            let bytes = [section, names].map(|section| section.sh_size(endian).into());
            ensure!(bytes.iter().all(|&bytes| bytes <= MOST_BYTES), "a table is too large");
            let symbols = section.data_as_array::<Header::Sym, _>(endian, data)?;
            let names = names.data(endian, data)?;
            self.has_symbols = true;
            is_stripped &= is_dynamic;
            for symbol in symbols {
                let name = string(names, u64::from(symbol.st_name(endian))).unwrap_or_default();
                let Ok(name) = std::str::from_utf8(name) else { continue };
                let is_defined = symbol.st_shndx(endian) != elf::SHN_UNDEF;
                match (is_dynamic, is_defined) {
                    (true, _) => self.allocation.note_dynamic(name, is_defined),
                    (false, true) => self.allocation.note_defined(name),
                    (false, false) => {}
                }
            }
        }
        if is_stripped {
            let constant = |section: &&Header::SectionHeader| {
                let flags: u64 = section.sh_flags(endian).0;
                let others = elf::SHF_EXECINSTR.0 | elf::SHF_WRITE.0;
                section.sh_type(endian) == elf::SHT_PROGBITS && flags & elf::SHF_ALLOC.0 != 0 && flags & others == 0
            };
            let mut left = MOST_BYTES;
            for section in sections.iter().filter(constant) {
                let bytes = section.sh_size(endian).into().min(left);
                left -= bytes;
                self.read_constants(constants, section.sh_offset(endian).into(), bytes)?;
            }
        }
        Ok(())
    }

    /// Looks through a part of the file, a piece at a time.
    fn read_constants(&mut self, file: &mut File, offset: u64, bytes: u64) -> Result<()> {
        const PIECE: usize = 1 << 20;
        /// Longer than any message that is looked for.
        const OVERLAP: usize = 64;
        file.seek(SeekFrom::Start(offset))?;
        let mut rest = file.take(bytes);
        let mut piece = Vec::with_capacity(PIECE + OVERLAP);
        loop {
            let read = Read::by_ref(&mut rest).take(PIECE as u64).read_to_end(&mut piece)?;
            self.allocation.note_constants(&piece);
            if read < PIECE {
                return Ok(());
            }
            piece.drain(..piece.len().saturating_sub(OVERLAP));
        }
    }
}

/// A string of a table, without the zero at its end.
fn string(strings: &[u8], offset: u64) -> Option<&[u8]> {
    let rest = strings.get(usize::try_from(offset).ok()?..)?;
    rest.split(|&byte| byte == 0).next()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A program that is on every system, and small.
    fn program() -> Vec<u8> {
        fs::read("/bin/true").unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Elf> {
        let path = std::env::temp_dir().join(format!("tenzor-elf-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        let read = Elf::read(&path);
        fs::remove_file(path).unwrap();
        read
    }

    #[test]
    fn what_is_there_is_found() {
        let elf = read("whole", &program()).unwrap();
        assert!(elf.interpreter.is_some_and(|name| name.contains("ld-")));
        assert!(elf.needed.iter().any(|name| name.starts_with("libc.")));
        assert!(elf.has_symbols && elf.allocation.imports && !elf.allocation.exports_malloc);
        assert!(elf.allocation.own.is_empty());
    }

    #[test]
    fn what_was_cut_off_is_an_error_or_read_as_far_as_it_goes() {
        let whole = program();
        for length in (0..200).chain((200..whole.len()).step_by(173)) {
            if let Err(error) = read("cut", &whole[..length]) {
                let said = format!("{error:#}");
                assert!(said.starts_with("is a") || said.starts_with("is no"), "{length}: {said}");
            }
        }
        let said = read("no", b"#!/bin/sh").unwrap_err().to_string();
        assert!(said.contains("does not begin as an ELF file"), "{said}");
        assert!(Elf::read(Path::new("/")).unwrap_err().to_string().contains("no regular file"));
    }

    /// Nothing that a file says makes the reader panic, or take memory without end.
    #[test]
    fn whatever_a_file_says_is_survived() {
        let whole = program();
        let sections = usize::from_le_bytes(whole[40..48].try_into().unwrap());
        let dynamic = whole.len() / 2;
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        for _ in 0..3000 {
            let mut bytes = whole.clone();
            for _ in 0..=next(4) {
                let at = match next(4) {
                    0 => next(64),
                    1 => 64 + next(56 * 13),
                    2 => sections + next(whole.len() - sections),
                    _ => dynamic + next(whole.len() - dynamic),
                };
                bytes[at] = match next(3) {
                    0 => 0xff,
                    1 => 0,
                    _ => next(256) as u8,
                };
            }
            let _ = read("changed", &bytes);
        }
    }
}
